"""A hundred clones of the golden image, against a loop of virt-customize; and ten moments of interruption."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from centralita.clone.identity import IdentityStore
from centralita.clone.make import make_clones
from centralita.clone.render import render
from centralita.ground import accel
from centralita.ground.cache import disk_usage
from centralita.ground.run import run
from centralita.ground.undo import mounts_below
from centralita.image.build import Golden
from centralita.spec.tenant import Tenant, load_tenant
from tests.batch import House, house, processes_with, write_tenants

pytestmark = [pytest.mark.formats, pytest.mark.timeout(3000), pytest.mark.xdist_group("batches")]
Record = Callable[[str, object], None]
CLONES = 100
BY_HAND = 3
MIB = 1 << 20


def by_hand(golden: Golden, tenant: Tenant, folder: Path, store: IdentityStore) -> float:
    """Make the system disk of a clone as one would without Centralita, with the same files in it; the seconds.

    One virt-customize a clone, which starts libguestfs, looks what system it is, and writes. All chown(1) are one.
    """
    folder.mkdir()
    disk = folder / "system.qcow2"
    commands, owners = [], []
    for index, file in enumerate(render(tenant, store.get_or_create(tenant))):
        if file.symlink is not None:
            commands.append(f"delete {file.path}\nlink {file.symlink}:{file.path}")
            continue
        if file.directory:
            commands.append(f"mkdir {file.path}")
        else:
            source = folder / str(index)
            source.write_bytes(file.content)
            commands += [f"mkdir {Path(file.path).parent}", f"delete {file.path}", f"upload {source}:{file.path}"]
        commands.append(f"chmod {file.mode:04o}:{file.path}")
        owners.append(f"chown {file.owner}:{file.group} {shlex.quote(file.path)}")
    commands.append(f"run-command {' && '.join(owners)}")
    script = folder / "commands"
    script.write_text("\n".join(commands) + "\n")
    started = time.monotonic()
    run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", golden.qcow2_path.resolve(), disk])
    argv: list[str | Path] = ["virt-customize", "-q", "--no-network", "--format", "qcow2", "-a", disk, "--no-logfile"]
    with accel.guestfs_surroundings():
        told = {name: os.environ[name] for name in os.environ if name.startswith("LIBGUESTFS_")}
        run([*argv, "--commands-from-file", script], env=told)
    return time.monotonic() - started


def test_a_hundred_clones_against_virt_customize(golden: Golden, tmp_path: Path, record_property: Record) -> None:
    """At most 0.5 s a clone after the launch, 15 times faster in all, and under 3 MiB each."""
    write_tenants(tmp_path / "tenants", CLONES)
    tenants = [load_tenant(path) for path in sorted((tmp_path / "tenants").iterdir())]
    store = IdentityStore(tmp_path / "identities")
    slow = [by_hand(golden, tenants[0], tmp_path / "by-hand-0", IdentityStore(tmp_path / "others"))]
    started = time.monotonic()
    wanted = [(tenant, tmp_path / "clones" / tenant.name, ()) for tenant in tenants]
    clones, times = make_clones(golden, wanted, store, data_mib=8192)
    total = time.monotonic() - started
    for index in range(1, BY_HAND):
        slow.append(by_hand(golden, tenants[index], tmp_path / f"by-hand-{index}", IdentityStore(tmp_path / "others")))
    loop = sum(slow) / len(slow) * CLONES
    each = (total - times.launch_s) / CLONES
    sizes = [disk_usage(clone.folder) for clone in clones]
    record_property("clones", f"{CLONES} in {total:.1f} s, {times.launch_s:.1f} s of it libguestfs's start")
    record_property("a_clone_after_the_launch_s", round(each, 3))
    record_property("virt_customize_s", ", ".join(f"{seconds:.1f}" for seconds in slow))
    record_property("times_faster", f"{loop / total:.1f} (its loop extrapolated from {BY_HAND} to {CLONES})")
    record_property("largest_clone_mib", round(max(sizes) / MIB, 2))
    assert times.launches == 1 and len({clone.mac for clone in clones}) == CLONES
    assert max(sizes) < 3 * MIB
    assert loop / total >= 15
    assert each <= 0.5


def log_of(place: House) -> Path:
    """What the commands said."""
    return place.folder / "log"


@dataclass(frozen=True)
class Run:
    """A run that will be interrupted; ``stale`` is what runs before it have left behind."""

    place: House
    said_before: int
    stale: frozenset[Path]

    @property
    def said(self) -> str:
        """What it has said."""
        return log_of(self.place).read_text()[self.said_before :]

    @property
    def there(self) -> int:
        """How many clones are there."""
        return len(list(self.place.clones.glob("t*")))

    def half_made(self, name: str = "") -> list[Path]:
        """The folders in which it makes clones, or the files of a name in them."""
        parents = [path for path in self.place.clones.glob(".clones.*") if path not in self.stale]
        return [path / name for parent in parents for path in parent.glob("*") if (path / name).exists()]

    def written(self) -> bool:
        """Whether the appliance has written into a disk."""
        return any(path.stat().st_size > 600_000 for path in self.half_made("system.qcow2"))

    def starting(self) -> bool:
        """Whether libguestfs's QEMU runs for this house."""
        return any("qemu-system" in line for line in processes_with([f"{self.place.folder}/state"]))


