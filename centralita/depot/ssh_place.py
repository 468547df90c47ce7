"""A depot on a host that ssh(1) reaches: rsync(1) brings the bytes, and a shell there checks and places them.

What is needed on that host: rsync and GNU's coreutils and findutils.
"""

from __future__ import annotations

import base64
import contextlib
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from centralita.depot.place import WORK, Upload, check_sources
from centralita.depot.reader import Progress, append, begun, within
from centralita.ground import ledger
from centralita.ground.errors import CentralitaError
from centralita.ground.report import Step
from centralita.ground.run import Completed, environment
from centralita.hosts.address import SshTarget
from centralita.hosts.shell import SshShell, connect_ssh

_LOCK = 'mkdir -p -- "$1" && cd -- "$1" && exec 9<. && { flock -n 9 || exit 75; } && echo locked && cat'
_READ = 'cd -- "$1" || exit 44; [ -f "$2" ] && [ ! -L "$2" ] || exit 44; head -c "$3" -- "$2" | base64'
_FETCH = 'cd -- "$1" && tail -c "+$3" -- "$2"'
_DIGESTS = """
cd -- "$1" 2>/dev/null || exit 0
xargs -0 -r sh -c 'for f do if [ -f "$f" ] && [ ! -L "$f" ]; then printf "%s\\0" "$f"; fi; done' sh |
    xargs -0 -r sha256sum --
"""
_LIST = f'cd -- "$1" 2>/dev/null || exit 0; find . -path ./{WORK} -prune -o ! -type d -print0'
# What is staged is on the disk before it has a name, so that no power cut takes back what an index names. A link costs
# nothing; where the file system has none, a copy is made. Neither name is ever written to.
_PLACE = f"""
set -eu
cd -- "$1"
sync -f . 2>/dev/null || sync
while read -r source path; do
    case $path in */*) mkdir -p -- "${{path%/*}}" ;; esac
    # What a killed publish has placed already; mv(1) refuses two names of one file.
    [ ! "$source" -ef "$path" ] || continue
    rm -f -- {WORK}/next
    ln -- "$source" {WORK}/next 2>/dev/null || cp -- "$source" {WORK}/next
    mv -f -T -- {WORK}/next "$path"
done
sync -f . 2>/dev/null || sync
"""
_DELETE = """
cd -- "$1"
while read -r path; do
    rm -f -- "$path"
    case $path in */*) rmdir -p --ignore-fail-on-non-empty -- "${path%/*}" 2>/dev/null || : ;; esac
done
"""
_CLEAR = f'cd -- "$1" && rm -rf -- {WORK}'
_PROGRESS = re.compile(rb"^\s*([\d,]+)\s+\d+%")


