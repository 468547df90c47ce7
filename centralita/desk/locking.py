"""`invoke lock`: renew a lock and show what changes."""

from __future__ import annotations

from pathlib import Path

from centralita.ground.report import get_reporter
from centralita.image.build import loaded, lock_path, request_of
from centralita.packages.lockfile import diff_locks, load_lock
from centralita.packages.source import Request, read_release, resolve, write_lock
from centralita.packages.tools import TOOL_SETS


def _renew(path: Path, request: Request, renew: str, dry_run: bool) -> int:
    """Resolve *request* anew, print the difference, write the lock; returns the number of changes."""
    release = read_release(request)
    lock = resolve(request, release)
    before = load_lock(path).packages if path.is_file() else ()
    changes = diff_locks(before, lock.packages)
    for change in changes:
        print(change)
    if not dry_run:
        write_lock(path, lock, renew)
    done = "would be" if dry_run else "are"
    get_reporter().info(f"{path.name}: {len(changes)} of {len(lock.packages)} packages {done} changed")
    return len(changes)


def renew(name: str, *, mirror: str | None = None, dry_run: bool = False) -> int:
    """Renew the lock of an appliance, or for ``tools`` those of the tools trees; returns the number of changes."""
    if name == "tools":
        return sum(_renew(t.lock_path, t.request, "invoke lock tools", dry_run) for t in TOOL_SETS.values())
    appliance = loaded(name)
    return _renew(lock_path(appliance), request_of(appliance, mirror), f"invoke lock {appliance.name}", dry_run)
