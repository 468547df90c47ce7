"""Makes the Xen host's boot files and dom0's disk from locked Debian packages, once: they are cached by content.

dom0's disk is a bare ext4 file system without a journal; it is opened as a snapshot, so no run changes it.
"""

from __future__ import annotations

import gzip
import shutil
from dataclasses import dataclass
from pathlib import Path

from centralita.ground import cache, ledger, paths
from centralita.ground.cache import digest_of
from centralita.ground.report import get_reporter
from centralita.ground.run import run
from centralita.image.kernel import keep_modules, make_initramfs
from centralita.image.kmods import ModuleIndex, kernel_version
from centralita.packages.lockfile import LockedPackage
from centralita.packages.source import current_lock, obtain
from centralita.packages.tools import TOOL_SETS, ToolsTree, tools_tree, unpack

#: The sets of packages that a dom0 can be made of (centralita/packages/tools.py).
DOM0, DOM0_420, DOM0_LIBVIRT = "xen-dom0", "xen-dom0-4.20", "xen-dom0-libvirt"
GRUB = "usr/lib/grub-xen"
#: Where dom0's own GRUB lies, that of its Debian release: a newer one has its place.
OWN_GRUB = "usr/lib/grub-xen-own"
#: Firmware for HVM guests by UEFI.
OVMF = "usr/share/ovmf/OVMF-xen.fd"
INSIDE = Path(__file__).with_name("inside")
DISK_MIB = 512
MKE2FS_CONF = """\
[defaults]
blocksize = 4096
inode_size = 256
inode_ratio = 16384
[fs_types]
ext4 = {
}
"""
INITRAMFS_MODULES = ("virtio_pci", "virtio_blk", "crc32c_generic", "ext4")
MODULES = (
    *INITRAMFS_MODULES, "virtio_net", "virtio_console", "virtio_rng", "bridge", "tun", "loop", "xen-privcmd",
    "xen-evtchn", "xen-gntdev", "xen-gntalloc", "xenfs", "xen-netback", "xen-blkback",
)  # fmt: skip
# What neither xl, pygrub nor a device model reads.
UNUSED = (
    "boot", "usr/share/locale", "usr/share/info", "usr/share/perl5", "usr/share/iso-codes", "usr/share/xml",
    "usr/share/bash-completion", "usr/share/lintian", "usr/share/common-licenses", "usr/share/OVMF",
    "usr/lib/grub",
)  # fmt: skip
# What is ours in dom0; the scripts take the place of Xen's own.
OWN_FILES = {
    "usr/lib/centralita": ("init", "agent.py", "receive.py"),
    "etc/xen/scripts": ("vif-bridge", "block"),
}
LINKS = {
    "sbin/init": "../lib/centralita/init",
    "usr/bin/awk": "mawk",
    "usr/bin/sh": "bash",
    "var/run": "/run",
    "var/lock": "/run/lock",
}
FOLDERS = (
    "dev", "proc", "sys", "run", "tmp", "root", "etc", "var/lib/xen", "var/log/xen/console", "usr/lib/centralita",
)  # fmt: skip


@dataclass(frozen=True)
class Dom0:
    """What a Xen host boots: the hypervisor (an ELF file), dom0's kernel, initramfs and disk (raw ext4)."""

    xen: Path
    kernel: Path
    initramfs: Path
    disk: Path
    key: str


def _key(packages: tuple[LockedPackage, ...], trees: dict[str, ToolsTree]) -> str:
    return digest_of("xen-dom0", packages, [tree.digest for tree in trees.values()], INSIDE, Path(__file__))


def _found(folder: Path, key: str) -> Dom0:
    return Dom0(folder / "xen", folder / "vmlinuz", folder / "initrd.img", folder / "disk.raw", key)


def dom0(name: str = DOM0) -> Dom0:
    """The Xen host's files, from the cache or made (half a minute, and 130 MB of packages the first time)."""
    tools = TOOL_SETS[name]
    trees = {tree: tools_tree(tree) for tree in ("disk", "grub-xen", "ovmf-xen")}
    store = cache.Store()
    lock = current_lock(tools.lock_path, tools.request)
    if lock is not None:
        found = store.get("xen-dom0", key := _key(lock.packages, trees))
        if found is not None:
            return _found(found, key)
    with cache.lock(name), get_reporter().step("Xen host"):
        packages = obtain(tools.request, tools.lock_path, renew="invoke lock tools").lock.packages
        key = _key(packages, trees)
        if store.get("xen-dom0", key) is None:
            with store.put("xen-dom0", key) as folder:
                _make(packages, folder, trees)
        made = store.get("xen-dom0", key)
        assert made is not None
        return _found(made, key)


