"""The resource ledger: everything that must be undone is written down before it is made.

One JSON file stands for one thing. Whoever made it undoes it and removes the file; where he was killed before,
`release_orphans` does. A record of a thing that was never made is harmless, a thing without a record is not:
hence the order. Processes carry the id of their entry in their environment (`CENTRALITA_LEDGER`), from before the
moment of their birth, so even one whose pid could not be written down any more is found, and so are its
descendants in other process groups. (PR_SET_PDEATHSIG would not do: it follows the *thread* that made the child,
does not reach grandchildren, and is lost with set-uid programs such as sudo.)
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import json
import os
import secrets
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from centralita.ground import paths, procs, undo
from centralita.ground.errors import CentralitaError
from centralita.ground.signals import Terminated, guard, shield

__all__ = ["Entry", "Ledger", "Owner", "Terminated", "default", "guard", "shield"]


#: The marks that this program was itself started with (Centralita within Centralita); its children bear them on.
#: Not looked up later: `Ledger.children` puts marks there that are not for everybody's children.
_INHERITED = tuple(os.environ.get(procs.MARK, "").split())


@dataclass(frozen=True)
class Owner:
    """The process that made a thing and will undo it while it lives."""

    pid: int
    start_ticks: int
    boot: str

    @classmethod
    def current(cls) -> Owner:
        """This process."""
        me = procs.look(os.getpid())
        if me is None:
            raise CentralitaError("/proc does not show this process", hint="mount it: mount -t proc proc /proc")
        return cls(me.pid, me.start_ticks, procs.boot_id())

    def alive(self) -> bool:
        """Whether it still runs (a later process with the same pid is not it)."""
        return procs.is_running(self.pid, self.start_ticks, self.boot)


@dataclass(eq=False)
class Entry:
    """One thing in the ledger. `details` name it; see `Ledger.enter` for which."""

    ledger: Ledger = field(repr=False)
    id: str
    kind: str
    owner: Owner
    details: dict[str, Any]

    @property
    def what(self) -> str:
        """The thing in a reader's words."""
        return undo.describe(self.kind, self.details)

    @property
    def environment(self) -> dict[str, str]:
        """The variable by which processes are known as this entry's; for children not started by `Ledger.process`."""
        return {procs.MARK: " ".join([*_INHERITED, self.id])}

    def update(self, **details: Any) -> None:  # noqa: ANN401 - whatever JSON can hold
        """Adds to the record what became known only when the thing was made."""
        self.details.update(details)
        self.ledger._write(self)

    def release(self) -> None:
        """Undoes the thing, then forgets it. Where undoing fails the record stays, for `release_orphans`."""
        with shield():
            undo.KINDS[self.kind][0](self.id, self.details)
            self.forget()

    def forget(self) -> None:
        """Takes the record away: the thing is gone, or is meant to stay."""
        self.ledger._file(self.id).unlink(missing_ok=True)