class SshPlace:
    """A folder on another host. Bytes wait in its `.publish` until all of a step's are there and are the right ones."""

    def __init__(self, target: SshTarget, folder: str) -> None:
        """*folder* is absolute, or below the home folder there."""
        self.target, self.folder = target, folder
        self.name = f"{target.host}:{folder}"
        self._shell: SshShell | None = None
        self._staged = False

    @contextmanager
    def opened(self) -> Iterator[None]:
        """See Place: one connection for everything."""
        with connect_ssh(self.target, self.name) as shell:
            self._shell = shell
            try:
                yield
            finally:
                self._shell = None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """See Place: flock(1) on the folder, held by a shell that ends when this process does, however it ends."""
        with self.opened(), ledger.default().tempdir("lock-") as work, (work / "said").open("w+b") as said:
            argv = self._remote.argv(["sh", "-c", _LOCK, "sh", self.folder])
            with ledger.default().process(
                argv, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said
            ) as holder:
                assert holder.stdin is not None and holder.stdout is not None
                if holder.stdout.readline() != b"locked\n":
                    self._not_locked(holder.wait(), said)
                yield
                if self._staged:
                    self._run(_CLEAR)
                holder.stdin.close()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    holder.wait(10)

    def _not_locked(self, status: int, said: IO[bytes]) -> None:
        if status == 75:
            raise CentralitaError(f"another publish writes to {self.name}", hint="wait for it")
        said.seek(0)
        words = said.read().decode(errors="replace").strip() or f"status {status}"
        hint = "is the folder yours to write? name another --to, or let the host's admin make it"
        if "flock" in words:
            hint = "the host needs util-linux's flock"
        raise CentralitaError(f"{self.name} cannot be a depot: {words}", hint=hint)

    def read(self, path: str, limit: int) -> bytes | None:
        """See Place."""
        done = self._run(_READ, path, str(limit + 1), check=False)
        if done.returncode == 44:
            return None
        if done.returncode != 0:
            raise CentralitaError(f"cannot read {path} from {self.name}: {done.stderr.strip()}")
        data = base64.b64decode(done.stdout)
        return within(data, limit, path)

    def fetch(self, path: str, target: Path, size_bytes: int, progress: Progress) -> None:
        """See Place."""
        done = begun(target, size_bytes)
        argv = self._remote.argv(["sh", "-c", _FETCH, "sh", self.folder, path, str(done + 1)])
        with ledger.default().process(
            argv, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as sender:
            assert sender.stdout is not None
            append(sender.stdout, target, done, size_bytes, progress, path)

    def missing(self, uploads: Sequence[Upload]) -> list[Upload]:
        """See Place. The bytes are read there: a file of the right size may be a broken one."""
        found = self._digests([upload.path for upload in uploads])
        return [upload for upload in uploads if found.get(upload.path) != upload.entry.sha256]

    def put(self, uploads: Sequence[Upload], step: Step) -> None:
        """See Place."""
        self._staged = True
        self._stage([upload for upload in uploads if not upload.alias], step)
        lines = []
        for upload in uploads:
            if upload.alias:
                step.advance(upload.entry.size_bytes)
            lines.append(f"{upload.alias or f'{WORK}/{upload.entry.sha256}'} {upload.path}\n")
        if lines:
            self._run(_PLACE, stdin="".join(lines).encode())

    def delete(self, paths: Sequence[str]) -> None:
        """See Place. Folders that become empty go too."""
        if paths:
            self._run(_DELETE, stdin="".join(f"{path}\n" for path in paths).encode())

    def listing(self) -> list[str]:
        """See Place."""
        return sorted(name.removeprefix("./") for name in self._run(_LIST).stdout.split("\0") if name)

    @property
    def _remote(self) -> SshShell:
        assert self._shell is not None, "only inside opened() or locked()"
        return self._shell

    def _run(self, script: str, *words: str, stdin: bytes | None = None, check: bool = True) -> Completed:
        return self._remote.run(["sh", "-c", script, "sh", self.folder, *words], stdin=stdin, check=check)

    def _digests(self, paths: Sequence[str]) -> dict[str, str]:
        if not paths:
            return {}
        lines = self._run(_DIGESTS, stdin="".join(f"{path}\0" for path in paths).encode()).stdout.splitlines()
        return {path: digest for digest, _space, path in (line.partition("  ") for line in lines)}

    def _stage(self, uploads: Sequence[Upload], step: Step) -> None:
        """Bring bytes into `.publish`, by their digests; those that a killed publish left there are not sent again."""
        wanted = {upload.entry.sha256: upload for upload in uploads}
        if not wanted:
            return
        names = {f"{WORK}/{digest}": digest for digest in wanted}
        there = {names[name] for name, found in self._digests(list(names)).items() if found == names[name]}
        for upload in uploads:
            if upload.entry.sha256 in there or wanted[upload.entry.sha256] is not upload:
                step.advance(upload.entry.size_bytes)
        new = {digest: upload for digest, upload in wanted.items() if digest not in there}
        if not new:
            return
        with ledger.default().tempdir("rsync-") as work:
            links = work / "links"
            links.mkdir()
            for digest, upload in new.items():
                assert upload.source is not None
                (links / digest).symlink_to(upload.source.absolute())
            self._rsync(links, work, step)
        found = self._digests(list(names))
        for name, digest in names.items():
            if found.get(name) != digest:
                check_sources([wanted[digest]])
                raise CentralitaError(
                    f"{wanted[digest].path} did not arrive at {self.name} as it was sent",
                    hint="is the disk there full or broken? publish again: what did arrive is kept",
                )

    def _rsync(self, links: Path, work: Path, step: Step) -> None:
        """Send a folder's files. What is left of one that was cut off is the beginning of the next try."""
        self._run(f'mkdir -p -- "$1/{WORK}"')
        host = f"[{self.target.host}]" if ":" in self.target.host else self.target.host
        argv = ["rsync", "--recursive", "--copy-links", "--partial", "--checksum", "--perms", "--chmod=D755,F644"]
        argv += ["--protect-args", "--info=progress2", "--no-inc-recursive", "-e", _quoted(self._remote.transport)]
        argv += ["--", f"{links}/", f"{host}:{self.folder}/{WORK}/"]
        with (work / "said").open("w+b") as said:
            with ledger.default().process(argv, env=environment(), stdout=subprocess.PIPE, stderr=said) as sender:
                assert sender.stdout is not None
                _follow(sender.stdout, step)
                status = sender.wait()
            if status != 0:
                said.seek(0)
                words = "; ".join(said.read().decode(errors="replace").split("\n")[:3]).strip("; ")
                hint = "the same command goes on with what did arrive"
                if "No space left" in words:
                    hint = f"free some space on {self.target.host}; {hint}"
                elif "not found" in words:
                    hint = f"install rsync on {self.target.host}"
                raise CentralitaError(f"cannot send to {self.name}: {words or f'rsync: status {status}'}", hint=hint)


def _follow(stream: IO[bytes], step: Step) -> None:
    """Tell of the bytes that rsync says it has sent; its lines end with a carriage return."""
    told, rest = 0, b""
    while block := stream.read1(4096):  # type: ignore[attr-defined]
        *lines, rest = (rest + block).replace(b"\n", b"\r").split(b"\r")
        for line in lines:
            if match := _PROGRESS.match(line):
                sent = int(match[1].replace(b",", b""))
                step.advance(max(0, sent - told))
                told = max(told, sent)


def _quoted(words: Sequence[str]) -> str:
    """Words as rsync(1) takes a remote shell: in single quotes, one within which is doubled."""
    return " ".join("'" + word.replace("'", "''") + "'" for word in words)
