"""Tools trees: programs of a fixed Debian release, unpacked into the cache and run with their own loader and libraries.

What a build makes must not depend on which release the build host runs. The idea is mkosi's.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from centralita.ground import cache, paths
from centralita.ground.cache import digest_of
from centralita.ground.errors import CentralitaError
from centralita.packages.fetch import deb_path
from centralita.packages.lockfile import LockedPackage
from centralita.packages.source import PackageSet, Request, current_lock, obtain

LIBRARY_DIRS = ("usr/lib/x86_64-linux-gnu", "usr/lib", "lib/x86_64-linux-gnu")


@dataclass(frozen=True)
class ToolSet:
    """Packages of one Debian suite that make a tools tree."""

    name: str
    suite: str
    packages: tuple[str, ...]
    # Virtual or real packages that count as installed: what a tree has no use for.
    provides: tuple[str, ...] = ()

    @property
    def request(self) -> Request:
        """The request to the build host's mirror. A stable suite's age says nothing, so it may be expired."""
        return Request(self.packages, self.suite, accept_expired=True, provides=self.provides, bootable=False)

    @property
    def lock_path(self) -> Path:
        """The tree's lock, part of the code."""
        return Path(__file__).parent / "locks" / f"{self.name}.lock"


# What dom0's packages ask for, and a dom0 that is made here has no use for.
XEN_PROVIDES = ("grub-common", "grub2-common", "initramfs-tools", "linux-initramfs-tool", "ucf", "udev")
TOOL_SETS = {
    s.name: s
    for s in (
        # Makes the disk: its bytes decide the golden digest.
        ToolSet(
            "disk",
            "trixie",
            (
                "e2fsprogs", "libarchive13t64", "mtools", "fdisk", "zstd", "grub-common", "grub-pc-bin",
                "grub-efi-amd64-signed", "shim-signed",
            ),
        ),
        # Converts the disk: the bytes of a published file must not depend on who converts.
        ToolSet("formats", "trixie", ("gzip", "qemu-utils", "xz-utils", "zstd")),
        # Runs Incus in the lab: Debian 12 has it in its backports only, where it would replace the host's QEMU.
        ToolSet(
            "incus",
            "trixie",
            (
                "attr", "bash", "coreutils", "iproute2", "incus-base", "incus-client", "kmod", "mount", "nftables",
                "rsync", "sed", "tar", "uidmap", "util-linux", "xz-utils",
            ),
            provides=("init-system-helpers", "lxcfs", "dnsmasq-base", "apparmor", "systemd", "default-logind"),
        ),
        # Serve a depot to its clients in the tests: as Debian packages they would start as services of the host.
        ToolSet(
            "servers",
            "trixie",
            ("docker-registry", "lighttpd", "lighttpd-mod-openssl"),
            provides=("adduser", "lsb-base", "media-types", "perl", "systemd"),
        ),
        # Runs the phones: their library has wheels for CPython up to 3.12 only.
        ToolSet(
            "phones",
            "bookworm",
            (
                "python3.11-minimal", "libpython3.11-stdlib", "libstdc++6", "libuuid1", "libasound2",
            ),
        ),
        # Runs the Xen host: later versions of QEMU emulate nested virtualisation wrongly (docs/xen.md).
        ToolSet("qemu72", "bookworm", ("qemu-system-x86",)),
        # The Xen host itself: hypervisor, dom0's kernel and toolstack (centralita/lab/xen/dom0.py makes its disk).
        ToolSet(
            "xen-dom0",
            "bookworm",
            (
                "xen-hypervisor-4.17-amd64", "xen-utils-4.17", "linux-image-amd64", "grub-xen-host", "qemu-system-xen",
                "ovmf", "busybox-static", "bash", "coreutils", "findutils", "grep", "iproute2", "kmod", "mawk", "mount",
                "ncurses-base", "python3", "sed", "util-linux",
            ),
            provides=XEN_PROVIDES,
        ),
        # The same of Debian 13: Xen 4.20, by name only.
        ToolSet(
            "xen-dom0-4.20",
            "trixie",
            (
                "xen-hypervisor-4.20-amd64", "xen-utils-4.20", "linux-image-amd64", "grub-xen-host", "qemu-system-xen",
                "busybox-static", "bash", "coreutils", "findutils", "grep", "iproute2", "kmod", "mawk", "mount",
                "ncurses-base", "python3", "sed", "util-linux",
            ),
            provides=XEN_PROVIDES,
        ),
        # The first one with libvirt's Xen driver besides, by name only.
        ToolSet(
            "xen-dom0-libvirt",
            "bookworm",
            (
                "xen-hypervisor-4.17-amd64", "xen-utils-4.17", "linux-image-amd64", "grub-xen-host", "qemu-system-xen",
                "busybox-static", "bash", "coreutils", "findutils", "grep", "iproute2", "kmod", "mawk", "mount",
                "ncurses-base", "python3", "sed", "util-linux", "libvirt-daemon", "libvirt-daemon-driver-xen",
                "libvirt-clients",
            ),
            provides=(*XEN_PROVIDES, "qemu-system-x86", "qemu-kvm", "libvirt-daemon-driver-qemu"),
        ),
        # GRUB for Xen's guests: from 2.14 on its PV loader knows zstd, which Debian 14's kernel is compressed by.
        ToolSet("grub-xen", "forky", ("grub-xen-host",)),
        # UEFI for Xen's HVM guests: edk2 moved Xen into a build of its own (OvmfXen), which Debian has not.
        ToolSet("ovmf-xen", "bullseye", ("ovmf",)),
    )
}  # fmt: skip


