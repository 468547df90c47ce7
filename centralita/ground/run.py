"""Runs programs: a list of arguments, a small explicit environment, closed stdin, and one honest error."""

from __future__ import annotations

import collections
import contextlib
import os
import pwd
import re
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from centralita.ground import ledger
from centralita.ground.errors import CentralitaError

#: Passed through from our own environment: who and where we are, and how the network is reached from here.
_PASSED = ("HOME", "USER", "LOGNAME", "TMPDIR", "NO_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY")
_PASSED_PREFIXES = ("SSL_CERT_", "PIP_", "XDG_", "CURL_CA_", "REQUESTS_CA_", "GIT_SSL_", "LIBGUESTFS_")
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: Variables whose values are in no message.
_SECRET = re.compile(r"SECRET|PASSWORD|PASSPHRASE|TOKEN|KEY|CREDENTIAL", re.IGNORECASE)
_TAIL_LINES = 20
_KEPT_LINES = 1000


@dataclass(frozen=True)
class Completed:
    """How a program ended. With a log, `stdout` and `stderr` are only the last 1000 lines."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str
    seconds: float


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment that programs get, with `extra` on top."""
    chosen = {
        name: value
        for name, value in os.environ.items()
        if name.upper() in _PASSED or name.startswith(_PASSED_PREFIXES)
    }
    path = os.environ.get("PATH", "")
    # A root shell made by su has no sbin in its PATH.
    missing = [folder for folder in _SYSTEM_PATH.split(":") if folder not in path.split(":")]
    chosen["PATH"] = ":".join([*filter(None, [path]), *missing])
    chosen["LANG"] = "C.UTF-8"
    # diskimage-builder uses $USER, which cron and containers do not set.
    user = pwd.getpwuid(os.getuid())
    for name, value in (("HOME", user.pw_dir), ("USER", user.pw_name), ("LOGNAME", user.pw_name)):
        chosen.setdefault(name, value)
    return {**chosen, **(extra or {})}


@dataclass
class _Sink:
    """Where the lines of one stream go: memory (all, or the last ones), the log, and whoever listens."""

    lines: collections.deque[str]
    log: IO[bytes] | None
    on_line: Callable[[str], None] | None
    failure: list[BaseException] = field(default_factory=list)

    def drain(self, stream: IO[bytes]) -> None:
        """Reads the stream to its end; in a thread of its own."""
        with contextlib.suppress(ValueError):  # the stream was closed under us after a kill
            for raw in stream:
                self.take(raw)

    def take(self, raw: bytes) -> None:
        """One line, with its line end."""
        if self.log is not None:
            self.log.write(raw)
            self.log.flush()
        line = raw.decode(errors="replace")
        self.lines.append(line)
        if self.on_line is not None and not self.failure:
            try:
                self.on_line(line.rstrip("\r\n"))
            except BaseException as error:
                self.failure.append(error)


def run(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: bytes | IO[bytes] | None = None,
    check: bool = True,
    log: Path | None = None,
    timeout_s: float | None = None,
    on_line: Callable[[str], None] | None = None,
) -> Completed:
    """Runs a program to its end, in a session of its own that is entered in the ledger.

    The environment is `environment(env)`; stdin is closed unless bytes are given (they go through memory, never
    through a file or argv) or an open stream is. Output is kept, or with `log` appended to that file while the last
    lines are kept. `on_line` gets each line of both streams as it comes, from other threads. Ctrl-C, an error and a
    time-out end the program with all of its descendants.

    Raises CentralitaError where it cannot be started, runs longer than `timeout_s`, or (with `check`) fails.
    """
    command = tuple(str(part) for part in argv)
    if cwd is not None and not cwd.is_dir():
        raise CentralitaError(f"cannot run {command[0]} in {cwd}: no such folder")
    started = time.monotonic()
    timed_out = False
    with contextlib.ExitStack() as stack:
        log_file: IO[bytes] | None = None
        if log is not None:
            log_file = stack.enter_context(log.open("ab"))
            log_file.write(f"$ {shlex.join(command)}\n".encode())
            log_file.flush()
        kept = None if log is None else _KEPT_LINES
        sinks = [_Sink(collections.deque(maxlen=kept), log_file, on_line) for _ in range(2)]
        child, entry = ledger.default().spawn(
            command,
            env=environment(env),
            cwd=cwd,
            stdin=stack.enter_context(_in_memory(stdin)) if isinstance(stdin, bytes) else stdin or subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert child.stdout is not None and child.stderr is not None
        streams = (child.stdout, child.stderr)
        readers = [
            threading.Thread(target=sink.drain, args=(stream,), daemon=True)
            for sink, stream in zip(sinks, streams, strict=True)
        ]
        try:
            for reader in readers:
                reader.start()
            try:
                child.wait(timeout_s)
            except subprocess.TimeoutExpired:
                timed_out = True
            _finish(child, entry, killed=timed_out)
        except BaseException:
            _finish(child, entry, killed=True)
            raise
        finally:
            for reader in readers:
                reader.join(5)
            if not any(reader.is_alive() for reader in readers):
                for stream in streams:
                    stream.close()
    for sink in sinks:
        if sink.failure:
            raise sink.failure[0]
    done = Completed(
        command, child.returncode, "".join(sinks[0].lines), "".join(sinks[1].lines), time.monotonic() - started
    )
    if timed_out or (check and done.returncode != 0):
        raise CentralitaError(
            _failure(done, cwd, env, f"took longer than {timeout_s:g} s" if timed_out and timeout_s else None), log=log
        )
    return done


def _finish(child: subprocess.Popen[bytes], entry: ledger.Entry, *, killed: bool) -> None:
    """Ends what is left of the program. One that ended well and left nobody in its group costs no look at /proc."""
    if not killed and child.returncode == 0:
        try:
            os.killpg(child.pid, 0)
        except ProcessLookupError:
            entry.forget()
            return
        except PermissionError:
            pass
    entry.release()
    child.wait()


@contextlib.contextmanager
def _in_memory(data: bytes) -> Iterator[int]:
    """A descriptor that reads as `data`: no pipe to block on, nothing on a disk."""
    descriptor = os.memfd_create("stdin", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as stream:
            stream.write(data)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


def _failure(done: Completed, cwd: Path | None, env: Mapping[str, str] | None, why: str | None) -> str:
    """The one message of a failure: a line to paste into a shell, how it ended, and its last words."""
    line = shlex.join(done.argv)
    if env:
        shown = {name: "…" if _SECRET.search(name) else shlex.quote(value) for name, value in env.items()}
        line = " ".join([*(f"{name}={value}" for name, value in shown.items()), line])
    if cwd is not None:
        line = f"(cd {shlex.quote(str(cwd))} && {line})"
    if why is None:
        if done.returncode < 0:
            with contextlib.suppress(ValueError):
                why = f"was killed by {signal.Signals(-done.returncode).name}"
        why = why or f"ended with status {done.returncode}"
    words = (done.stderr.strip() or done.stdout.strip()).splitlines()[-_TAIL_LINES:]
    return "\n".join([f"{Path(done.argv[0]).name} {why}: {line}", *(f"    {word}" for word in words)])
