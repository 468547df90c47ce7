"""A tenant on a medium of its own, for an image that takes one at its first boot (elements/seed)."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path

from centralita.clone.files import GuestFile
from centralita.clone.identity import Identity
from centralita.clone.render import render
from centralita.ground import ledger
from centralita.ground.errors import CentralitaError
from centralita.ground.run import run
from centralita.spec.tenant import Tenant

LABEL = "PBX-TENANT"
ARCHIVE, CHECKSUM = "tenant.tar", "tenant.sha256"
LAST = "/etc/centralita/tenant.json"
#: What the image accepts (elements/seed).
LIMIT_BYTES = 64 * 1024 * 1024
_ROOM_BYTES = 1024 * 1024


def seed_archive(files: Sequence[GuestFile]) -> bytes:
    """Return the files as a tar with the owners' names, which the image knows the numbers of; tenant.json is last.

    The same files give the same bytes. Raises CentralitaError where they are more than an image takes.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for file in sorted(files, key=lambda file: file.path == LAST):
            entry = tarfile.TarInfo(file.path.lstrip("/"))
            entry.mode, entry.uname, entry.gname = file.mode, file.owner, file.group
            if file.symlink is not None:
                entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, file.symlink, 0o777
                tar.addfile(entry)
            elif file.directory:
                entry.type = tarfile.DIRTYPE
                tar.addfile(entry)
            else:
                entry.size = len(file.content)
                tar.addfile(entry, io.BytesIO(file.content))
    data = buffer.getvalue()
    if len(data) > LIMIT_BYTES:
        raise CentralitaError(
            f"the tenant's files are {len(data)} bytes, more than the {LIMIT_BYTES} that an image takes",
            hint="shorter prompts, or `invoke clone`",
        )
    return data


def seed_files(tenant: Tenant, identity: Identity) -> dict[str, bytes]:
    """Return what is on the medium, by name."""
    archive = seed_archive(render(tenant, identity))
    return {ARCHIVE: archive, CHECKSUM: f"{hashlib.sha256(archive).hexdigest()}  {ARCHIVE}\n".encode()}


def write_seed(tenant: Tenant, identity: Identity, target: Path) -> None:
    """Write the medium: a disc (``.iso``), a disk (``.img``) or, for a container to mount, a folder.

    Only its owner can read it. Raises CentralitaError where the place is taken by something else.
    """
    files = seed_files(tenant, identity)
    target = target.absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    with ledger.default().tempdir(f".{target.name}.", parent=target.parent) as work:
        folder = work / "files"
        folder.mkdir(mode=0o700)
        for name, data in files.items():
            with os.fdopen(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
                stream.write(data)
        if target.suffix not in (".iso", ".img"):
            if target.exists():
                raise CentralitaError(f"{target} is there already", hint="remove it, or name another place")
            folder.rename(target)
            return
        medium = work / "medium"
        medium.touch(mode=0o600)
        if target.suffix == ".iso":
            run(
                [
                    "xorriso", "-as", "mkisofs", "-quiet", "-V", LABEL, "-R", "-J", "-uid", "0", "-gid", "0",
                    "-o", medium, folder,
                ]
            )  # fmt: skip
        else:
            _write_disk(medium, folder, files)
        medium.chmod(0o600)
        medium.replace(target)


def _write_disk(medium: Path, folder: Path, files: dict[str, bytes]) -> None:
    """Write an ext4 without a journal or a partition table: every kernel that runs an image can read it."""
    size = sum(map(len, files.values())) + _ROOM_BYTES
    os.truncate(medium, size + -size % _ROOM_BYTES)
    argv = ["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal,^resize_inode", "-m", "0", "-L", LABEL]
    run([*argv, "-E", "root_owner=0:0", "-d", folder, medium])