@dataclass(frozen=True)
class ToolsTree:
    """An unpacked tools tree. ``digest`` identifies its packages; ``unlocked``: they are not the locked ones."""

    name: str
    root: Path
    digest: str
    unlocked: bool

    def loader(self) -> list[str]:
        """Arguments that run a program of the tree with the tree's loader and libraries."""
        # Not by usr/lib64: that link may be absolute, and would lead out of the tree to the build host's loader.
        loader = next(p for p in (self.root / d / "ld-linux-x86-64.so.2" for d in LIBRARY_DIRS) if p.is_file())
        libraries = ":".join(str(self.root / d) for d in LIBRARY_DIRS)
        return [str(loader), "--library-path", libraries]

    def command(self, program: str) -> list[str]:
        """The start of an argv for *program*; raises CentralitaError where the tree has none of that name."""
        for folder in ("usr/bin", "usr/sbin"):
            path = self.root / folder / program
            if path.exists():
                return [*self.loader(), str(path)]
        raise CentralitaError(f"the tools tree {self.name} has no program {program}")

    def file(self, path: str) -> Path:
        """A file of the tree by its absolute path."""
        found = self.root / path.lstrip("/")
        if not found.exists():
            raise CentralitaError(f"the tools tree {self.name} has no file {path}")
        return found


def unpack(packages: Iterable[LockedPackage], root: Path) -> None:
    """Unpack .deb files from the store below *root*; no script of theirs is run."""
    for link in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / link).mkdir(parents=True, exist_ok=True)
        (root / link).symlink_to(f"usr/{link}")
    for package in packages:
        reader = subprocess.Popen(
            ["dpkg-deb", "--fsys-tarfile", deb_path(package)], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
        )
        done = subprocess.run(
            [
                "tar", "-C", root, "--keep-directory-symlink", "--no-same-owner", "--exclude=./usr/share/doc",
                "--exclude=./usr/share/man", "--exclude=./usr/share/locale", "-xf", "-",
            ],
            stdin=reader.stdout, capture_output=True, check=False,
        )  # fmt: skip
        assert reader.stdout is not None
        reader.stdout.close()
        if reader.wait() != 0 or done.returncode != 0:
            raise CentralitaError(
                f"cannot unpack {package.file_name}: {done.stderr.decode(errors='replace').strip()}",
                hint="is the disk of the cache full? `invoke clean` frees it",
            )


def tools_tree(name: str) -> ToolsTree:
    """The tools tree *name*, unpacked into the cache where it is not there yet."""
    tools = TOOL_SETS[name]
    store = cache.Store(paths.cache_dir() / "store")
    lock = current_lock(tools.lock_path, tools.request)
    if lock is not None:
        key = digest_of("tools", lock.packages)
        found = store.get("tools", key)
        if found is not None:
            return ToolsTree(name, found / "tree", key, unlocked=False)
    with cache.lock(f"tools-{name}"):
        got: PackageSet = obtain(tools.request, tools.lock_path, renew="invoke lock tools")
        key = digest_of("tools", got.lock.packages)
        found = store.get("tools", key)
        if found is None:
            with store.put("tools", key) as folder:
                unpack(got.lock.packages, folder / "tree")
            found = store.get("tools", key)
            assert found is not None
        return ToolsTree(name, found / "tree", key, unlocked=bool(got.unlocked))