class Ledger:
    """The entries below one folder. Safe for threads and for several processes at once."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder = folder.resolve()
        self._counter = 0
        self._lock = threading.Lock()

    def _file(self, identifier: str) -> Path:
        return self.folder / f"{identifier}.json"

    def _write(self, entry: Entry) -> None:
        record = {
            "id": entry.id,
            "kind": entry.kind,
            "owner": {"pid": entry.owner.pid, "start_ticks": entry.owner.start_ticks, "boot": entry.owner.boot},
            "details": entry.details,
        }
        durable = entry.kind in undo.DURABLE
        place = self._file(entry.id)
        draft = place.with_suffix(".new")
        with draft.open("w", encoding="utf-8", errors="surrogateescape") as stream:
            json.dump(record, stream)
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        draft.rename(place)
        if durable:
            descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def enter(self, kind: str, **details: Any) -> Entry:  # noqa: ANN401
        """Writes an entry down, on the disk when this returns; the thing is made after that.

        Kinds and details: tempdir, path (`path`); process (`argv`; later `pid`, `start_ticks`, `boot`; `grace_s`);
        netns (`name`); link (`name`, `netns`); mount (`target`); loop (`backing`).
        """
        if kind not in undo.KINDS:
            raise ValueError(f"unknown kind of ledger entry: {kind}")
        for name in ("path", "target", "backing"):
            if name in details:
                # The parent is resolved, the last part is not: a link at the end is itself the thing.
                given = Path(details[name])
                details[name] = str(given.parent.resolve() / given.name)
        owner = Owner.current()
        with self._lock:
            self._counter += 1
            # Sorts by age; no two are the same, in other processes or after a reboot either.
            identifier = f"{time.time_ns():020d}-{owner.pid}-{self._counter:06d}-{secrets.token_hex(4)}"
        entry = Entry(self, identifier, kind, owner, details)
        self._write(entry)
        return entry

    @contextmanager
    def entered(self, kind: str, **details: Any) -> Iterator[Entry]:  # noqa: ANN401
        """As `enter`; the thing is undone on the way out."""
        entry = self.enter(kind, **details)
        try:
            yield entry
        finally:
            entry.release()

    @contextmanager
    def tempdir(self, prefix: str, parent: Path | None = None, *, mode: int = 0o700) -> Iterator[Path]:
        """A new folder in `parent` (default: $TMPDIR, else /var/tmp: trees are large), gone with its mounts."""
        if parent is None:
            parent = Path(os.environ.get("TMPDIR") or "/var/tmp")
        path = parent.resolve() / f"{prefix}{secrets.token_hex(6)}"
        with self.entered("tempdir", path=path):
            path.mkdir(mode=mode)
            path.chmod(mode)  # whatever the umask
            yield path

    @contextmanager
    def path(self, path: Path) -> Iterator[Path]:
        """A file or folder that the caller makes; removed on the way out."""
        with self.entered("path", path=path):
            yield path

    @contextmanager
    def mount(self, target: Path) -> Iterator[Path]:
        """A folder on which the caller mounts something; everything at or below is unmounted on the way out."""
        with self.entered("mount", target=target):
            yield target

    @contextmanager
    def loop(self, backing: Path) -> Iterator[Path]:
        """A file (or a folder of files) that the caller attaches loop devices to."""
        with self.entered("loop", backing=backing):
            yield backing

    @contextmanager
    def link(self, name: str, netns: str | None = None) -> Iterator[str]:
        """A network link that the caller makes (in a named namespace, else in the host's own)."""
        with self.entered("link", name=name, netns=netns):
            yield name

    @contextmanager
    def netns(self, name: str) -> Iterator[Path]:
        """A network namespace that the caller makes with `ip netns add NAME`; yields its handle in /run/netns."""
        others = (entry.details.get("mounted_dir") for entry in self.entries() if entry.kind == "netns")
        # ip(8) leaves /run/netns mounted on itself; the last of ours takes that away if it was not so before us.
        mounted_dir = not undo.netns_dir_is_mounted() or any(others)
        with self.entered("netns", name=name, mounted_dir=mounted_dir):
            yield undo.NETNS_DIR / name

    def spawn(
        self,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        grace_s: float = 3.0,
        **options: Any,  # noqa: ANN401 - Popen's own
    ) -> tuple[subprocess.Popen[bytes], Entry]:
        """Starts a process in a session of its own, entered before it is born. `env` None: this process's own.

        The caller ends it by `Entry.release` (SIGTERM, `grace_s` later SIGKILL, to all of its descendants).
        Raises CentralitaError where the program cannot be started.
        """
        command = [str(part) for part in argv]
        entry = self.enter("process", argv=command, grace_s=grace_s, spawner=procs.command_line(os.getpid()))
        environment = {**(os.environ if env is None else env), **entry.environment}
        options.setdefault("stdin", subprocess.DEVNULL)
        try:
            child: subprocess.Popen[bytes] = subprocess.Popen(
                command, env=environment, start_new_session=True, **options
            )
        except OSError as error:
            entry.forget()
            raise CentralitaError(f"cannot start {command[0]}: {error.strerror}") from error
        except BaseException:
            entry.release()
            raise
        try:
            born = procs.look(child.pid)
            if born is not None:
                entry.update(pid=child.pid, start_ticks=born.start_ticks, boot=entry.owner.boot)
        except BaseException:
            entry.release()
            child.wait()
            raise
        return child, entry

    @contextmanager
    def process(
        self,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        grace_s: float = 3.0,
        **options: Any,  # noqa: ANN401
    ) -> Iterator[subprocess.Popen[bytes]]:
        """As `spawn`; whatever of it still runs is ended on the way out, and the child is waited for."""
        child, entry = self.spawn(argv, env=env, grace_s=grace_s, **options)
        try:
            yield child
        finally:
            entry.release()
            child.wait()

    @contextmanager
    def children(self, what: str) -> Iterator[Entry]:
        """Marks all processes that are started inside by other means (libguestfs's QEMU); ended on the way out.

        The mark is in this process's environment meanwhile: what other threads start with it, not through a ledger,
        bears it too.
        """
        with self.entered("process", argv=[what]) as entry:
            before = os.environ.get(procs.MARK)
            os.environ.update(entry.environment)
            try:
                yield entry
            finally:
                if before is None:
                    os.environ.pop(procs.MARK, None)
                else:
                    os.environ[procs.MARK] = before

    def entries(self) -> list[Entry]:
        """All entries, oldest first."""
        found = []
        for file in sorted(self.folder.glob("*.json")):
            try:
                record = json.loads(file.read_text(encoding="utf-8", errors="surrogateescape"))
            except FileNotFoundError:
                continue  # released in this moment
            found.append(Entry(self, record["id"], record["kind"], Owner(**record["owner"]), record["details"]))
        return found

    def orphans(self) -> list[Entry]:
        """The entries whose owner is dead, oldest first."""
        return [entry for entry in self.entries() if not entry.owner.alive()]

    def release_orphans(self, report: Callable[[str], None] | None = None) -> list[str]:
        """Undoes what dead owners left: processes first, as they hold the rest; then the newest first.

        Tells `report` each thing, and each failure; goes on after one. Returns what was released, in words.
        What could not be undone stays in `orphans()`.
        """
        tell = report or (lambda _line: None)
        released = []
        with self._alone():
            orphans = self.orphans()
            unborn = [entry.details for entry in orphans if "spawner" in entry.details and "pid" not in entry.details]
            procs.await_births({details["spawner"] for details in unborn})
            order = sorted(orphans, key=lambda entry: (entry.kind == "process", entry.id), reverse=True)
            for entry in order:
                try:
                    entry.release()
                except (CentralitaError, OSError, KeyError) as error:
                    tell(f"could not release {entry.what}: {error}")
                else:
                    released.append(entry.what)
                    tell(f"released {entry.what}")
            self._drop_drafts()
        return released

    def release_own(self) -> None:
        """Undoes what this process made and did not get round to undoing; the newest first, as well as can be."""
        me = Owner.current()
        for entry in reversed([entry for entry in self.entries() if entry.owner == me]):
            with contextlib.suppress(CentralitaError, OSError):
                entry.release()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keeps two `release_orphans` from getting into each other's way."""
        with (self.folder / "lock").open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def _drop_drafts(self) -> None:
        """A draft whose writer was killed: its thing was not made yet, or has an older record."""
        for draft in self.folder.glob("*.new"):
            with contextlib.suppress(OSError):
                if time.time() - draft.stat().st_mtime > 60:
                    draft.unlink()


_default: Ledger | None = None


def default() -> Ledger:
    """The ledger of this user, in the state folder."""
    global _default
    folder = paths.state_dir() / "ledger"
    if _default is None or _default.folder != folder.resolve():
        _default = Ledger(folder)
        # A signal may strike between the making of a thing and the block that undoes it.
        atexit.register(_default.release_own)
    return _default
