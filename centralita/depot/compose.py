"""Makes a release of a golden image: its files with their digests, its documents, and its record."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import centralita
from centralita.depot.documents import Paper, embedded_packages, make_papers, release_packages
from centralita.depot.index import LIMIT, Entry, now
from centralita.depot.place import Place, Upload
from centralita.depot.reader import BLOCK
from centralita.depot.record import (
    Document,
    Release,
    ReleaseFile,
    Source,
    TargetResult,
    release_folder,
)
from centralita.depot.results import Proof
from centralita.ground import cache, paths
from centralita.ground.errors import CentralitaError
from centralita.image.build import Golden
from centralita.image.record import GoldenRecord

GOLDEN = "golden"
MEDIA_TYPES = {"qcow2": "application/x-qemu-disk", "raw.zst": "application/zstd"}


@dataclass(frozen=True)
class Digests:
    """What a file's bytes are."""

    size_bytes: int
    sha256: str
    sha512: str


@dataclass(frozen=True)
class Composed:
    """A release and all files that belong to it, its record excepted."""

    release: Release
    uploads: tuple[Upload, ...]


def declared_now() -> datetime:
    """SOURCE_DATE_EPOCH where it is set (reproducible-builds.org), else the last second. Raises CentralitaError."""
    said = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not said:
        # Not this second: GnuPG takes a faked time that is the real one for none, and its clock then goes on.
        return now() - timedelta(seconds=1)
    try:
        return datetime.fromtimestamp(int(said), UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise CentralitaError(f"SOURCE_DATE_EPOCH is {said!r}", hint="seconds since 1970, a whole number") from error


def digests_of(path: Path) -> Digests:
    """Read a file once for both of its digests."""
    one, two, size = hashlib.sha256(), hashlib.sha512(), 0
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            one.update(block)
            two.update(block)
            size += len(block)
    return Digests(size, one.hexdigest(), two.hexdigest())


def entry_of(path: str, data: bytes) -> Entry:
    """The entry of bytes at a path in the depot."""
    return Entry(path=path, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def entry_for(item: ReleaseFile | Document | Entry) -> Entry:
    """A file of a record, as no more than a place and its bytes."""
    return Entry(path=item.path, size_bytes=item.size_bytes, sha256=item.sha256)


def written(staging: Path, path: str, data: bytes) -> Upload:
    """Write bytes where they wait to be published at *path*."""
    source = staging / path
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_bytes(data)
    return Upload(entry_of(path, data), source)


def _files(golden: Golden, folder: str) -> list[tuple[ReleaseFile, Path]]:
    """The image's formats. Raises CentralitaError where a file is not the one that its record names."""
    record = golden.record
    made = []
    for form in record.formats:
        source = golden.folder / form.file
        if not source.is_file():
            raise CentralitaError(f"{source} is not there", hint=f"invoke build {record.appliance}")
        found = digests_of(source)
        if found.sha256 != form.sha256:
            raise CentralitaError(
                f"{source} is not the file that was built: its SHA-256 is {found.sha256}, not {form.sha256}",
                hint=f"remove {golden.folder} and build again",
            )
        made.append(
            (
                ReleaseFile(
                    format=form.format,
                    path=f"{folder}/{form.file}",
                    size_bytes=found.size_bytes,
                    sha256=found.sha256,
                    sha512=found.sha512,
                    media_type=MEDIA_TYPES.get(form.format, "application/octet-stream"),
                    virtual_size_bytes=record.disk_size_bytes,
                ),
                source,
            )
        )
    return _fingerprinted(made)


def _fingerprinted(made: list[tuple[ReleaseFile, Path]]) -> list[tuple[ReleaseFile, Path]]:
    """Add Incus's combined hashes, where its metadata is among the files."""
    metadata = next((source for file, source in made if file.format == "incus.tar.xz"), None)
    if metadata is None:
        return made
    found = []
    for file, source in made:
        if file.format in ("root.tar.xz", "qcow2"):
            both = hashlib.sha256(metadata.read_bytes())
            with source.open("rb") as stream:
                while block := stream.read(BLOCK):
                    both.update(block)
            file = file.model_copy(update={"incus_fingerprint": both.hexdigest()})
        found.append((file, source))
    return found


def _golden_record(record: GoldenRecord) -> bytes:
    """The image's own record for whoever clones it, without what differs from day to day or names a private mirror."""
    return (record.model_copy(update={"mirror": None}).model_dump_json(indent=1) + "\n").encode()


def source_revision() -> Source:
    """The checkout's commit, and whether files differ from it; nothing outside git."""
    root = paths.repo_root()

    def git(*words: str) -> str:
        argv = ["git", "-C", str(root), "-c", f"safe.directory={root}", *words]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        return done.stdout if done.returncode == 0 else ""

    try:
        revision = git("rev-parse", "HEAD").strip()
    except FileNotFoundError:
        return Source()
    return Source(revision=revision, changed=bool(revision and git("status", "--porcelain").strip()))


def compose(
    golden: Golden,
    staging: Path,
    *,
    created: datetime,
    proof: Proof | None,
    previous: Release | None,
    previous_golden: GoldenRecord | None = None,
    examine: Callable[[Release], tuple[Paper, ...]] | None = None,
) -> Composed:
    """Make the release; what has to be written for it is in *staging*. Without a *proof* it is untested.

    *examine* sees the release before it is made, and raises CentralitaError or returns what it found, as documents.
    """
    record = golden.record
    folder = release_folder(record.appliance, record.full_version)
    files = _files(golden, folder)
    uploads = [Upload(entry_for(file), source) for file, source in files]
    documents = []

    def document(kind: str, name: str, data: bytes, media_type: str) -> None:
        upload = written(staging, f"{folder}/{name}", data)
        uploads.append(upload)
        documents.append(Document(kind=kind, media_type=media_type, **upload.entry.model_dump()))

    golden_json = _golden_record(record)
    document(GOLDEN, f"golden-{short(golden_json)}.json", golden_json, "application/json")
    if proof is not None:
        name = f"results-{short(proof.data)}.json"
        document("results", name, proof.data, "application/json")
        document("results-signature", f"{name}.minisig", proof.signature, "text/plain")
    release = Release(
        appliance=record.appliance,
        description=record.description,
        version=record.full_version,
        golden_digest=record.golden_digest,
        created=created,
        source_date=datetime.fromtimestamp(record.source_date_epoch, UTC),
        untested=proof is None,
        tests_digest=proof.results.tests_digest if proof else None,
        targets=tuple(_target(target, proof) for target in record.targets),
        files=tuple(file for file, _source in files),
        packages=release_packages(record),
        embedded=embedded_packages(record),
        languages=record.languages,
        memory_mib=record.memory_mib,
        vcpus=record.vcpus,
        disk_size_bytes=record.disk_size_bytes,
        root_uuid=record.root_uuid,
        root_partition=record.root_partition,
        kernel_version=record.kernel_version,
        kernel_cmdline=record.kernel_cmdline,
        suite=record.mirror.suite if record.mirror else "",
        unlocked=record.unlocked,
        lock_digest=cache.digest_of([[p.name, p.version, p.arch, p.sha256] for p in record.packages]),
        previous=previous.version if previous else None,
        source=source_revision(),
        builder={"centralita": centralita.__version__, "python": platform.python_version(), **record.tools},
    )
    examined = examine(release) if examine else ()
    for paper in (*make_papers(release, previous, record, previous_golden), *examined):
        document(paper.kind, paper.name, paper.data, paper.media_type)
        if paper.kind == "changelog":
            release = release.model_copy(update={"changelog": paper.data.decode()})
    return Composed(release.model_copy(update={"documents": tuple(documents)}), tuple(uploads))


def _target(target: str, proof: Proof | None) -> TargetResult:
    return proof.results.of(target) if proof else TargetResult(target=target, outcome="missing")


def short(data: bytes) -> str:
    """The first twelve digits of a SHA-256: names a file by what is in it."""
    return hashlib.sha256(data).hexdigest()[:12]


def load_golden(data: bytes) -> GoldenRecord:
    """The golden record that came with a release."""
    return GoldenRecord.model_validate(json.loads(data))


def read_golden(place: Place, release: Release) -> GoldenRecord | None:
    """The golden record of a release that a depot has; None where it is not the one that the release names."""
    document = release.document(GOLDEN)
    data = place.read(document.path, LIMIT) if document else None
    if document is None or data is None or hashlib.sha256(data).hexdigest() != document.sha256:
        return None
    return load_golden(data)
