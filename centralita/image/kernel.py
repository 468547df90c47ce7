"""Cuts a tree's kernel modules to the declared ones and makes its initramfs. Run by the element `kernel`."""

from __future__ import annotations

import json
import lzma
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from centralita.ground.run import run
from centralita.image.cpio import CpioArchive
from centralita.image.kmods import ModuleIndex, canonical, kernel_version

BUSYBOX_APPLETS = (
    "cat", "chroot", "echo", "find", "findfs", "modprobe", "mount", "sh", "sleep", "sort", "switch_root", "umount",
)  # fmt: skip
KERNEL_PATH = "boot/vmlinuz"
INITRAMFS_PATH = "boot/initrd.img"


@dataclass(frozen=True)
class KernelFacts:
    """What the kernel costs: ``modules`` is bytes by module in the root, ``initramfs_modules`` in the initramfs."""

    version: str
    kernel_bytes: int
    initramfs_bytes: int
    modules: dict[str, int]
    initramfs_modules: dict[str, int]


def _decompressed(path: Path) -> bytes:
    return lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()


def keep_modules(folder: Path, kept: Sequence[str]) -> dict[str, int]:
    """Leave only the *kept* paths in /usr/lib/modules/VERSION, uncompressed; returns bytes by module name."""
    sizes: dict[str, int] = {}
    staged = folder / "kernel.kept"
    for name in kept:
        target = staged / name.removeprefix("kernel/").removesuffix(".xz")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(_decompressed(folder / name))
        target.chmod(0o644)
        sizes[target.stem] = target.stat().st_size
    shutil.rmtree(folder / "kernel")
    if staged.exists():
        staged.rename(folder / "kernel")
    return sizes


def make_initramfs(root: Path, version: str, paths: Sequence[str], init: Path, busybox: bytes) -> bytes:
    """An initramfs of BusyBox, *init* and the modules *paths* (relative to /usr/lib/modules/VERSION)."""
    archive = CpioArchive()
    for name in ("dev", "proc", "sys", "root", "bin"):
        archive.folder(name)
    archive.device("dev/console", 5, 1)
    archive.file("init", init.read_bytes(), 0o755)
    archive.file("bin/busybox", busybox, 0o755)
    for applet in BUSYBOX_APPLETS:
        archive.symlink(f"bin/{applet}", "busybox")
    modules = root / "usr/lib/modules" / version
    below = f"lib/modules/{version}"
    for path in paths:
        archive.file(f"{below}/{path}", (modules / path).read_bytes())
    # BusyBox's modprobe reads the text tables; lines about modules that are not here would only cost time.
    names = {canonical(Path(p).stem) for p in paths}
    dep = [line for line in (modules / "modules.dep").read_text().splitlines() if line.split(":")[0] in paths]
    alias = [
        line
        for line in (modules / "modules.alias").read_text().splitlines()
        if line.startswith("alias ") and canonical(line.rsplit(" ", 1)[-1]) in names
    ]
    archive.file(f"{below}/modules.dep", ("\n".join(dep) + "\n").encode())
    archive.file(f"{below}/modules.alias", ("\n".join(alias) + "\n").encode())
    return archive.finish()


def trim_kernel(root: Path, modules: Sequence[str], initramfs_modules: Sequence[str], init: Path) -> KernelFacts:
    """Cut modules, run the tree's depmod, write /boot/vmlinuz and /boot/initrd.img; returns what they cost."""
    version = kernel_version(root)
    folder = root / "usr/lib/modules" / version
    index = ModuleIndex(folder)
    sizes = keep_modules(folder, index.closure([*modules, *initramfs_modules]))
    run(["chroot", root, "depmod", "-a", version])
    after = ModuleIndex(folder)
    in_initramfs = after.closure(initramfs_modules)
    busybox_path = root / "usr/bin/busybox"
    # The kernel's package makes these links in its postinst, or leaves the image elsewhere.
    boot = root / "boot"
    image = next(p for p in (boot / f"vmlinuz-{version}", folder / "vmlinuz") if p.is_file())
    for link in ("vmlinuz", "vmlinuz.old", "initrd.img", "initrd.img.old"):
        (root / link).unlink(missing_ok=True)
        (boot / link).unlink(missing_ok=True)
    data = image.read_bytes()
    for copy in {boot / f"vmlinuz-{version}", folder / "vmlinuz"}:
        copy.unlink(missing_ok=True)
    (root / KERNEL_PATH).write_bytes(data)
    (root / INITRAMFS_PATH).write_bytes(make_initramfs(root, version, in_initramfs, init, busybox_path.read_bytes()))
    for path in (root / KERNEL_PATH, root / INITRAMFS_PATH):
        path.chmod(0o644)
    for name in ("System.map", "config"):
        (folder / name).unlink(missing_ok=True)
    return KernelFacts(
        version=version,
        kernel_bytes=len(data),
        initramfs_bytes=(root / INITRAMFS_PATH).stat().st_size,
        modules=sizes,
        initramfs_modules={Path(p).stem: (folder / p).stat().st_size for p in in_initramfs},
    )


def main(argv: Sequence[str]) -> int:
    """``python -m centralita.image.kernel ROOT SPEC.json INIT FACTS.json``."""
    root, spec_path, init, facts_path = map(Path, argv)
    kernel = json.loads(spec_path.read_text())["kernel"]
    facts = trim_kernel(root, kernel["modules"], kernel["initramfs_modules"], init)
    facts_path.write_text(json.dumps(asdict(facts), indent=1))
    print(f"kernel {facts.version}: {len(facts.modules)} modules, initramfs of {facts.initramfs_bytes} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
