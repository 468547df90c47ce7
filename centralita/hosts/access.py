"""SSH into a clone itself: as its admin, with the admin's own key, and to nobody but the machine of that identity."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from centralita.clone.identity import Identity
from centralita.ground import ledger
from centralita.ground.errors import CentralitaError
from centralita.hosts.address import SshTarget
from centralita.hosts.shell import Shell, SshShell, host_argv

REACH_S = 120.0


@dataclass(frozen=True)
class Access:
    """How a clone is reached: its address (or a name of `config`, an ssh_config(5)), a key, a host to go through."""

    address: str
    key: Path | None = None
    config: Path | None = None
    via: SshTarget | None = None


def known_host(identity: Identity) -> str:
    """Return the lines of ssh's known_hosts for a clone, under the tenant's name."""
    return "".join(f"{identity.tenant} {' '.join(key.public.split()[:2])}\n" for key in identity.host_keys)


def target_of(access: Access, identity: Identity, hosts: Path) -> SshTarget:
    """Return whom ssh calls; `hosts` holds the clone's host keys, and no others count."""
    options = [
        f"HostKeyAlias={identity.tenant}",
        "StrictHostKeyChecking=yes",
        "UpdateHostKeys=no",
        "VerifyHostKeyDNS=no",
        "CheckHostIP=no",
        "ForwardAgent=no",
        "ClearAllForwardings=yes",
        "RequestTTY=no",
    ]
    if access.via is not None:
        options.append(f"ProxyCommand={shlex.join([*host_argv(access.via), '-W', '%h:%p', '--', access.via.host])}")
    return SshTarget(
        access.address,
        user="root",
        keyfile=str(access.key) if access.key else None,
        known_hosts=str(hosts),
        config=str(access.config) if access.config else None,
        options=tuple(options),
    )


@dataclass(frozen=True)
class Reached:
    """A clone that is reached: its shell, and a test whether one could get in anew."""

    shell: Shell
    again: SshShell

    def still_lets_in(self) -> bool:
        """Tell whether a new connection is accepted, with the keys that the clone knows now."""
        return self.again.run(["true"], check=False, timeout_s=REACH_S).returncode == 0


@contextmanager
def reach(access: Access, identity: Identity) -> Iterator[Reached]:
    """Connect to a clone. Raises CentralitaError where it does not answer, is another machine, or lets nobody in."""
    if not identity.host_keys:
        raise CentralitaError(f"the identity of {identity.tenant} has no SSH host keys", hint="make the clone again")
    book = ledger.default()
    # A Unix socket's address has room for 107 bytes only.
    with book.tempdir("ctl-ssh-", Path("/var/tmp")) as folder, book.children("ssh connections"):
        hosts = folder / "hosts"
        hosts.write_text(known_host(identity), encoding="ascii")
        target = target_of(access, identity, hosts)
        shell = SshShell(target, folder)
        done = shell.run(["true"], check=False, timeout_s=REACH_S)
        if done.returncode != 0:
            raise _unreached(access, identity, done.stderr.strip() or f"ssh ended with status {done.returncode}")
        try:
            yield Reached(shell, SshShell(target, None))
        finally:
            shell.close()


def _unreached(access: Access, identity: Identity, said: str) -> CentralitaError:
    where = f"{identity.tenant} at {access.address}"
    if "Host key verification failed" in said:
        return CentralitaError(
            f"{where} is another machine: it has not the host keys of {identity.tenant}'s identity",
            hint="check the address; a clone that was made on another build host has its identity there",
        )
    if "Permission denied" in said:
        return CentralitaError(f"{where} lets nobody in with these keys", hint="--key FILE, or ssh-add an admin's key")
    return CentralitaError(f"{where} cannot be reached: {said}", hint="--address, --ssh-config, or is it off?")
