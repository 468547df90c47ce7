"""virt-builder's own index (virt-builder(1), CREATING YOUR OWN TEMPLATES): `virt-builder --source URL/index.asc`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from centralita.depot.indexes.base import Alias, Site
from centralita.depot.record import Release, newest, path_version

INDEX = "index.asc"
_ARCH = {"amd64": "x86_64", "arm64": "aarch64"}


def _section(release: Release, name: str, revision: int, *, hidden: bool) -> list[str]:
    disk = release.file("qcow2")
    if disk is None:
        return []
    notes = [
        f"{release.description}.",
        f"{release.label}" + (", UNTESTED." if release.untested else ", tested."),
        "It answers nobody until it has a tenant: `invoke seed` makes the disk that brings one.",
    ]
    return [
        f"[{name}]",
        f"name={release.appliance} {release.version}",
        "osinfo=debiantesting",
        f"arch={_ARCH.get(release.arch, release.arch)}",
        f"file={disk.path}",
        f"checksum[sha512]={disk.sha512}",
        "format=qcow2",
        f"size={disk.virtual_size_bytes or release.disk_size_bytes}",
        f"compressed_size={disk.size_bytes}",
        f"expand=/dev/sda{release.root_partition}",
        f"revision={revision}",
        # Its lines go on where they are indented.
        "notes=" + "\n ".join(notes),
        *(["hidden=true"] if hidden else []),
        "",
    ]


def render(releases: Sequence[Release], site: Site) -> Mapping[str, bytes | Alias]:
    """The index; the publish signs it. An appliance's newest goes by its name, older ones by their versions too."""
    lines: list[str] = []
    revisions: dict[str, int] = {}
    for release in releases:
        revision = revisions[release.appliance] = revisions.get(release.appliance, 0) + 1
        if newest(releases, release.appliance) is release:
            lines += _section(release, release.appliance, revision, hidden=False)
        else:
            name = f"{release.appliance}-{path_version(release.version)}"
            lines += _section(release, name, revision, hidden=True)
    return {INDEX: ("\n".join(lines) + "\n").encode()} if lines else {}
