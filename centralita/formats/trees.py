"""The OS tree for containers, the metadata that Incus wants beside it, and the kernel for a direct boot."""

from __future__ import annotations

import copy
import json
import tarfile
from pathlib import Path

from centralita.formats.disks import add
from centralita.formats.subject import Subject
from centralita.ground.errors import CentralitaError
from centralita.ground.run import run
from centralita.packages.tools import ToolsTree

# A container runs on its host's kernel.
LEFT_OUT = ("boot/", "usr/lib/modules/")
KERNEL, INITRD = "boot/vmlinuz", "boot/initrd.img"
ABOUT = "etc/centralita/appliance.json"
METADATA = """\
architecture: x86_64
creation_date: {epoch}
properties:
  architecture: amd64
  description: {title}
  name: {name}
  os: centralita
  release: {version}
  serial: "{build}"
  variant: default
"""


def write_tree(subject: Subject, target: Path) -> None:
    """Write the tree as a tar: all but the kernel, and what it is."""
    with tarfile.open(subject.tree) as tar, tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as out:
        there = False
        for member in tar:
            if member.name.startswith(LEFT_OUT):
                continue
            there = there or member.name == ABOUT
            out.addfile(copy.copy(member), tar.extractfile(member) if member.isreg() else None)
        if not there:
            name, version = subject.appliance or subject.name, subject.version.partition("+")[0]
            about = {"appliance": name, "version": version, "build": subject.build}
            add(out, ABOUT, (json.dumps(about, indent=1, sort_keys=True) + "\n").encode(), subject.epoch)


def _xz(plain: Path, tools: ToolsTree) -> None:
    # Blocks of a fixed size: the bytes must not depend on the host's processors.
    run([*tools.command("xz"), "-q", "-6", "-T2", "--block-size=16MiB", plain])


def make_root(subject: Subject, target: Path, tools: ToolsTree) -> None:
    """Write the tree as root.tar.xz."""
    plain = target.with_suffix("")
    write_tree(subject, plain)
    _xz(plain, tools)


def make_incus(subject: Subject, target: Path, tools: ToolsTree) -> None:
    """Write the metadata of Incus's split image (its manual, "Image format"); container and VM share it."""
    plain = target.with_suffix("")
    text = METADATA.format(
        epoch=subject.epoch, title=json.dumps(subject.title), name=json.dumps(f"{subject.name}-{subject.version}"),
        version=json.dumps(subject.version), build=subject.build,
    )  # fmt: skip
    with tarfile.open(plain, "w", format=tarfile.USTAR_FORMAT) as out:
        add(out, "metadata.yaml", text.encode(), subject.epoch)
        add(out, "templates", None, subject.epoch, mode=0o755)
    _xz(plain, tools)


def make_part(subject: Subject, name: str, target: Path) -> None:
    """Write the kernel, the initrd or the command line of a direct boot."""
    if name == "cmdline":
        target.write_text(" ".join(subject.cmdline) + "\n")
        return
    with tarfile.open(subject.tree) as tar:
        target.write_bytes(_read(tar, KERNEL if name == "kernel" else INITRD))


def _read(tar: tarfile.TarFile, name: str) -> bytes:
    try:
        # Through links: the kernel's plain name may be one to its versioned file.
        stream = tar.extractfile(name)
    except KeyError:
        stream = None
    if stream is None:
        raise CentralitaError(f"the OS tree has no {name}", hint="the element kernel makes it")
    return stream.read()
