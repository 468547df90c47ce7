"""SSH into a machine of the lab: a throw-away key, the host keys of its identity, one connection for many commands."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from centralita.clone.identity import Identity
from centralita.ground import ledger as ledgers
from centralita.ground.errors import CentralitaError
from centralita.ground.run import Completed, run
from centralita.lab.net import LabNetwork
from centralita.lab.netns import enter_argv

HOST = "pbx"
CONNECTOR = Path(__file__).with_name("connect.py")
TIMEOUT_S = 120.0


@dataclass(frozen=True)
class AdminKey:
    """A key pair made for one session, and never used again."""

    private: Path
    public: str


@dataclass(frozen=True)
class SshAccess:
    """How a machine is reached: `ssh -F config pbx`."""

    config: Path
    key: AdminKey
    known_hosts: Path
    host: str = HOST

    def argv(self, command: str | None = None) -> list[str]:
        """Return the argument list that runs `command` (a line for the guest's shell), or a login shell."""
        return ["ssh", "-F", str(self.config), self.host, *([command] if command is not None else [])]

    def run(self, command: str, *, check: bool = True, timeout_s: float = TIMEOUT_S) -> Completed:
        """Run a line in the guest's shell. Raises CentralitaError where it fails (with `check`)."""
        return run(self.argv(command), check=check, timeout_s=timeout_s)


def make_key(folder: Path) -> AdminKey:
    """Make a key pair in `folder`."""
    path = folder / "admin_ed25519"
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "centralita-lab", "-f", path])
    return AdminKey(path, path.with_suffix(".pub").read_text(encoding="ascii").strip())


def known_hosts(identity: Identity) -> str:
    """Return the lines by which ssh knows the machine: it must have the host keys of its identity, and no others."""
    return "".join(f"{HOST} {' '.join(key.public.split()[:2])}\n" for key in identity.host_keys)


def ssh_config(address: IPv4Address, network_name: str, key: Path, hosts: Path, sockets: Path) -> str:
    """Return the text of ssh_config(5) for the machine. Paths may hold spaces."""
    proxy = [*enter_argv(network_name, [sys.executable, CONNECTOR]), "%h", "%p"]
    return "\n".join(
        (
            f"Host {HOST}",
            f"  HostName {address}",
            f"  HostKeyAlias {HOST}",
            "  User root",
            f'  IdentityFile "{key}"',
            "  IdentitiesOnly yes",
            f'  UserKnownHostsFile "{hosts}"',
            "  GlobalKnownHostsFile /dev/null",
            "  StrictHostKeyChecking yes",
            "  BatchMode yes",
            "  LogLevel ERROR",
            f"  ProxyCommand {shlex.join(proxy)}",
            "  ProxyUseFdpass yes",
            "  ConnectTimeout 60",
            "  ServerAliveInterval 15",
            "  ControlMaster auto",
            "  ControlPersist 600",
            f'  ControlPath "{sockets}/%C"',
            "",
        )
    )


@contextmanager
def ssh_access(
    network: LabNetwork, address: IPv4Address, identity: Identity, key: AdminKey, folder: Path
) -> Iterator[SshAccess]:
    """Write the configuration into `folder`; the shared connection is closed on the way out."""
    hosts = folder / "known_hosts"
    hosts.write_text(known_hosts(identity))
    ledger = ledgers.default()
    # A Unix socket's address has room for 107 bytes only, so not in `folder`.
    with ledger.tempdir("ctl-ssh-", Path("/var/tmp")) as sockets, ledger.children("ssh connections"):
        config = folder / "ssh_config"
        config.write_text(ssh_config(address, network.name, key.private, hosts, sockets))
        access = SshAccess(config, key, hosts)
        try:
            yield access
        finally:
            if any(sockets.iterdir()):
                # Where that does not help the ledger ends it.
                with suppress(CentralitaError):
                    run(["ssh", "-F", config, "-O", "exit", HOST], check=False, timeout_s=20)
