"""A libvirt daemon of the lab: a plain process in the lab's network, with folders of its own.

libvirtd(8) run by root always uses /run/libvirt, /var/lib/libvirt and /etc/libvirt. So it gets a mount namespace, in
which those are folders of ours; a namespace of processes, whose end is the end of every domain, because libvirt starts
them as daemons; and the lab's network, whose bridge its domains are put on. The host's own libvirt, where there is
one, sees nothing of it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType

from centralita.ground import ledger as ledgers
from centralita.ground.errors import CentralitaError
from centralita.ground.run import environment, run
from centralita.image.ostree import private_mounts
from centralita.lab.net import LabNetwork

DAEMON = "libvirtd"
START_S = 60.0
#: What libvirt writes to, and what of it the daemon's own folder stands in for.
FOLDERS = {
    "etc": Path("/etc/libvirt"),
    "lib": Path("/var/lib/libvirt"),
    "cache": Path("/var/cache/libvirt"),
    "log": Path("/var/log/libvirt"),
    "run": Path("/run/libvirt"),
}
# The daemon's only; all other kinds of driver look at the host's devices, networks and firewall.
DRIVERS = Path("/usr/lib/x86_64-linux-gnu/libvirt/connection-driver")
DRIVER = "libvirt_driver_qemu.so"
QEMU_CONF = """\
# No user of libvirt's, no security module and no control groups: the lab's domains run as the lab does.
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
"""
LIBVIRTD_CONF = """\
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_rw_perms = "0700"
listen_tls = 0
"""
# Debian's libvirt does not start without its user, whom only the package libvirt-daemon-system makes; and that package
# would start a libvirt of the host's own.
USER, GROUP = "libvirt-qemu:x:64055:994::/var/lib/libvirt:/usr/sbin/nologin\n", "kvm:x:994:\nlibvirt-qemu:x:64055:\n"
# The first process of the namespace: it reaps what loses its parent, as an init does.
STARTER = """
folder=$1; shift
for name in etc lib cache log run; do
    eval "target=\\$$name"
    mkdir -p "$target"
    mount --bind "$folder/$name" "$target"
done
for name in passwd group; do mount --bind "$folder/$name" "/etc/$name"; done
trap 'kill "$child"; wait "$child"; exit' TERM
"$@" &
child=$!
wait "$child"
"""


class Libvirtd:
    """A libvirt daemon in the lab's network, as a context manager.

    Example:
        >>> with Libvirtd(network, folder) as daemon:  # doctest: +SKIP
        ...     run(["virsh", "-c", daemon.uri, "list"])
    """

    def __init__(self, network: LabNetwork, folder: Path) -> None:
        """`folder` holds what the daemon writes, and its log."""
        self.network = network
        self.folder = folder
        self._stack = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        """The daemon's socket, as seen from outside its namespaces."""
        return self.folder / "run/libvirt-sock"

    @property
    def uri(self) -> str:
        """Libvirt's name of this host, for this machine's programs."""
        return f"qemu+unix:///system?socket={self.socket}"

    @property
    def log(self) -> Path:
        """What the daemon said."""
        return self.folder / "libvirtd.log"

    def inside(self, argv: Sequence[str | Path]) -> list[str]:
        """Return the argument list that runs `argv` where the daemon is: its network, folders and processes."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        return ["nsenter", "--target", children[0], "--mount", "--net", "--pid", "--", *map(str, argv)]

    @contextmanager
    def ssh_server(self, port: int = 2222) -> Iterator[str]:
        """Let this host be reached by ssh; yields the part of a URI that says how: `root@…:2222/…?keyfile=…`."""
        keys = self.folder / "root/.ssh"
        keys.mkdir(mode=0o700)
        client, server = keys / "client", keys / "server"
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", client])
        (keys / "authorized_keys").write_text(client.with_suffix(".pub").read_text())
        said = run(["dropbearkey", "-t", "ed25519", "-f", server]).stdout
        public = next(line for line in said.splitlines() if line.startswith("ssh-ed25519"))
        address = self.network.host_address
        (keys / "known_hosts").write_text(f"[{address}]:{port} {' '.join(public.split()[:2])}\n")
        argv = ["dropbear", "-F", "-E", "-s", "-r", str(server), "-p", f"{address}:{port}", "-P", str(keys / "pid")]
        with (
            self.log.open("ab") as sink,
            ledgers.default().process(self.inside(argv), env=environment(), stdout=sink, stderr=sink) as process,
        ):
            deadline = time.monotonic() + START_S
            while not self.network.tcp_open(address, port):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise CentralitaError("dropbear does not listen", log=self.log)
                time.sleep(0.05)
            yield f"root@{address}:{port}/system?keyfile={client}&known_hosts={keys / 'known_hosts'}"

    def __enter__(self) -> Libvirtd:
        daemon = shutil.which(DAEMON, path=environment()["PATH"])
        if daemon is None:
            raise CentralitaError(f"{DAEMON} is not installed", hint="./bootstrap installs what is missing")
        for name in FOLDERS:
            (self.folder / name).mkdir(parents=True)
        (self.folder / "etc/qemu.conf").write_text(QEMU_CONF)
        (self.folder / "etc/libvirtd.conf").write_text(LIBVIRTD_CONF)
        home = self.folder / "root"
        home.mkdir(mode=0o700)
        users = re.sub(r"(?m)^(root:(?:[^:]*:){4})[^:]*", rf"\1{home}", Path("/etc/passwd").read_text())
        (self.folder / "passwd").write_text(users + USER)
        (self.folder / "group").write_text(Path("/etc/group").read_text() + GROUP)
        drivers = self.folder / "drivers"
        drivers.mkdir()
        (drivers / DRIVER).symlink_to(DRIVERS / DRIVER)
        book = ledgers.default()
        with ExitStack() as stack:
            mounts = private_mounts()
            if not mounts:  # in a chroot: what is mounted there would stay
                for target in (*FOLDERS.values(), Path("/etc/passwd"), Path("/etc/group")):
                    stack.enter_context(book.mount(target))
            sink = stack.enter_context(self.log.open("ab"))
            argv = [*mounts, "unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
            argv += ["bash", "-c", STARTER, "bash", str(self.folder), daemon, "--config", "/etc/libvirt/libvirtd.conf"]
            argv += ["--pid-file", "/run/libvirt/libvirtd.pid"]
            env = {**environment({"LIBVIRT_DRIVER_DIR": str(drivers)}), **{n: str(p) for n, p in FOLDERS.items()}}
            self._process = stack.enter_context(
                book.process(self.network.argv(argv), env=env, grace_s=10.0, stdout=sink, stderr=sink)
            )
            self._wait()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _wait(self) -> None:
        """Wait until the daemon answers."""
        assert self._process is not None
        deadline = time.monotonic() + START_S
        said = ""
        while time.monotonic() < deadline and self._process.poll() is None:
            if self.socket.exists():
                done = run(["virsh", "-c", self.uri, "version"], check=False)
                if done.returncode == 0:
                    return
                said = done.stderr.strip()
            time.sleep(0.1)
        said = said or self.log.read_text(errors="replace")[-1500:]
        raise CentralitaError(f"{DAEMON} does not answer: {said}", log=self.log)