def _make(packages: tuple[LockedPackage, ...], folder: Path, trees: dict[str, ToolsTree]) -> None:
    with ledger.default().tempdir("xen-dom0-", parent=paths.cache_dir()) as work:
        root = work / "tree"
        unpack(packages, root)
        version = kernel_version_of(root)
        (folder / "xen").write_bytes(gzip.decompress(next(root.glob("boot/xen-*-amd64.gz")).read_bytes()))
        shutil.copyfile(root / f"boot/vmlinuz-{version}", folder / "vmlinuz")
        _make_initramfs(root, version, folder / "initrd.img")
        _furnish(root)
        (root / GRUB).rename(root / OWN_GRUB)
        shutil.copytree(trees["grub-xen"].file(GRUB), root / GRUB)
        (root / OVMF).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(trees["ovmf-xen"].file("usr/share/ovmf/OVMF.fd"), root / OVMF)
        _compile_python(root)
        config = work / "mke2fs.conf"
        config.write_text(MKE2FS_CONF)
        with (folder / "disk.raw").open("wb") as stream:
            stream.truncate(DISK_MIB * 1024 * 1024)
        run(
            [
                *trees["disk"].command("mke2fs"), "-q", "-F", "-t", "ext4", "-O", "extent,dir_index,filetype,flex_bg",
                "-m", "0", "-L", "dom0", "-E", "root_owner=0:0,lazy_itable_init=0", "-d", root, folder / "disk.raw",
            ],
            env={"MKE2FS_CONFIG": str(config)},
        )  # fmt: skip


def kernel_version_of(root: Path) -> str:
    """The kernel's version; its module tables are made here, because no package's script ran."""
    version = next(p.name for p in (root / "usr/lib/modules").iterdir() if (p / "kernel").is_dir())
    run(["depmod", "-b", root, version])
    return kernel_version(root)


def _make_initramfs(root: Path, version: str, path: Path) -> None:
    modules = root / "usr/lib/modules" / version
    keep_modules(modules, ModuleIndex(modules).closure(MODULES))
    run(["depmod", "-b", root, version])
    names = ModuleIndex(modules).closure(INITRAMFS_MODULES)
    busybox = (root / "usr/bin/busybox").read_bytes()
    path.write_bytes(make_initramfs(root, version, names, INSIDE / "initramfs-init", busybox))


def _furnish(root: Path) -> None:
    """Take away what is not used, and add what packages' scripts would have made, the init and the agent."""
    for name in UNUSED:
        shutil.rmtree(root / name, ignore_errors=True)
    for name in FOLDERS:
        (root / name).mkdir(parents=True, exist_ok=True)
    for name, target in LINKS.items():
        link = root / name
        if link.is_dir() and not link.is_symlink():
            link.rmdir()  # base-files ships empty folders, and its script replaces them
        if not link.is_symlink():
            link.symlink_to(target)
    for applet in run([root / "usr/bin/busybox", "--list"]).stdout.split():
        if not any((root / folder / applet).exists() for folder in ("usr/bin", "usr/sbin")):
            (root / "usr/bin" / applet).symlink_to("busybox")
    for folder, names in OWN_FILES.items():
        for name in names:
            shutil.copyfile(INSIDE / name, root / folder / name)
            (root / folder / name).chmod(0o755)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/bash\n")
    (root / "etc/group").write_text("root:x:0:\n")


def _compile_python(root: Path) -> None:
    """Compile Python's library with the tree's own Python: in emulation that would cost seconds at each start."""
    tree = ToolsTree("xen-dom0", root, "", unlocked=False)
    python = next(path.name for path in (root / "usr/lib").glob("python3.*"))
    xen = next(str(path.relative_to(root)) for path in (root / "usr/lib").glob("xen-*/lib/python"))
    folders = [f"usr/lib/{python}", xen, "usr/lib/centralita"]
    run(
        [
            *tree.command(python), "-I", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash",
            # Code that has syntax errors on purpose lies among the tests of lib2to3.
            "-x", "lib2to3/tests", "-s", root, "-p", "/", *(root / f for f in folders),
        ],
        env={"PYTHONHOME": str(root / "usr")}, check=False,
    )  # fmt: skip
