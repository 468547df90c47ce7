"""Makes the formats of a golden image: side by side, each cached by what it is made from."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import centralita.formats
from centralita.formats import disks, oci, trees
from centralita.formats.catalogue import FORMATS, expand, file_name
from centralita.formats.ova import make_ova
from centralita.formats.subject import Golden, Subject, golden_subject
from centralita.formats.xva import make_xva
from centralita.ground import cache
from centralita.ground.cache import digest_of
from centralita.ground.report import Step
from centralita.packages.fetch import sha256_of
from centralita.packages.tools import ToolsTree, tools_tree

CODE = ("disks.py", "stamps.py", "ova.py", "xva.py", "trees.py", "oci.py")
_QEMU: dict[str, Callable[[Subject, Path, ToolsTree], None]] = {
    "qcow2": disks.make_qcow2,
    "raw.zst": disks.make_raw_zst,
    "vmdk": disks.make_vmdk,
    "vdi": disks.make_vdi,
    "vhd": disks.make_vhd,
    "vhd-fixed": disks.make_vhd_fixed,
    "vhdx": disks.make_vhdx,
    "hdd": disks.make_hdd,
    "root.tar.xz": trees.make_root,
    "incus.tar.xz": trees.make_incus,
    "oci": oci.make_oci,
}


@dataclass(frozen=True)
class FormatFile:
    """One format's file, read-only in the cache. ``file`` is the name to hand it out by.

    ``virtual_size_bytes`` is the disk's size, 0 where there is no disk in it; ``cached``: it did not have to be made.
    """

    format: str
    file: str
    path: Path
    size_bytes: int
    sha256: str
    virtual_size_bytes: int
    media_type: str
    cached: bool


def convert(name: str, subject: Subject, target: Path, tools: ToolsTree, made: Callable[[str], Path]) -> None:
    """Write one format of *subject* as *target*; ``made`` gives the file of a format that it needs."""
    if name in _QEMU:
        _QEMU[name](subject, target, tools)
    elif name == "ova":
        make_ova(subject, target, made("vmdk"))
    elif name == "xva":
        make_xva(subject, target)
    elif name == "containerdisk":
        oci.make_containerdisk(subject, target, made("qcow2"))
    else:
        trees.make_part(subject, name, target)


def _key(name: str, subject: Subject, tools: ToolsTree) -> str:
    code = Path(centralita.formats.__file__).parent
    return digest_of(
        "formats", name, subject.name, subject.title, subject.version, subject.digest, subject.tree_key, subject.build,
        subject.memory_mib, subject.vcpus, subject.cmdline, subject.epoch, tools.digest, [code / n for n in CODE],
    )  # fmt: skip


def _cached(name: str, subject: Subject, tools: ToolsTree, made: Callable[[str], Path]) -> FormatFile:
    """Take a format from the cache, or make it into the cache."""
    store = cache.Store()
    key = _key(name, subject, tools)
    file = file_name(subject.name, name)
    there = store.get("format", key)
    if there is None:
        with store.put("format", key) as folder:
            convert(name, subject, folder / file, tools, made)
            (folder / file).chmod(0o444)
            entry = {"size_bytes": (folder / file).stat().st_size, "sha256": sha256_of(folder / file)}
            (folder / "record.json").write_text(json.dumps(entry))
    found = store.get("format", key)
    assert found is not None
    entry = json.loads((found / "record.json").read_text())
    form = FORMATS[name]
    return FormatFile(
        format=name,
        file=file,
        path=found / file,
        size_bytes=entry["size_bytes"],
        sha256=entry["sha256"],
        virtual_size_bytes=subject.size_bytes if form.holds == "disk" else 0,
        media_type=form.media_type,
        cached=there is not None,
    )


def make_of(names: Sequence[str], subject: Subject, step: Step) -> tuple[FormatFile, ...]:
    """Make formats of *subject*, in the order of *names* (groups are resolved); advances *step* by one for each."""
    wanted = expand(names)
    everything = expand([*wanted, *(need for name in wanted for need in FORMATS[name].needs)])
    # The long ones first, and what others are made of before those.
    order = sorted(everything, key=lambda name: (bool(FORMATS[name].needs), -FORMATS[name].weight))
    tools = tools_tree("formats")
    futures: dict[str, Future[FormatFile]] = {}
    lock = threading.Lock()

    def one(name: str) -> FormatFile:
        made = _cached(name, subject, tools, lambda need: futures[need].result().path)
        with lock:
            if not made.cached:
                step.note(name)
            if name in wanted:
                step.advance(1)
        return made

    with ThreadPoolExecutor(max(2, os.cpu_count() or 2), thread_name_prefix="format") as pool:
        for name in order:
            futures[name] = pool.submit(one, name)
        try:
            return tuple(futures[name].result() for name in wanted)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def make(names: Sequence[str], golden: Golden, step: Step) -> tuple[FormatFile, ...]:
    """Make formats of a golden image; see `make_of`. Raises CentralitaError where one cannot be made."""
    with golden_subject(golden) as subject:
        return make_of(names, subject, step)
