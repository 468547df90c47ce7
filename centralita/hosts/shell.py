"""Commands and files on a host, here or over SSH: what a host needs for it is a POSIX shell, coreutils and tar."""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from centralita.ground import ledger
from centralita.ground.errors import CentralitaError
from centralita.ground.run import Completed, run
from centralita.hosts.address import HostAddress, SshTarget

_WRITE = 'umask 077; cat >"$1.$3" && chmod "$2" "$1.$3" && mv -f -- "$1.$3" "$1"'


class Shell:
    """Runs commands on this host."""

    #: Whether this is the host that we run on.
    local = True

    def run(
        self,
        argv: Sequence[str | Path | PurePosixPath],
        *,
        stdin: bytes | None = None,
        check: bool = True,
        timeout_s: float | None = None,
    ) -> Completed:
        """Run a program on the host, with messages in English. Raises CentralitaError where it fails (with `check`)."""
        return run(
            self.argv([str(word) for word in argv]), stdin=stdin, check=check, timeout_s=timeout_s, env={"LC_ALL": "C"}
        )

    def argv(self, argv: Sequence[str]) -> list[str]:
        """Return the argument list that runs `argv` on the host."""
        return list(argv)

    def exists(self, path: PurePosixPath) -> bool:
        """Tell whether something is at `path`."""
        return self.run(["test", "-e", path], check=False).returncode == 0

    def read(self, path: PurePosixPath) -> str | None:
        """Return a file's text, None where it is not there."""
        done = self.run(["cat", "--", path], check=False)
        return done.stdout if done.returncode == 0 else None

    def sha256(self, path: PurePosixPath) -> str:
        """Return a file's digest. Raises CentralitaError where it cannot be read."""
        return self.run(["sha256sum", "--", path]).stdout.split()[0].lstrip("\\")

    def write(self, path: PurePosixPath, text: str, mode: int = 0o644) -> None:
        """Write a file whole, beside its place first."""
        self.run(["sh", "-c", _WRITE, "sh", path, f"{mode:o}", _token()], stdin=text.encode())

    def make_folder(self, path: PurePosixPath, mode: int) -> None:
        """Make a folder, and those above it, where it is not there."""
        self.run(["mkdir", "-p", "-m", f"{mode:o}", "--", path])

    @contextmanager
    def staged(self, source: Path, folder: PurePosixPath) -> Iterator[PurePosixPath]:
        """Copy a file, sparse as it is, into the host's `folder` under a name that nobody has; gone on the way out.

        Whoever wants to keep it moves it away.
        """
        stage = folder / f".{_token()}"
        try:
            self.run(["mkdir", "-m", "700", "--", stage])
            self._copy(source, stage)
            yield stage / source.name
        finally:
            with suppress(CentralitaError):
                self.run(["rm", "-rf", "--", stage])

    def _copy(self, source: Path, folder: PurePosixPath) -> None:
        run(["cp", "--reflink=auto", "--sparse=always", "--", source, str(folder)])


def host_argv(target: SshTarget) -> list[str]:
    """Return ssh(1) with all that it has to know of a host but the host's name."""
    argv = ["ssh", *(["-F", target.config] if target.config else [])]
    for option in target.options:
        argv += ["-o", option]
    argv += ["-o", "BatchMode=yes", "-o", "ConnectTimeout=30", "-o", "ServerAliveInterval=15", "-o", "LogLevel=ERROR"]
    if target.keyfile:
        argv += ["-i", target.keyfile, "-o", "IdentitiesOnly=yes"]
    if target.known_hosts:
        # Quoted: ssh takes a list of files here.
        argv += ["-o", f'UserKnownHostsFile="{target.known_hosts}"', "-o", "GlobalKnownHostsFile=/dev/null"]
    if target.port:
        argv += ["-p", str(target.port)]
    if target.user:
        argv += ["-l", target.user]
    return argv


class SshShell(Shell):
    """Runs commands on a host that ssh(1) reaches, all over one connection."""

    local = False

    def __init__(self, target: SshTarget, sockets: Path | None) -> None:
        """`sockets` is a folder with a short name, for the shared connection; None: each command has its own."""
        argv = host_argv(target)
        if sockets is None:
            argv += ["-o", "ControlMaster=no", "-o", "ControlPath=none"]
        else:
            argv += ["-o", "ControlMaster=auto", "-o", "ControlPersist=600", "-o", f"ControlPath={sockets}/%C"]
        self._argv = argv
        self._host = target.host

    def argv(self, argv: Sequence[str]) -> list[str]:
        """Return the argument list that runs `argv` on the host: ssh hands its words to a shell as one line."""
        return [*self._argv, "--", self._host, f"LC_ALL=C {shlex.join(argv)}"]

    @property
    def transport(self) -> list[str]:
        """The words that reach the host, up to its name: what rsync(1) takes as its remote shell."""
        return list(self._argv)

    def close(self) -> None:
        """End the shared connection."""
        with suppress(CentralitaError):
            run([*self._argv, "-O", "exit", "--", self._host], check=False, timeout_s=20)

    def _copy(self, source: Path, folder: PurePosixPath) -> None:
        # tar(1) knows holes; ssh's own file transfer does not, and a data disk is mostly holes.
        pack = ["tar", "--create", "--sparse", "--file=-", "--directory", str(source.parent), "--", source.name]
        unpack = ["tar", "--extract", "--sparse", "--file=-", "--no-same-owner", "--directory", str(folder)]
        with ledger.default().tempdir("centralita-copy-") as work:
            errors = work / "tar"
            with errors.open("wb") as sink, ledger.default().process(pack, stdout=-1, stderr=sink) as packing:
                assert packing.stdout is not None
                run(self.argv(unpack), stdin=packing.stdout)
                packing.stdout.close()
                if packing.wait() != 0:
                    raise CentralitaError(f"{source} cannot be read: {errors.read_text(errors='replace').strip()}")


@contextmanager
def connect(address: HostAddress) -> Iterator[Shell]:
    """Return the shell of a host. Raises CentralitaError where it cannot be reached."""
    if address.ssh is None:
        yield Shell()
        return
    with connect_ssh(address.ssh, address.text) as shell:
        yield shell


@contextmanager
def connect_ssh(target: SshTarget, text: str) -> Iterator[SshShell]:
    """Return the shell of a host that *text* is the name of. Raises CentralitaError where it cannot be reached."""
    book = ledger.default()
    # A Unix socket's address has room for 107 bytes only.
    with book.tempdir("ctl-ssh-", Path("/var/tmp")) as sockets, book.children("ssh connections"):
        shell = SshShell(target, sockets)
        done = shell.run(["true"], check=False, timeout_s=120)
        if done.returncode != 0:
            said = done.stderr.strip() or f"ssh ended with status {done.returncode}"
            raise CentralitaError(f"{text} cannot be reached: {said}", hint=_mend(said, target.host))
        try:
            yield shell
        finally:
            shell.close()


def _mend(said: str, host: str) -> str:
    """Return what helps against what ssh said."""
    if "REMOTE HOST IDENTIFICATION HAS CHANGED" in said:
        return f"was {host} set up anew? ask its owner for its key; only then: ssh-keygen -R {host}"
    if "ost key verification failed" in said:
        return f"{host}'s key is not known here: call `ssh {host}` once by hand, and compare the key it shows"
    if "Permission denied" in said:
        return f"no key of yours is let in: `ssh-add -l` shows those you have, `ssh-copy-id {host}` brings one there"
    return "try ssh to it by hand first"


def _token() -> str:
    return f"new-{secrets.token_hex(6)}"
