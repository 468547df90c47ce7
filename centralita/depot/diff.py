"""What differs between two releases of a depot: packages, configuration, size, formats, and the files in the images."""

from __future__ import annotations

from collections.abc import Sequence

from centralita.depot.changelog import sections
from centralita.depot.client import Depot, check_bytes
from centralita.depot.compose import GOLDEN, entry_for, load_golden
from centralita.depot.deltas import raw_disk
from centralita.depot.index import LIMIT, Listed
from centralita.depot.reader import FolderReader
from centralita.depot.record import Frozen, Release
from centralita.depot.tree_diff import FileChange, TreeFile, compare, read_tree
from centralita.ground.errors import CentralitaError
from centralita.ground.report import get_reporter
from centralita.image.record import GoldenRecord

#: How many files are shown to a person; the JSON has all.
SHOWN = 100


class PackageChange(Frozen):
    """A package that differs; its version is None where it is not installed."""

    name: str
    arch: str
    old: str | None
    new: str | None


class FormatChange(Frozen):
    """A format's file size in bytes, None where the release has none."""

    format: str
    old_bytes: int | None
    new_bytes: int | None


class Difference(Frozen):
    """Two releases compared. ``files`` is None where the images were not looked into."""

    appliance: str
    old: str
    new: str
    same_disk: bool
    packages: tuple[PackageChange, ...]
    configuration: tuple[str, ...]
    formats: tuple[FormatChange, ...]
    tree_bytes: tuple[int, int] | None
    delta_bytes: int | None
    files: tuple[FileChange, ...] | None
    # The same for people: titles and their lines.
    text: tuple[tuple[str, tuple[str, ...]], ...]


def find_two(listed: Sequence[Listed], old: str, new: str, appliance: str) -> tuple[Listed, Listed]:
    """The two releases that versions (with or without their builds) mean. Raises CentralitaError.

    Without *appliance* the depot may have these versions of one appliance only.
    """
    names = {line.appliance for line in listed if not appliance or line.appliance == appliance}
    if appliance and not names:
        raise CentralitaError(f"the depot has no {appliance}")

    def fitting(name: str, version: str) -> list[Listed]:
        mine = [line for line in listed if line.appliance == name]
        return [line for line in mine if version in (line.version, line.version.partition("+")[0])]

    both = [name for name in sorted(names) if fitting(name, old) and fitting(name, new)]
    if not both:
        have = ", ".join(line.label for line in listed if line.appliance in names)
        raise CentralitaError(f"no appliance here has both {old} and {new}", hint=f"there are {have or 'none'}")
    if len(both) > 1:
        raise CentralitaError(f"{' and '.join(both)} have these versions", hint="--appliance NAME says which is meant")
    pair = []
    for version in (old, new):
        found = fitting(both[0], version)
        if len(found) > 1:
            builds = ", ".join(line.version for line in found)
            raise CentralitaError(f"{version} was released more than once", hint=f"one of {builds}")
        pair.append(found[0])
    return pair[0], pair[1]


def difference(depot: Depot, old: str, new: str, *, appliance: str = "", files: bool = True) -> Difference:
    """Compare two releases; with *files* also what is in their images, which takes seconds and a depot in a folder.

    Raises CentralitaError where a version is not there, or an image cannot be read.
    """
    pair = find_two(depot.index.releases, old, new, appliance)
    before, after = (depot.release(line) for line in pair)
    goldens = [_golden(depot, release) for release in (before, after)]
    changed: tuple[FileChange, ...] | None = None
    if files and before.golden_digest == after.golden_digest:
        changed = ()
    elif files:
        with get_reporter().step("look into the images", total=2) as step:
            trees = []
            for release, golden in zip((before, after), goldens, strict=True):
                trees.append(_tree(depot, release, golden))
                step.advance(1)
        changed = compare(*trees)
    first, second = goldens
    text = [(title, tuple(lines)) for title, lines in sections(after, before, second, first).items()]
    if changed is not None:
        text.append(("Files", tuple(_words(changed))))
    delta = next((d for d in pair[1].deltas if d.from_golden_digest == before.golden_digest), None)
    return Difference(
        appliance=after.appliance,
        old=before.version,
        new=after.version,
        same_disk=before.golden_digest == after.golden_digest,
        packages=_packages(before, after),
        configuration=tuple(line.removeprefix("- ") for line in dict(text)["Configuration"]),
        formats=_formats(before, after),
        tree_bytes=(first.tree_bytes, second.tree_bytes) if first and second else None,
        delta_bytes=delta.size_bytes if delta else None,
        files=changed,
        text=tuple(text),
    )


def _golden(depot: Depot, release: Release) -> GoldenRecord | None:
    document = release.document(GOLDEN)
    data = depot.reader.read(document.path, LIMIT) if document else None
    if document is None or data is None:
        return None
    check_bytes(data, entry_for(document), document.path)
    return load_golden(data)


def _tree(depot: Depot, release: Release, golden: GoldenRecord | None) -> dict[str, TreeFile]:
    file = release.file("qcow2")
    if not isinstance(depot.reader, FolderReader) or file is None or golden is None:
        raise CentralitaError(f"the image of {release.label} is not in a folder here", hint="compare with --no-files")
    # What comes out of the qcow2 is the disk that was signed, or refused.
    with raw_disk(golden, depot.reader.folder / file.path) as raw:
        return read_tree(raw, release.root_partition)


def _packages(old: Release, new: Release) -> tuple[PackageChange, ...]:
    before = {(p.name, p.arch): p.version for p in old.packages}
    after = {(p.name, p.arch): p.version for p in new.packages}
    return tuple(
        PackageChange(name=key[0], arch=key[1], old=before.get(key), new=after.get(key))
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    )


def _formats(old: Release, new: Release) -> tuple[FormatChange, ...]:
    before = {file.format: file.size_bytes for file in old.files}
    after = {file.format: file.size_bytes for file in new.files}
    names = [*after, *(name for name in before if name not in after)]
    return tuple(FormatChange(format=n, old_bytes=before.get(n), new_bytes=after.get(n)) for n in names)


def _words(files: Sequence[FileChange]) -> list[str]:
    lines = []
    for file in files[:SHOWN]:
        old, new = file.old_bytes, file.new_bytes
        if file.what in ("new", "gone"):
            lines.append(f"- {file.path}: {file.what}, {new if old is None else old} bytes")
        elif file.what == "content" and old != new:
            lines.append(f"- {file.path}: {old} → {new} bytes")
        else:
            lines.append(f"- {file.path}: another {file.what}")
    if len(files) > SHOWN:
        lines.append(f"- and {len(files) - SHOWN} more (--json has all)")
    return lines
