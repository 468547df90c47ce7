"""Which accelerator QEMU can really use here. /dev/kvm may be there and not work; only a booted kernel proves it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from centralita.ground import ledger, paths, procs
from centralita.ground.errors import CentralitaError
from centralita.ground.run import run

KVM_DEVICE = Path("/dev/kvm")
BOOT = Path("/boot")
QEMU = "qemu-system-x86_64"
#: A kernel needs about 1 s on hardware; one that hangs (as where KVM is nested and broken) would take for ever.
_TIMEOUT_S = 20.0
#: What a kernel without a root file system says when it has come up wholly.
_TOKENS = ("VFS: Unable to mount root fs", "Kernel panic - not syncing: VFS")


@dataclass(frozen=True)
class Accelerator:
    """What QEMU runs guests with, and why."""

    name: Literal["kvm", "tcg"]
    reason: str
    qemu_args: tuple[str, ...]

    @property
    def cpu(self) -> str:
        """The value of QEMU's -cpu that offers the most."""
        return "host" if self.name == "kvm" else "max"

    @property
    def guestfs_environment(self) -> dict[str, str]:
        """What libguestfs has to be told (guestfs(3)): its own fall-back from kvm to tcg does not always fire."""
        chosen = {"LIBGUESTFS_BACKEND": "direct"}
        if self.name == "tcg":
            chosen["LIBGUESTFS_BACKEND_SETTINGS"] = "force_tcg"
        return chosen


def _kvm(reason: str) -> Accelerator:
    return Accelerator("kvm", reason, ("-accel", "kvm"))


def _tcg(reason: str) -> Accelerator:
    return Accelerator("tcg", reason, ("-accel", "tcg,thread=multi"))


def newest_kernel() -> Path | None:
    """The newest kernel in /boot that this user can read, by version; None where there is none."""

    def version(path: Path) -> list[tuple[int, str]]:
        parts = path.name.replace("-", ".").replace("~", ".").split(".")
        return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]

    kernels = [path for path in BOOT.glob("vmlinuz-*") if path.is_file() and os.access(path, os.R_OK)]
    return max(kernels, key=version, default=None)


def probe(*, refresh: bool = False) -> Accelerator:
    """The accelerator to use. KVM is chosen only after a kernel has booted with it.

    The verdict is kept in the cache for this boot of the host, this QEMU and this kernel; `refresh` asks again.
    `CENTRALITA_ACCEL=kvm|tcg` in the environment decides without a probe.
    Raises CentralitaError where QEMU is not installed or that variable is wrong.
    """
    wish = os.environ.get("CENTRALITA_ACCEL", "")
    if wish not in ("", "kvm", "tcg"):
        raise CentralitaError(f"CENTRALITA_ACCEL is {wish!r}", hint="it may be kvm or tcg, or not set")
    if wish:
        reason = "CENTRALITA_ACCEL says so"
        return _kvm(reason) if wish == "kvm" else _tcg(reason)
    qemu = shutil.which(QEMU)
    if qemu is None:
        raise CentralitaError(f"{QEMU} is not installed", hint="./bootstrap installs what is missing")
    if not KVM_DEVICE.exists():
        return _tcg(f"there is no {KVM_DEVICE}")
    if not os.access(KVM_DEVICE, os.R_OK | os.W_OK):
        return _tcg(f"this user may not open {KVM_DEVICE}")
    kernel = newest_kernel()
    if kernel is None:
        return _tcg(f"{KVM_DEVICE} is there, but no readable {BOOT}/vmlinuz-* to prove it with")
    # The file of the program stands for its version: asking it would cost more than all the rest of this.
    program = Path(qemu).resolve().stat()
    key = [procs.boot_id(), program.st_size, program.st_mtime_ns, str(kernel), kernel.stat().st_mtime_ns]
    store = paths.cache_dir() / "accel.json"
    if not refresh:
        known = _remembered(store, key)
        if known is not None:
            return known
    works, reason = _boot(qemu, kernel)
    draft = store.with_name(f"accel.json.{os.getpid()}")
    draft.write_text(json.dumps({"key": key, "works": works, "reason": reason}))
    draft.rename(store)
    return _kvm(reason) if works else _tcg(reason)


def _remembered(store: Path, key: list[object]) -> Accelerator | None:
    try:
        record = json.loads(store.read_text())
        if record["key"] != key:
            return None
        return _kvm(record["reason"]) if record["works"] else _tcg(record["reason"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # an absent or unreadable verdict is no verdict


def boot_command(qemu: str, kernel: Path, accelerator: tuple[str, ...], cpu: str) -> list[str]:
    """Boots a kernel that finds no root file system, panics, and with that ends QEMU."""
    return [
        *(qemu, *accelerator, "-cpu", cpu, "-m", "256", "-nodefaults", "-no-user-config", "-display", "none"),
        *("-serial", "stdio", "-monitor", "none", "-no-reboot"),
        *("-kernel", str(kernel), "-append", "console=ttyS0 panic=-1"),
    ]


def _boot(qemu: str, kernel: Path) -> tuple[bool, str]:
    """Whether a kernel comes up under KVM, and what was seen."""
    seen: list[str] = []
    command = boot_command(qemu, kernel, ("-accel", "kvm"), "host")
    try:
        done = run(command, check=False, timeout_s=_TIMEOUT_S, on_line=seen.append)
    except CentralitaError:
        return False, f"{KVM_DEVICE} is there, but a kernel does not come up with it within {_TIMEOUT_S:.0f} s"
    if any(token in line for token in _TOKENS for line in seen):
        return True, f"{kernel.name} boots with it in {done.seconds:.1f} s"
    words = done.stderr.strip().splitlines() or [f"QEMU ended with status {done.returncode}"]
    return False, f"{KVM_DEVICE} is there, but does not work: {words[0].removeprefix(QEMU + ': ')}"


@contextmanager
def guestfs_surroundings() -> Iterator[ledger.Entry]:
    """What libguestfs needs of the process that uses it, for as long as its handles live.

    The right accelerator; a temporary folder and marked processes, which the ledger clears away after `kill -9`
    too; and its appliance (300 MB) kept in our cache. All of it is in `os.environ` meanwhile, and restored.
    Yields the entry of the processes: releasing it ends them, and every call of libguestfs that waits for them.
    """
    appliance = paths.cache_dir() / "guestfs"
    appliance.mkdir(exist_ok=True)
    book = ledger.default()
    # Short, and not below a user's TMPDIR: QEMU's sockets are in it, and their paths end at 107 bytes (unix(7)).
    with book.tempdir("centralita-gfs-", Path("/var/tmp")) as folder, book.children("libguestfs") as processes:
        wanted = {
            **probe().guestfs_environment,
            "LIBGUESTFS_TMPDIR": str(folder),
            "LIBGUESTFS_CACHEDIR": str(appliance),
            "XDG_RUNTIME_DIR": str(folder),
        }
        before = {name: os.environ.get(name) for name in wanted}
        os.environ.update(wanted)
        try:
            yield processes
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
