"""The golden disk: assembled from an OS tree's tar in plain files, without root, loop devices or mounts."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import centralita.image
from centralita.ground import cache, ledger, paths
from centralita.ground.cache import digest_of
from centralita.ground.errors import CentralitaError
from centralita.ground.report import Step
from centralita.ground.run import run
from centralita.image.gpt import MIB, layout, write_table
from centralita.image.grub import esp_files, grub_cfg, install_bios, make_esp
from centralita.image.ostree import OsTree
from centralita.image.tree import ExtraFile, append
from centralita.packages.tools import ToolsTree
from centralita.spec.appliance import Appliance

CODE = ("disk.py", "gpt.py", "grub.py", "tree.py")
# The smallest hole, as qemu-img sees them.
HOLE_BYTES = 4096
# Identifiers of golden disks are names, not secrets: all clones share them, and mount by device.
NAMESPACE = uuid.UUID("5ac9a5a2-8a5f-5f0e-9a39-6f2d3a1f7c11")

MKE2FS_CONF = """\
[defaults]
base_features = {features}
default_mntopts = acl,user_xattr
enable_periodic_fsck = 0
blocksize = 4096
inode_size = 256
inode_ratio = 16384
[fs_types]
ext4 = {{
}}
"""
FSTAB = """\
# The root file system by UUID: its disk has another name on every hypervisor.
UUID={root_uuid} / ext4 errors=remount-ro 0 1
"""


@dataclass(frozen=True)
class GoldenDisk:
    """A raw golden disk. ``digest`` is the SHA-256 of its bytes, holes included: the golden digest."""

    raw: Path
    key: str
    digest: str
    size_bytes: int
    root_uuid: str
    cmdline: tuple[str, ...]
    cached: bool


def root_uuid(appliance: Appliance) -> str:
    """The UUID of the root file system, the same for every build of an appliance."""
    return str(uuid.uuid5(NAMESPACE, f"{appliance.name}/root"))


def disk_key(appliance: Appliance, tree_key: str, tools: ToolsTree) -> str:
    """The digest of all that can change the disk."""
    code = Path(centralita.image.__file__).parent
    return digest_of(
        "disk", tree_key, appliance.name, appliance.version, appliance.disk, appliance.kernel.cmdline, tools.digest,
        [code / name for name in CODE],
    )  # fmt: skip


def raw_digest(path: Path) -> str:
    """Hex SHA-256 of a raw disk. Holes are hashed as the zeros that they are, without reading them."""
    digest = hashlib.sha256()
    size = path.stat().st_size
    zeros = bytes(MIB)
    with path.open("rb", buffering=0) as stream:
        position = 0
        while position < size:
            try:
                data = os.lseek(stream.fileno(), position, os.SEEK_DATA)
            except OSError:  # no data behind this position
                data = size
            while position < data:
                step = min(MIB, data - position)
                digest.update(zeros[:step])
                position += step
            if position >= size:
                break
            hole = os.lseek(stream.fileno(), position, os.SEEK_HOLE)
            stream.seek(position)
            while position < hole:
                block = stream.read(min(MIB, hole - position))
                digest.update(block)
                position += len(block)
    return digest.hexdigest()


def _make_root(
    path: Path,
    size_mib: int,
    fs_uuid: str,
    features: Sequence[str],
    tar: Path,
    epoch: int,
    tools: ToolsTree,
    folder: Path,
) -> None:
    """Write an ext4 file system of *size_mib* with the contents of *tar*."""
    config = folder / "mke2fs.conf"
    config.write_text(MKE2FS_CONF.format(features=",".join(features)))
    with path.open("wb") as stream:
        stream.truncate(size_mib * MIB)
    env = {
        "MKE2FS_CONFIG": str(config),
        "SOURCE_DATE_EPOCH": str(epoch),
        "E2FSPROGS_FAKE_TIME": str(epoch),
        "TZ": "UTC0",
    }
    done = run(
        [
            *tools.command("mke2fs"), "-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-m", "1", "-L", "pbx-root",
            "-U", fs_uuid, "-E", f"hash_seed={fs_uuid},root_owner=0:0,lazy_itable_init=0,nodiscard", "-d", tar, path,
        ],
        env=env, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        text = (done.stderr or done.stdout).strip()
        hint = "a larger disk.size_mib" if "allocat" in text.lower() or "space" in text.lower() else None
        raise CentralitaError(f"mke2fs cannot fill the root file system of {size_mib} MiB: {text}", hint=hint)


def _copy_into(disk: Path, part: Path, offset_bytes: int) -> None:
    """Copy the data of *part* into *disk*, leaving holes as holes."""
    with disk.open("r+b") as out, part.open("rb", buffering=0) as source:
        size = part.stat().st_size
        position = 0
        while position < size:
            try:
                position = os.lseek(source.fileno(), position, os.SEEK_DATA)
            except OSError:
                return
            end = os.lseek(source.fileno(), position, os.SEEK_HOLE)
            source.seek(position)
            out.seek(offset_bytes + position)
            while position < end:
                block = source.read(min(MIB, end - position))
                # A run of zeros that the file system wrote is a hole too: the digest is the same, the disk smaller, and
                # what is unpacked from another format has its holes in the same places.
                for at in range(0, len(block), HOLE_BYTES):
                    piece = block[at : at + HOLE_BYTES]
                    if piece.count(0) == len(piece):
                        out.seek(len(piece), os.SEEK_CUR)
                    else:
                        out.write(piece)
                position += len(block)


def build_disk(appliance: Appliance, tree: OsTree, epoch: int, tools: ToolsTree, step: Step) -> GoldenDisk:
    """The golden disk of a tree, from the cache or assembled. ``epoch`` is seconds since 1970."""
    store = cache.Store()
    key = disk_key(appliance, tree.key, tools)
    cached = store.get("disk", key)
    fs_uuid = root_uuid(appliance)
    cmdline = appliance.kernel.cmdline
    if cached is None:
        with ledger.default().tempdir("disk-", parent=paths.cache_dir()) as folder:
            _, esp, root = partitions = layout(appliance.disk.size_mib, appliance.disk.esp_mib)
            guids = tuple(str(uuid.uuid5(NAMESPACE, f"{appliance.name}/partition/{p.name}")) for p in partitions)
            disk = folder / "disk.raw"
            with disk.open("wb") as stream:
                stream.truncate(appliance.disk.size_mib * MIB)
            tar = folder / "tree.tar"
            shutil.copyfile(tree.tar, tar)
            files = [
                ExtraFile("boot/grub/grub.cfg", grub_cfg(fs_uuid, cmdline).encode()),
                ExtraFile("etc/fstab", FSTAB.format(root_uuid=fs_uuid).encode()),
                ExtraFile("etc/centralita/appliance.json", _about(appliance, key)),
            ]
            append(tar, files, epoch)
            step.note("root file system")
            _make_root(
                folder / "root.img", root.size_mib, fs_uuid, appliance.disk.ext4_features, tar, epoch, tools, folder
            )
            step.note("EFI system partition")
            make_esp(folder / "esp.img", esp.size_mib, esp_files(fs_uuid, tools), epoch, tools, folder)
            _copy_into(disk, folder / "root.img", root.start_mib * MIB)
            _copy_into(disk, folder / "esp.img", esp.start_mib * MIB)
            write_table(disk, partitions, str(uuid.uuid5(NAMESPACE, f"{appliance.name}/disk")), guids, tools)
            step.note("boot loader")
            install_bios(disk, partitions[0], fs_uuid, tools, folder)
            digest = raw_digest(disk)
            with store.put("disk", key) as result:
                disk.rename(result / "disk.raw")
                (result / "disk.raw").chmod(0o444)
                (result / "record.json").write_text(json.dumps({"digest": digest}))
    found = store.get("disk", key)
    assert found is not None
    digest = json.loads((found / "record.json").read_text())["digest"]
    raw = found / "disk.raw"
    return GoldenDisk(raw, key, digest, raw.stat().st_size, fs_uuid, tuple(cmdline), cached is not None)


def _about(appliance: Appliance, key: str) -> bytes:
    about = {"appliance": appliance.name, "version": appliance.version, "build": key[:12]}
    return (json.dumps(about, indent=1, sort_keys=True) + "\n").encode()