# In the order in which they come. SIGINT is Ctrl-C.
MOMENTS: list[tuple[str, signal.Signals, Callable[[Run], bool]]] = [
    ("identities are made", signal.SIGKILL, lambda now: "==> identities" in now.said),
    ("identities are there", signal.SIGKILL, lambda now: "==> clones" in now.said),
    ("a folder is there", signal.SIGKILL, lambda now: bool(now.half_made())),
    ("all folders of a launch are there", signal.SIGINT, lambda now: len(now.half_made()) >= 3),
    ("a data disk is there", signal.SIGKILL, lambda now: bool(now.half_made("data.raw"))),
    ("libguestfs starts", signal.SIGKILL, lambda now: now.starting()),
    ("a disk is written", signal.SIGKILL, lambda now: now.written()),
    ("the first clone is there", signal.SIGKILL, lambda now: now.there >= 1),
    ("another disk is written", signal.SIGINT, lambda now: now.written()),
    ("more clones are there", signal.SIGKILL, lambda now: now.there >= 5),
]


def test_a_batch_that_is_interrupted_at_ten_moments(tmp_path: Path, record_property: Record) -> None:
    """Each clone is complete or absent; whoever had an identity keeps it; the last run does what is left."""
    place = house(tmp_path / "house", 12)
    seen = []
    for what, number, moment in MOMENTS:
        before, known = place.complete(), place.identities()
        log_of(place).touch()
        now = Run(place, len(log_of(place).read_text()), frozenset(place.clones.glob(".clones.*")))
        with log_of(place).open("ab") as log:
            child = subprocess.Popen(
                place.argv("--batch", "3"), env=place.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
            while not moment(now):
                assert child.poll() is None, f"it ended before {what}: {log_of(place).read_text()}"
                time.sleep(0.001)
            child.send_signal(number)
            status = child.wait(120)
        assert status == (130 if number == signal.SIGINT else -signal.SIGKILL), log_of(place).read_text()
        there = place.complete()
        assert before <= there, what
        assert {name: text for name, text in place.identities().items() if name in known} == known, what
        seen.append(len(there))
        if number == signal.SIGINT:  # nothing is left for a later run to clear away
            assert now.half_made() == [] and list((place.state / "ledger").glob("*.json")) == [], what
    record_property("clones_after_each_moment", seen)
    assert 0 < seen[-1] < 12
    known = place.identities()
    done = place.clone("--batch", "12")
    assert done.returncode == 0, done.stdout + done.stderr
    assert place.complete() == set(place.names) and place.identities() == known
    assert re.search(rf"{seen[-1]} were there already", done.stdout)
    assert [path.name for path in place.clones.iterdir() if path.name.startswith(".")] == []
    assert list((place.state / "ledger").glob("*.json")) == [] and mounts_below(tmp_path) == []
    assert processes_with([str(tmp_path)]) == []


def test_three_hundred_tenants(tmp_path: Path, record_property: Record) -> None:
    """More than one launch of libguestfs takes (small images: a minute or two)."""
    place = house(tmp_path / "house", 300)
    started = time.monotonic()
    done = place.clone()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "libguestfs was started 2 times" in done.stdout
    assert place.complete() == set(place.names)
    record_property("seconds", round(time.monotonic() - started, 1))
    shutil.rmtree(place.folder)
