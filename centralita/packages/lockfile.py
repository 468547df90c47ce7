"""The lock of an appliance's packages: exact names, versions and digests, in the order of their unpacking.

A lock is plain text, a package a line, so that a change of one package is a change of one line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from centralita.ground.errors import Problem, SpecError

HEADER = "# Centralita package lock, version 1. Renew it with `{renew}`; do not edit it."
FIELDS = 7
SHA256 = re.compile(r"^[0-9a-f]{64}$")


@dataclass(frozen=True)
class LockedPackage:
    """One binary package: ``path`` is below the mirror's root, ``size_bytes`` that of the .deb file."""

    name: str
    version: str
    arch: str
    size_bytes: int
    sha256: str
    path: str
    essential: bool = False

    @property
    def file_name(self) -> str:
        """The name of the .deb file, safe in a shell and in a file system."""
        return f"{self.name}_{self.version.replace(':', '%3a')}_{self.arch}.deb"


@dataclass(frozen=True)
class Lock:
    """All packages of one tree. ``request`` is the digest of what was asked for; ``epoch`` the Release's date."""

    suite: str
    components: tuple[str, ...]
    epoch: datetime
    request: str
    packages: tuple[LockedPackage, ...]

    @property
    def source_date_epoch(self) -> int:
        """Seconds since 1970 for SOURCE_DATE_EPOCH (https://reproducible-builds.org/specs/source-date-epoch/)."""
        return int(self.epoch.timestamp())

    def dump(self, renew: str) -> str:
        """The lock file's text."""
        lines = [
            HEADER.format(renew=renew),
            f"suite {self.suite}",
            f"components {','.join(self.components)}",
            f"release {self.epoch.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
            f"request {self.request}",
            "# name version architecture bytes sha256 path essential(E)",
        ]
        for p in self.packages:
            lines.append(
                f"{p.name} {p.version} {p.arch} {p.size_bytes} {p.sha256} {p.path} {'E' if p.essential else '-'}"
            )
        return "\n".join(lines) + "\n"


def load_lock(path: Path) -> Lock:
    """Read a lock; a broken one raises SpecError that names each bad line."""
    meta: dict[str, str] = {}
    packages: list[LockedPackage] = []
    problems: list[Problem] = []
    fix = f"delete the file and run `invoke lock {path.stem}`, or take it from git"
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        words = line.split(" ")
        if words[0] in ("suite", "components", "release", "request") and len(words) == 2:
            meta[words[0]] = words[1]
        elif len(words) == FIELDS and words[3].isdigit() and SHA256.match(words[4]) and words[6] in "E-":
            if words[5].startswith("/") or ".." in words[5].split("/"):
                problems.append(Problem(str(path), number, words[0], "path leaves the mirror", fix))
                continue
            packages.append(
                LockedPackage(words[0], words[1], words[2], int(words[3]), words[4], words[5], words[6] == "E")
            )
        else:
            problems.append(Problem(str(path), number, words[0], "not a package line of a lock", fix))
    for key in ("suite", "components", "release", "request"):
        if key not in meta:
            problems.append(Problem(str(path), None, key, "is missing", fix))
    epoch = datetime.fromtimestamp(0, UTC)
    try:
        epoch = datetime.strptime(meta.get("release", ""), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        if "release" in meta:
            problems.append(Problem(str(path), None, "release", f"{meta['release']!r} is not a date", fix))
    if problems:
        raise SpecError(problems)
    return Lock(meta["suite"], tuple(meta["components"].split(",")), epoch, meta["request"], tuple(packages))


@dataclass(frozen=True)
class LockChange:
    """One line of the difference between two locks; a side that lacks the package has None."""

    name: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        if self.before is None:
            return f"+ {self.name} {self.after}"
        if self.after is None:
            return f"- {self.name} {self.before}"
        return f"~ {self.name} {self.before} -> {self.after}"


def diff_locks(before: Sequence[LockedPackage], after: Sequence[LockedPackage]) -> list[LockChange]:
    """What changed from one list of packages to the other, by name."""
    old = {p.name: p for p in before}
    new = {p.name: p for p in after}
    changes = []
    for name in sorted(old.keys() | new.keys()):
        a, b = old.get(name), new.get(name)
        if a is None or b is None or (a.version, a.sha256) != (b.version, b.sha256):
            changes.append(LockChange(name, a.version if a else None, b.version if b else None))
    return changes
