"""Incus itself in the lab: its daemon of a pinned tools tree, in a root of its own, on the lab's bridge."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from centralita.ground import ledger as ledgers
from centralita.ground.errors import CentralitaError
from centralita.ground.run import Completed, run
from centralita.image.ostree import private_mounts
from centralita.lab.net import BRIDGE, LabNetwork
from centralita.lab.outside import Outside
from centralita.packages.tools import tools_tree

READY_S = 120
ROOT_USER = 1_000_000
# Where Go programs look for certificate authorities on Debian.
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
# The daemon starts itself again by /proc/self/exe, and makes user namespaces, which the kernel refuses in a chroot:
# so the tree becomes its root. Its /sys must be that of the lab's network, and its cgroups the second version.
_STARTER = """\
mount --bind "$1" "$1"
cd "$1"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 none sys/fs/cgroup
mount --rbind /dev dev
mount -t tmpfs none run
mount -t tmpfs none tmp
mkdir -p .old run/incus
pivot_root . .old
cd /
/usr/bin/umount -l /.old
exec /usr/bin/env PATH=/usr/sbin:/usr/bin HOME=/root INCUS_SECURITY_APPARMOR=false /usr/libexec/incus/incusd
"""


@dataclass(frozen=True)
class Incus:
    """A running daemon with one storage pool; instances have their eth0 on the lab's bridge."""

    daemon: Outside
    root: Path

    def client(self, *argv: str, check: bool = True, timeout_s: float = 300) -> Completed:
        """Run `incus` with these arguments; paths in them are the daemon's."""
        enter = ["nsenter", "-t", str(self.daemon.pid), "-m", "-n", "-r", "-w/"]
        program = ["/usr/bin/env", "PATH=/usr/sbin:/usr/bin", "HOME=/root", "/usr/bin/incus", *argv]
        return run([*enter, *program], check=check, timeout_s=timeout_s)

    def bring(self, path: Path, name: str = "") -> str:
        """Copy a file or a folder to where the daemon sees it, readable by a container's root; return its path."""
        target = self.root / "root" / (name or path.name)
        if path.is_dir():
            shutil.copytree(path, target)
            run(["chown", "-R", f"{ROOT_USER}:{ROOT_USER}", target])
        else:
            shutil.copyfile(path, target)
        return f"/root/{target.name}"

    def fetched(self, path: str) -> Path:
        """Where a file that the daemon's client wrote is outside of its root."""
        return self.root / path.lstrip("/")


@contextmanager
def incus(network: LabNetwork, workdir: Path, *, ca: Path | None = None) -> Iterator[Incus]:
    """Run the daemon; instances that are left are stopped on the way out, and all of it is gone.

    It and its client believe the certificate authority ``ca``, and no other.
    """
    private = private_mounts()
    if not private:
        raise CentralitaError("Incus cannot run here: / is no mount point", hint="run it outside of the chroot")
    tree = tools_tree("incus")
    with ExitStack() as stack:
        home = stack.enter_context(ledgers.default().tempdir("centralita-incus-", parent=Path("/var/tmp"), mode=0o711))
        root = home / "root"
        run(["cp", "-a", tree.root, root])
        for name in ("proc", "sys", "dev", "run", "tmp", "root", "var/lib/incus", "var/log/incus"):
            (root / name).mkdir(parents=True, exist_ok=True)
        (root / "root").chmod(0o711)
        (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
        (root / "etc/group").write_text("root:x:0:\n")
        for name in ("subuid", "subgid"):
            (root / "etc" / name).write_text(f"root:{ROOT_USER}:1000000000\n")
        if ca is not None:
            (root / CERTIFICATES).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ca, root / CERTIFICATES)
        # The tree has no dash.
        (root / "usr/bin/sh").unlink(missing_ok=True)
        (root / "usr/bin/sh").symlink_to("bash")
        argv = [*private, "sh", "-euc", _STARTER, "sh", str(root)]
        daemon = stack.enter_context(Outside(argv, network, workdir, name="incusd"))
        made = Incus(daemon, root)
        daemon.wait_until((root / "var/lib/incus/server.key").exists, "make its keys", timeout_s=READY_S)
        made.client("admin", "waitready", f"--timeout={READY_S}")
        made.client("storage", "create", "default", "dir")
        made.client("profile", "device", "add", "default", "root", "disk", "path=/", "pool=default")
        made.client("profile", "device", "add", "default", "eth0", "nic", "nictype=bridged", f"parent={BRIDGE}",
                    "name=eth0")  # fmt: skip
        stack.callback(lambda: made.client("stop", "--all", "--force", check=False, timeout_s=60))
        yield made
