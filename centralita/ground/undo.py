"""How each kind of thing in the ledger is undone. Undoing what was never made, or is already gone, is no error."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from centralita.ground import procs
from centralita.ground.errors import CentralitaError

#: Undoing needs util-linux, mount and iproute2, which some callers' PATH (su, cron) does not show.
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
NETNS_DIR = Path("/run/netns")


def _tool(argv: Sequence[str]) -> str | None:
    """Runs a tool that undoes something; returns None where it succeeded, else what it said."""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"PATH": _PATH, "LANG": "C.UTF-8"},
            # Out of the terminal's process group: Ctrl-C must not stop the undoing half-way.
            start_new_session=True,
            timeout=120,
            check=False,
        )
    except FileNotFoundError:
        return f"{argv[0]} is not installed"
    except subprocess.TimeoutExpired:
        return f"{' '.join(argv)} did not end within 120 s"
    if done.returncode == 0:
        return None
    return done.stdout.decode(errors="replace").strip() or f"{argv[0]} ended with status {done.returncode}"


def _unescaped(text: str) -> str:
    """mountinfo (proc(5)) writes space, tab, newline and backslash in octal."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def mounts_below(folder: Path) -> list[Path]:
    """The mount points at or below a folder, in the order to unmount them (the last made first)."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        point = Path(_unescaped(line.split(" ", 5)[4]).removesuffix("//deleted"))
        if point.is_relative_to(folder):
            found.append(point)
    return found[::-1]


def unmount_below(folder: Path) -> None:
    """Unmounts everything at or below a folder; lazily only where a mount stays busy. Raises CentralitaError."""
    for attempt in range(5):
        points = mounts_below(folder)
        if not points:
            return
        # A process that has just been killed may hold a mount for a moment longer.
        time.sleep(0.1 * attempt)
        for point in points:
            _tool(["umount", "--", str(point)])
    for point in mounts_below(folder):
        _tool(["umount", "--lazy", "--", str(point)])
    left = mounts_below(folder)
    if left:
        raise CentralitaError(f"cannot unmount {left[0]}", hint=f"see what uses it: fuser -vm '{left[0]}'")


def loops_on(backing: Path) -> list[str]:
    """The loop devices (/dev/loopN) whose backing file is this file or lies below this folder."""
    found = []
    for entry in Path("/sys/block").glob("loop*"):
        try:
            text = (entry / "loop/backing_file").read_text(errors="surrogateescape").rstrip("\n")
        except OSError:
            continue
        if Path(text.removesuffix(" (deleted)")).is_relative_to(backing):
            found.append(f"/dev/{entry.name}")
    return found


def detach_loops(backing: Path) -> None:
    """Detaches the loop devices on a file or on files below a folder. Raises CentralitaError."""
    for device in loops_on(backing):
        unmount_device(device)
        said = _tool(["losetup", "--detach", device])
        if said and device in loops_on(backing):
            raise CentralitaError(f"cannot detach {device} from {backing}: {said}")


def unmount_device(device: str) -> None:
    """Unmounts whatever is mounted from a block device: it cannot be detached before."""
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        if after.split(" ")[1] == device:
            unmount_below(Path(_unescaped(before.split(" ")[4])))


def remove_path(path: Path) -> None:
    """Removes a file or a folder with all that is in it, after its mounts and loop devices. Raises CentralitaError."""
    if not path.is_absolute() or len(path.parts) < 3:
        raise CentralitaError(f"will not remove {path}: not a path that the ledger would have recorded")
    # Loop devices first: on a file system that is unmounted, their files have no path any more to know them by.
    detach_loops(path)
    if path.is_dir() and not path.is_symlink():
        procs.end_all(lambda: procs.inside(path))
        unmount_below(path)
    if not path.exists() and not path.is_symlink():
        return
    # One file system only: whatever is mounted there in the meantime is not ours to empty.
    said = _tool(["rm", "-rf", "--one-file-system", "--", str(path)])
    if path.exists():
        raise CentralitaError(f"cannot remove {path}: {said}")


def _undo_path(_entry: str, details: Mapping[str, Any]) -> None:
    remove_path(Path(details["path"]))


def _undo_process(entry: str, details: Mapping[str, Any]) -> None:
    leader = None
    # After a reboot nothing of it runs, and the numbers belong to others.
    if "pid" in details and details.get("boot") == procs.boot_id():
        leader = (int(details["pid"]), int(details["start_ticks"]))
    try:
        procs.end_all(lambda: procs.belonging_to(entry, leader, procs.snapshot()), grace_s=details.get("grace_s", 3.0))
    except TimeoutError as error:
        raise CentralitaError(f"cannot end {details.get('argv', ['?'])[0]}: {error}") from error


def netns_dir_is_mounted() -> bool:
    """Whether /run/netns is a mount point itself, as `ip netns add` makes it."""
    return NETNS_DIR in mounts_below(NETNS_DIR)


def _undo_netns(_entry: str, details: Mapping[str, Any]) -> None:
    handle = NETNS_DIR / str(details["name"])
    unmount_below(handle)
    handle.unlink(missing_ok=True)
    # `ip netns add` mounts /run/netns on itself; where it was not so before, put that back too.
    if details.get("mounted_dir") and NETNS_DIR.is_dir() and not any(NETNS_DIR.iterdir()) and netns_dir_is_mounted():
        _tool(["umount", "--", str(NETNS_DIR)])


def _undo_link(_entry: str, details: Mapping[str, Any]) -> None:
    name, netns = str(details["name"]), details.get("netns")
    command = ["ip", "link", "delete", "dev", name]
    if netns:
        handle = NETNS_DIR / str(netns)
        if not handle.exists():
            return
        command = ["nsenter", f"--net={handle}", *command]
    elif not Path("/sys/class/net", name).exists():
        return
    said = _tool(command)
    if said and "Cannot find device" not in said:
        raise CentralitaError(f"cannot delete the network link {name}: {said}")


def _undo_mount(_entry: str, details: Mapping[str, Any]) -> None:
    detach_loops(Path(details["target"]))
    unmount_below(Path(details["target"]))


def _undo_loop(_entry: str, details: Mapping[str, Any]) -> None:
    detach_loops(Path(details["backing"]))


#: kind -> (undo, the details that name the thing to a reader)
KINDS: dict[str, tuple[Callable[[str, Mapping[str, Any]], None], str]] = {
    "tempdir": (_undo_path, "path"),
    "path": (_undo_path, "path"),
    "process": (_undo_process, "argv"),
    "netns": (_undo_netns, "name"),
    "link": (_undo_link, "name"),
    "mount": (_undo_mount, "target"),
    "loop": (_undo_loop, "backing"),
}
#: What outlives a crash of the whole machine: only for these must the record be on the disk first.
DURABLE = frozenset({"tempdir", "path"})


def describe(kind: str, details: Mapping[str, Any]) -> str:
    """A thing in a reader's words: `process qemu-system-x86_64 (pid 4711)`."""
    what = details.get(KINDS[kind][1], "?")
    if kind == "process":
        name = os.path.basename(str(what[0])) if isinstance(what, list) and what else "?"  # noqa: PTH119
        what = f"{name} (pid {details['pid']})" if "pid" in details else name
    return f"{kind} {what}"
