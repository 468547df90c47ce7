"""The release record: typed JSON from which everything in a depot is made, and which is signed.

Paths are relative to the depot's root, with `/`; they never leave it. Times are in UTC, whole seconds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from centralita.ground.errors import CentralitaError

SHA256 = r"^[0-9a-f]{64}$"
SHA512 = r"^[0-9a-f]{128}$"
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]*")
_SEMVER = re.compile(r"(\d+)\.(\d+)\.(\d+)(?:-([0-9A-Za-z.-]+))?(?:\+([0-9A-Za-z.-]+))?")


def _inside(path: str) -> str:
    """A path that stays in the depot whatever reads it: no root, no `..`, nothing that needs quoting in a URL."""
    if not all(_PART.fullmatch(part) for part in path.split("/")):
        raise ValueError(f"{path!r} is not a path inside a depot")
    return path


def _utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("a time without its zone")
    return moment.astimezone(UTC).replace(microsecond=0)


def _semver(version: str) -> str:
    if not _SEMVER.fullmatch(version):
        raise ValueError(f"{version!r} is not a version (semver.org)")
    return version


DepotPath = Annotated[str, AfterValidator(_inside)]
Moment = Annotated[datetime, AfterValidator(_utc)]
Version = Annotated[str, AfterValidator(_semver)]
Sha256 = Annotated[str, Field(pattern=SHA256)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]


class Frozen(BaseModel):
    """What every record here is: immutable, and without fields that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ReleaseFile(Frozen):
    """One format's file.

    ``virtual_size_bytes`` is the disk's size as a machine sees it, None for what is no disk.
    ``incus_fingerprint`` is the SHA-256 over the release's Incus metadata followed by this file: what Incus calls
    the combined hash, and an image's name.
    """

    format: str
    path: DepotPath
    size_bytes: int = Field(ge=0)
    sha256: Sha256
    sha512: str = Field(pattern=SHA512)
    media_type: str
    description: str = ""
    virtual_size_bytes: int | None = None
    incus_fingerprint: Sha256 | None = None

    @property
    def name(self) -> str:
        """The file's own name."""
        return PurePosixPath(self.path).name


class Document(Frozen):
    """What comes with a release: ``kind`` is spdx, cyclonedx, provenance, changelog, cve, results …"""

    kind: str
    path: DepotPath
    size_bytes: int = Field(ge=0)
    sha256: Sha256
    media_type: str


class ReleasePackage(Frozen):
    """One installed Debian package. ``licences`` are SPDX expressions, empty where they are not known.

    ``source`` is its source package, with the version in brackets where that differs; empty where it is not known.
    ``suite`` is the suite that it is from, empty where that is the release's.
    """

    name: str
    version: str
    arch: str
    sha256: Sha256
    source: str = ""
    licences: tuple[str, ...] = ()
    suite: str = ""


class TargetResult(Frozen):
    """What the tests said of one target that the appliance declares; ``missing`` where none ran."""

    target: str
    outcome: Literal["passed", "failed", "skipped", "missing"]
    passed: int = 0
    failed: int = 0
    skipped: int = 0


class Source(Frozen):
    """The checkout that built the image; ``revision`` is empty outside git, ``changed`` tells of changes beside it."""

    revision: str = ""
    changed: bool = False


class Release(Frozen):
    """A released golden image. ``version`` has the build (``1.2.3+0a1b``); ``golden_digest`` is the raw disk's SHA-256.

    ``created`` is when it was released (SOURCE_DATE_EPOCH where that is set), ``source_date`` that of its packages.
    """

    schema_version: Literal[1] = 1
    appliance: Name
    description: str
    version: Version
    golden_digest: Sha256
    created: Moment
    source_date: Moment
    untested: bool
    tests_digest: Sha256 | None
    targets: tuple[TargetResult, ...]
    files: tuple[ReleaseFile, ...]
    documents: tuple[Document, ...] = ()
    packages: tuple[ReleasePackage, ...]
    # What is in the image though dpkg there does not know of it: its boot loaders.
    embedded: tuple[ReleasePackage, ...] = ()
    languages: tuple[str, ...]
    memory_mib: int
    vcpus: int
    disk_size_bytes: int
    root_uuid: str
    root_partition: int
    kernel_version: str
    kernel_cmdline: tuple[str, ...]
    arch: str = "amd64"
    suite: str = ""
    unlocked: bool
    lock_digest: Sha256
    previous: Version | None = None
    changelog: str = ""
    source: Source = Source()
    builder: dict[str, str] = {}

    @property
    def folder(self) -> str:
        """The release's folder in the depot."""
        return release_folder(self.appliance, self.version)

    @property
    def label(self) -> str:
        """`pbx-small 1.2.3+0a1b2c…`"""
        return f"{self.appliance} {self.version}"

    def file(self, form: str) -> ReleaseFile | None:
        """The file of one format, None where the release has none."""
        return next((file for file in self.files if file.format == form), None)

    def document(self, kind: str) -> Document | None:
        """The document of one kind, None where the release has none."""
        return next((document for document in self.documents if document.kind == kind), None)

    def as_bytes(self) -> bytes:
        """The record as it is signed: the same bytes for the same release."""
        return json_bytes(self)


def json_bytes(model: BaseModel) -> bytes:
    """A record as JSON: fields in their order, one space of indent, a line end."""
    return (json.dumps(model.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n").encode()


def path_version(version: str) -> str:
    """A version as a part of a path or a tag: `+` means a space to S3 and is no letter of an OCI tag."""
    return version.replace("+", "_")


def release_folder(appliance: str, version: str) -> str:
    """`releases/NAME/1.2.3_0a1b2c…`"""
    return f"releases/{appliance}/{path_version(version)}"


def version_key(version: str) -> tuple[tuple[int, int, int], int, tuple[tuple[int, int, str], ...]]:
    """Sorts versions as semver.org, 11 has it; the build does not count.

    Raises CentralitaError for what is no version.
    """
    match = _SEMVER.fullmatch(version)
    if match is None:
        raise CentralitaError(f"{version!r} is not a version", hint="like 1.2.3, 1.2.3-rc.1, 1.2.3+build")
    core = (int(match[1]), int(match[2]), int(match[3]))
    if match[4] is None:
        return core, 1, ()
    before = tuple((0, int(p), "") if p.isdigit() else (1, 0, p) for p in match[4].split("."))
    return core, 0, before


def newest(releases: Sequence[Release], appliance: str) -> Release | None:
    """The release of an appliance with the highest version; of builds of one version the last created."""
    found = [release for release in releases if release.appliance == appliance]
    return max(found, key=lambda release: (version_key(release.version), release.created), default=None)
