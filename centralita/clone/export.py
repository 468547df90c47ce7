"""A tenant's clone as the files of any format: what an admin of another hypervisor or container manager imports."""

from __future__ import annotations

import copy
import hashlib
import io
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from centralita.clone.archive import archive, numbers_of
from centralita.clone.files import GuestFile
from centralita.clone.identity import IdentityStore
from centralita.clone.make import make_clone
from centralita.clone.render import render
from centralita.formats.catalogue import FORMATS, expand, file_name
from centralita.formats.make import convert
from centralita.formats.subject import Golden, Subject, golden_subject
from centralita.ground import ledger
from centralita.ground.errors import CentralitaError
from centralita.ground.run import run
from centralita.packages.tools import tools_tree
from centralita.spec.tenant import Tenant


def tree_with(tree: Path, files: Sequence[GuestFile], target: Path, epoch: int) -> None:
    """Write an OS tree's tar with a tenant's files in place of its own."""
    with tarfile.open(tree) as tar, tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as out:
        tables = [tar.extractfile(f"etc/{name}") for name in ("passwd", "group")]
        users, groups = (numbers_of(table.read()) if table is not None else {} for table in tables)
        new = archive(files, users, groups, epoch)
        replaced = {file.path.lstrip("/") for file in files}
        # A hard link's data stand at its first name only.
        linked = {member.linkname for member in tar if member.islnk()} & replaced
        if linked:
            raise CentralitaError(f"the OS tree has further names for {', '.join(sorted(linked))}")
        for member in tar:
            if member.name not in replaced:
                out.addfile(copy.copy(member), tar.extractfile(member) if member.isreg() else None)
        with tarfile.open(fileobj=io.BytesIO(new)) as added:
            for member in added:
                out.addfile(member, added.extractfile(member) if member.isreg() else None)


def export_clone(golden: Golden, tenant: Tenant, names: Sequence[str], dest: Path, store: IdentityStore) -> list[Path]:
    """Write the tenant's clone in the formats *names* into the new folder *dest* (0700); return the files (0600).

    The clone has no data disk: what it keeps is on its one disk. Nothing of it goes through the cache.
    Raises SpecError or CentralitaError; the folder is then absent.
    """
    wanted = expand(names)
    if dest.exists():
        raise CentralitaError(f"{dest} is there already", hint="remove it, or name another folder")
    identity = store.get_or_create(tenant)
    files = render(tenant, identity)
    tools = tools_tree("formats")
    dest = dest.absolute()
    dest.parent.mkdir(parents=True, exist_ok=True)
    with golden_subject(golden) as image, ledger.default().tempdir(f".{dest.name}.", dest.parent) as work:
        raw, tree, made = work / "disk.raw", work / "tree.tar", work / "made"
        made.mkdir(mode=0o700)
        if any(FORMATS[name].holds == "disk" for name in wanted):
            clone = make_clone(golden, tenant, work / "clone", store)
            raw.touch(mode=0o600)
            run(["qemu-img", "convert", "-n", "-f", "qcow2", "-O", "raw", *_sized(raw, image), clone.disk, raw])
        if any(FORMATS[name].holds == "tree" for name in wanted):
            tree_with(image.tree, files, tree, image.epoch)
        subject = replace(
            image,
            name=tenant.name,
            title=f"{tenant.company} ({image.name} {image.version})",
            # Identifiers within the formats are the clone's own, and are so again when it is made again.
            digest=hashlib.sha256(identity.uuid.encode()).hexdigest(),
            raw=raw,
            tree=tree if tree.exists() else image.tree,
            mac=identity.mac,
            appliance=image.name,
        )

        def get(name: str) -> Path:
            path = (made if name in wanted else work) / file_name(tenant.name, name)
            if not path.exists():
                convert(name, subject, path, tools, get)
                path.chmod(0o600)
            return path

        for name in wanted:
            get(name)
        made.rename(dest)
    return [dest / file_name(tenant.name, name) for name in wanted]


def _sized(raw: Path, image: Subject) -> list[str]:
    """Give the empty file its size, as `-n` wants it: so it is never anybody else's to read."""
    with raw.open("r+b") as stream:
        stream.truncate(image.size_bytes)
    return ["--target-is-zero"]
