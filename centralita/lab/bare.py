"""Asterisk of an OS tree without a machine: in a root of its own and a network namespace on the lab's bridge.

It starts in a second where an emulated machine takes a minute. What belongs to the machine (kernel, systemd, networkd)
is not there; what belongs to the telephone system is the same: the tree's programs, the golden and the rendered files.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from types import TracebackType

from centralita.clone.archive import numbers_of
from centralita.clone.files import GuestFile
from centralita.ground import ledger as ledgers
from centralita.ground.errors import CentralitaError
from centralita.ground.run import environment, run
from centralita.image.ostree import private_mounts
from centralita.lab import netns
from centralita.lab.net import BRIDGE, LabNetwork

START_S = 60.0
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
_STARTER = 'hostname "$2"; mount -t proc proc "$1/proc"; mount --rbind /dev "$1/dev"; \
mount --make-rslave "$1/dev"; \
[ -z "$3" ] || export LD_PRELOAD=/faketime.so FAKETIME="$3" FAKETIME_DONT_FAKE_MONOTONIC=1; exec chroot "$1" \
/usr/sbin/asterisk -f -U asterisk -G asterisk'


class BareAsterisk:
    """An Asterisk on the lab's bridge, as a context manager.

    Example:
        >>> with BareAsterisk(tree.tar, network, IPv4Interface("10.0.0.10/8"), render(tenant, identity)) as pbx:
        ...     print(pbx.cli("core show version"))  # doctest: +SKIP
    """

    def __init__(
        self,
        tree: Path,
        network: LabNetwork,
        interface: IPv4Interface,
        files: Sequence[GuestFile],
        *,
        name: str = "pbx",
        also: Sequence[IPv4Interface] = (),
        at: datetime | None = None,
    ) -> None:
        """``tree`` is the OS tree's tar; ``files`` are written into it (those below /etc/asterisk and the like).

        It has the addresses ``also`` too. With ``at`` its clock shows that time (in its own time zone) when it starts;
        that needs Debian's libfaketime.
        """
        self.network = network
        self.name = name
        self.root = Path()
        self._tree = tree
        self._interface = interface
        self._files = files
        self._also = also
        self._at = at
        self._stack = ExitStack()

    @property
    def address(self) -> IPv4Address:
        """The Asterisk's address on the bridge."""
        return self._interface.ip

    @property
    def log(self) -> str:
        """What Asterisk has logged."""
        return (self.root / "var/log/asterisk/messages.log").read_text(encoding="utf-8", errors="replace")

    def __enter__(self) -> BareAsterisk:
        ledger = ledgers.default()
        with ExitStack() as stack:
            self.root = stack.enter_context(
                ledger.tempdir(f"centralita-{self.name}-", parent=Path("/var/tmp"), mode=0o755)
            )
            run(["tar", "-C", self.root, "--numeric-owner", "-xpf", self._tree])
            self._write()
            space = f"ctl-{self.name}-{secrets.token_hex(3)}"
            stack.enter_context(ledger.netns(space))
            run(["ip", "netns", "add", space])
            self._wire(space)
            # Where there can be no mount namespace, the folder's mounts go with the folder.
            argv = [
                *private_mounts(),
                "unshare",
                "--uts",
                "--pid",
                "--fork",
                "--kill-child",
                "sh",
                "-eu",
                "-c",
                _STARTER,
                "sh",
            ]
            sink = stack.enter_context((self.root / "console.txt").open("wb"))
            process = stack.enter_context(
                ledger.process(
                    netns.enter_argv(space, [*argv, self.root, self.name, self._clock()]),
                    env=environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=sink,
                )
            )
            self._await(process)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def cli(self, command: str) -> str:
        """Run a command of Asterisk's command line."""
        return run(["chroot", self.root, "/usr/sbin/asterisk", "-rx", command]).stdout

    def _clock(self) -> str:
        """Put libfaketime into the root and return what it is to be told, or nothing."""
        if self._at is None:
            return ""
        if not FAKETIME.exists():
            raise CentralitaError(f"{FAKETIME} is not there", hint="apt-get install libfaketime")
        shutil.copy(FAKETIME, self.root / "faketime.so")
        return self._at.strftime("@%Y-%m-%d %H:%M:%S")

    def _write(self) -> None:
        passwd = numbers_of((self.root / "etc/passwd").read_bytes())
        group = numbers_of((self.root / "etc/group").read_bytes())
        for file in self._files:
            path = self.root / file.path.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True) if not path.is_dir() else None
            if file.symlink is not None:
                path.symlink_to(file.symlink)
                continue
            if file.directory:
                path.mkdir(exist_ok=True)
            else:
                path.write_bytes(file.content)
            path.chmod(file.mode)
            os.chown(path, passwd[file.owner], group[file.group])
        for made in ("run/asterisk", "var/cache/asterisk", "var/spool/asterisk/fax"):
            folder = self.root / made
            folder.mkdir(parents=True, exist_ok=True)
            os.chown(folder, passwd["asterisk"], group["asterisk"])

    def _wire(self, space: str) -> None:
        port = f"v{secrets.token_hex(4)}"
        run(self.network.argv(["ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", str(
            netns.NETNS_DIR / space)]))  # fmt: skip
        run(self.network.argv(["ip", "link", "set", port, "master", BRIDGE, "up"]))
        addresses = "".join(f"address add {interface} dev eth0\n" for interface in (self._interface, *self._also))
        batch = f"link set lo up\n{addresses}link set eth0 up\nroute add default dev eth0\n"
        run(netns.enter_argv(space, ["ip", "-batch", "-"]), stdin=batch.encode())

    def _await(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and process.poll() is None:
            done = run(["chroot", self.root, "/usr/sbin/asterisk", "-rx", "core waitfullybooted"], check=False)
            if "fully booted" in done.stdout:
                return
            # There is nothing to wait for before its socket is there.
            time.sleep(0.1)
        said = (self.root / "console.txt").read_text(errors="replace")[-2000:]
        raise CentralitaError(f"Asterisk of {self.name} did not start; it said:\n{said}")
