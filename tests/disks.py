"""Disks that tests make of a clone, and what they take out of the golden image for them."""

from __future__ import annotations

import tarfile
from pathlib import Path

from centralita.ground.run import run
from centralita.image.build import ostree_of
from centralita.lab.guest import Prepared


def boot_file(appliance: str, name: str) -> bytes:
    """A file of the golden image's /boot."""
    with tarfile.open(ostree_of(appliance).tar) as tree:
        member = next(m for m in tree if m.name.removeprefix("./") == f"boot/{name}")
        stream = tree.extractfile(member)
        assert stream is not None
        return stream.read()


def overlay(prepared: Prepared, path: Path) -> Path:
    """A new overlay of the clone's disk; the tenant's secrets are in it."""
    run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", prepared.clone.disk, path])
    path.chmod(0o600)
    return path
