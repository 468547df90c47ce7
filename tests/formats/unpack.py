"""Takes the disk out of a format's file again, with what the hypervisor's own tool would do."""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from centralita.formats.xva import PIECE_BYTES
from centralita.ground.run import run

#: What qemu-img calls the disk in each format.
DRIVERS = {
    "qcow2": "qcow2", "raw.zst": "raw", "vmdk": "vmdk", "ova": "vmdk", "vdi": "vdi", "vhd": "vpc", "vhd-fixed": "vpc",
    "vhdx": "vhdx", "xva": "raw", "hdd": "parallels", "containerdisk": "qcow2",
}  # fmt: skip
#: Of these, the ones whose inner order `qemu-img check` can judge (qemu-img(1)).
CHECKED = ("qcow2", "vdi", "vhdx", "vmdk", "parallels")


@contextmanager
def member(archive: Path, name: str) -> Iterator[IO[bytes]]:
    """The one file of a tar whose name ends like this."""
    with tarfile.open(archive) as tar:
        (found,) = [m for m in tar.getmembers() if m.isreg() and m.name.endswith(name)]
        stream = tar.extractfile(found)
        assert stream is not None
        yield stream


def copied(stream: IO[bytes], target: Path) -> Path:
    """Write a stream to a file."""
    with target.open("wb") as out:
        shutil.copyfileobj(stream, out)
    return target


def layout(archive: Path, folder: Path) -> Path:
    """Unpack an OCI archive into a layout."""
    folder.mkdir()
    run(["tar", "-C", folder, "-xf", archive])
    return folder


def blob(folder: Path, descriptor: dict[str, object]) -> Path:
    """A blob of an OCI layout, whose size and digest are as described."""
    digest = str(descriptor["digest"])
    path = folder / "blobs" / digest.replace(":", "/")
    assert path.stat().st_size == descriptor["size"]
    with path.open("rb") as stream:
        assert f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}" == digest
    return path


def only_layer(folder: Path) -> Path:
    """The layer of the one image in an OCI layout, which has one."""
    (entry,) = json.loads((folder / "index.json").read_bytes())["manifests"]
    manifest = json.loads(blob(folder, entry).read_bytes())
    blob(folder, manifest["config"])
    (layer,) = manifest["layers"]
    return blob(folder, layer)


def from_xva(path: Path, disk: Path, size_bytes: int) -> Path:
    """Put the pieces of an XVA together, as xapi does."""
    with tarfile.open(path) as tar, disk.open("wb") as out:
        out.truncate(size_bytes)
        for entry in tar:
            name = entry.name.rpartition("/")[2]
            if name.isdigit():
                stream = tar.extractfile(entry)
                assert stream is not None
                out.seek(int(name) * PIECE_BYTES)
                out.write(stream.read())
    return disk


def taken_out(form: str, path: Path, folder: Path, size_bytes: int) -> Path:
    """The disk in a file of a format, as a file for qemu-img."""
    disk = folder / "disk"
    if form in ("raw.zst", "vhd-fixed"):
        run(["zstd", "-q", "-d", path, "-o", disk])
    elif form in ("ova", "hdd"):
        with member(path, ".vmdk" if form == "ova" else ".hds") as stream:
            copied(stream, disk)
    elif form == "xva":
        from_xva(path, disk, size_bytes)
    elif form == "containerdisk":
        with member(only_layer(layout(path, folder / "layout")), ".qcow2") as stream:
            copied(stream, disk)
    else:
        return path
    return disk


def assert_same_disk(form: str, disk: Path, raw: Path, folder: Path) -> None:
    """Whether a disk in a format is the raw one: strictly, the size and the holes count too."""
    driver, out, wanted = DRIVERS[form], folder / "out.raw", folder / "wanted.raw"
    if driver in CHECKED:
        run(["qemu-img", "check", "-f", driver, disk])
    run(["qemu-img", "convert", "-f", driver, "-O", "raw", disk, out])
    run(["cp", "--sparse=always", raw, wanted])
    for path in (wanted, out):
        # A block of zeros may be written or left out; in both it is to be a hole.
        run(["fallocate", "--dig-holes", path])
    run(["qemu-img", "compare", "-s", "-f", "raw", "-F", "raw", wanted, out])
    out.unlink()
    wanted.unlink()
