"""The papers of a release: what is in it, how it was made, what changed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from centralita.depot.changelog import changelog
from centralita.depot.licences import papers
from centralita.depot.provenance import provenance
from centralita.depot.record import Release, ReleasePackage
from centralita.depot.sbom import cyclonedx, spdx
from centralita.ground.cache import digest_of
from centralita.image.record import GoldenRecord, PackageEntry
from centralita.packages.lockfile import load_lock
from centralita.packages.tools import TOOL_SETS

#: Packages of the tools tree `disk` whose files are on the golden disk: GRUB for BIOS, shim and GRUB for UEFI.
BOOT_LOADERS = ("grub-pc-bin", "grub-efi-amd64-signed", "shim-signed", "shim-helpers-amd64-signed")


@dataclass(frozen=True)
class Paper:
    """A document: its ``kind`` in the record, its file's name, and what is in it."""

    kind: str
    name: str
    media_type: str
    data: bytes


def release_packages(record: GoldenRecord) -> tuple[ReleasePackage, ...]:
    """The packages of an image with their sources and licences, as far as their files are in the store."""
    return _with_papers(record.packages)


def embedded_packages(record: GoldenRecord) -> tuple[ReleasePackage, ...]:
    """The boot loaders of an image; none where it was made by another tools tree than this checkout's."""
    tools = TOOL_SETS["disk"]
    if not tools.lock_path.is_file():
        return ()
    lock = load_lock(tools.lock_path)
    if digest_of("tools", lock.packages) != record.tools.get("disk"):
        return ()
    entries = [
        PackageEntry(name=p.name, version=p.version, arch=p.arch, sha256=p.sha256)
        for p in lock.packages
        if p.name in BOOT_LOADERS
    ]
    return _with_papers(entries, tools.suite)


def _with_papers(packages: Sequence[PackageEntry], suite: str = "") -> tuple[ReleasePackage, ...]:
    known = papers(packages)
    found = []
    for package in packages:
        paper = known[package.name]
        other = paper.source_version != package.version
        source = f"{paper.source} ({paper.source_version})" if paper.source and other else paper.source
        found.append(
            ReleasePackage(
                name=package.name, version=package.version, arch=package.arch, sha256=package.sha256, source=source,
                licences=paper.licences, suite=suite,
            )
        )  # fmt: skip
    return tuple(found)


def make_papers(
    release: Release,
    previous: Release | None,
    golden: GoldenRecord | None = None,
    previous_golden: GoldenRecord | None = None,
) -> tuple[Paper, ...]:
    """All papers of a release whose record is complete but for them."""
    changes = changelog(release, previous, golden, previous_golden)
    made = (
        ("spdx", ".spdx.json", "application/spdx+json", spdx(release)),
        ("cyclonedx", ".cdx.json", "application/vnd.cyclonedx+json; version=1.6", cyclonedx(release)),
        ("provenance", ".intoto.json", "application/vnd.in-toto+json", provenance(release)),
        ("changelog", ".md", "text/markdown; charset=utf-8", changes.encode()),
    )
    return tuple(paper(kind, suffix, media_type, data) for kind, suffix, media_type, data in made)


def paper(kind: str, suffix: str, media_type: str, data: bytes) -> Paper:
    """A document, named by what is in it: a file of a depot never changes."""
    return Paper(kind, f"{kind}-{hashlib.sha256(data).hexdigest()[:12]}{suffix}", media_type, data)
