"""What changed since the release before: packages, configuration, size. Markdown, for people."""

from __future__ import annotations

from collections.abc import Iterable

from centralita.depot.record import Release
from centralita.depot.sbom import contents
from centralita.image.record import GoldenRecord


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB"


def _listed(values: Iterable[str]) -> str:
    return ", ".join(sorted(values))


def _difference(name: str, old: Iterable[str], new: Iterable[str]) -> list[str]:
    before, after = set(old), set(new)
    parts = [
        f"{word} {_listed(values)}" for word, values in (("new", after - before), ("gone", before - after)) if values
    ]
    return [f"- {name}: {'; '.join(parts)}"] if parts else []


def _packages(old: Release, new: Release) -> list[str]:
    before = {(p.name, p.arch): p.version for p in contents(old)}
    after = {(p.name, p.arch): p.version for p in contents(new)}
    both = sorted(before.keys() & after.keys())
    lines = [f"- {key[0]} {before[key]} → {after[key]}" for key in both if before[key] != after[key]]
    lines += [f"- {name} {after[name, arch]}: new" for name, arch in sorted(after.keys() - before.keys())]
    lines += [f"- {name} {before[name, arch]}: gone" for name, arch in sorted(before.keys() - after.keys())]
    return lines


def _fact(golden: GoldenRecord, group: str, name: str) -> list[str]:
    """The names in one list, or the keys of one mapping, of a golden record's facts."""
    return list(golden.facts.get(group, {}).get(name, ()))


def _configuration(old: Release, new: Release, golden: GoldenRecord | None, before: GoldenRecord | None) -> list[str]:
    lines = []
    for name, one, other in (
        ("memory", f"{old.memory_mib} MiB", f"{new.memory_mib} MiB"),
        ("processors", str(old.vcpus), str(new.vcpus)),
        ("disk", f"{old.disk_size_bytes >> 20} MiB", f"{new.disk_size_bytes >> 20} MiB"),
        ("kernel", old.kernel_version, new.kernel_version),
        ("suite", old.suite, new.suite),
        ("description", old.description, new.description),
    ):
        if one != other:
            lines.append(f"- {name}: {one or 'none'} → {other or 'none'}")
    # The root's UUID follows from what is on the disk: it changes with every build.
    cmdlines = [[word for word in r.kernel_cmdline if not word.startswith("root=")] for r in (old, new)]
    lines += _difference("kernel command line", *cmdlines)
    lines += _difference("languages", old.languages, new.languages)
    lines += _difference("targets", [t.target for t in old.targets], [t.target for t in new.targets])
    lines += _difference("formats", [f.format for f in old.files], [f.format for f in new.files])
    if golden and before:
        for name, path in (
            ("kernel modules", ("kernel", "modules")),
            ("modules of the initramfs", ("kernel", "initramfs_modules")),
        ):
            lines += _difference(name, _fact(before, *path), _fact(golden, *path))
        # The record tells which Asterisk modules went: what left that list came.
        gone = [set(_fact(g, "trim", "modules")) for g in (before, golden)]
        lines += _difference("Asterisk modules", gone[1] - gone[0], gone[0] - gone[1])
    return lines


def _sizes(old: Release, new: Release, golden: GoldenRecord | None, before: GoldenRecord | None) -> list[str]:
    lines = []
    if golden and before and golden.tree_bytes != before.tree_bytes:
        change = golden.tree_bytes - before.tree_bytes
        lines.append(
            f"- files in the image: {_mb(before.tree_bytes)} → {_mb(golden.tree_bytes)} ({change / 1e6:+.1f} MB)"
        )
    for file in new.files:
        other = old.file(file.format)
        if other is not None and other.size_bytes != file.size_bytes:
            change = file.size_bytes - other.size_bytes
            lines.append(f"- {file.format}: {_mb(other.size_bytes)} → {_mb(file.size_bytes)} ({change / 1e6:+.1f} MB)")
    return lines


def sections(
    release: Release, previous: Release, golden: GoldenRecord | None, previous_golden: GoldenRecord | None
) -> dict[str, list[str]]:
    """What changed from *previous*, as items of lists under their titles."""
    return {
        "Packages": _packages(previous, release),
        "Configuration": _configuration(previous, release, golden, previous_golden),
        "Size": _sizes(previous, release, golden, previous_golden),
    }


def changelog(
    release: Release,
    previous: Release | None,
    golden: GoldenRecord | None = None,
    previous_golden: GoldenRecord | None = None,
) -> str:
    """The changes as Markdown; a first release says that it is one. Golden records add what only they know."""
    lines = [f"# {release.label}", "", f"Released on {release.created:%Y-%m-%d}."]
    if previous is None:
        lines += ["", "The first release here.", "", f"- {len(release.packages)} packages"]
        lines += [f"- {file.format}: {_mb(file.size_bytes)}" for file in release.files]
        return "\n".join(lines) + "\n"
    lines += ["", f"Against {previous.version}, released on {previous.created:%Y-%m-%d}."]
    for title, found in sections(release, previous, golden, previous_golden).items():
        lines += ["", f"## {title}", "", *(found or ["No change."])]
    if previous.golden_digest == release.golden_digest:
        lines += ["", "The disk is the same, byte for byte."]
    return "\n".join(lines) + "\n"
