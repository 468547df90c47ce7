"""Batches of clones by `invoke clone` and the real libguestfs, of a small image: some twenty seconds a launch."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from centralita.clone.inject import available_mib, disks_per_launch, rounds
from centralita.ground.run import run
from centralita.ground.undo import mounts_below
from tests.batch import House, facts_of, house, processes_with, shared

pytestmark = [pytest.mark.image, pytest.mark.timeout(900)]
THIRTY = pytest.mark.xdist_group("thirty clones")


@pytest.mark.unit
def test_a_launch_takes_as_many_disks_as_libguestfs_and_memory_allow(tmp_path: Path) -> None:
    assert disks_per_launch(255, 16_000) == 255
    assert disks_per_launch(25, 16_000) == 25
    assert disks_per_launch(255, 1040) == 100
    assert disks_per_launch(255, 100) == 1
    (tmp_path / "meminfo").write_text("MemTotal:  9 kB\nMemAvailable:    2097152 kB\n")
    assert available_mib(tmp_path / "meminfo") == 2048


@pytest.mark.unit
def test_rounds_take_all_disks_once_and_no_more_than_the_appliance_can_hold() -> None:
    from centralita.clone.files import GuestFile

    small, big = GuestFile("/a", b"x"), GuestFile("/b", bytes(40 << 20))
    items = [(Path(str(index)), [big if index in (3, 4, 5) else small]) for index in range(70)]
    parts = [list(part) for part in rounds(items)]
    assert [index for part in parts for index in part] == list(range(70))
    assert parts[:3] == [[0, 1, 2, 3], [4], [5, *range(6, 37)]] and len(parts[3]) == 32
    assert list(rounds([])) == []


def begin(place: House, *options: str) -> subprocess.Popen[bytes]:
    """Start `invoke clone`; in a session of its own, so that only it is killed."""
    log = (place.folder / "log").open("ab")
    return subprocess.Popen(
        place.argv(*options), cwd=Path(__file__).parents[2], env=place.environment, stdin=subprocess.DEVNULL,
        stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip


def wait(child: subprocess.Popen[bytes], moment: Callable[[], bool]) -> None:
    """Return at the moment; fail where the command ends before."""
    while not moment():
        assert child.poll() is None, "it ended before the moment"
        time.sleep(0.002)


def test_a_batch_in_two_launches_is_finished_after_kill_9(tmp_path: Path) -> None:
    """Kill it when the first clones begin to be there: each is complete or absent; the next run does the rest."""
    place = house(tmp_path / "a house", 5)
    told = place.clone("--batch", "2", "--dry-run")
    assert told.returncode == 0 and "5 clones" in told.stdout and "3 launches" in told.stdout, told.stdout
    assert not place.clones.exists() and place.identities() == {}
    child = begin(place, "--batch", "3")
    wait(child, lambda: (place.clones / "t000").is_dir())
    child.kill()
    child.wait()
    before, known = place.complete(), place.identities()
    assert "t000" in before and not before & {"t003", "t004"} and set(known) == set(place.names)
    # One that is gone is the same again.
    first = facts_of(place.clones / "t000", tmp_path)
    shutil.rmtree(place.clones / "t000")
    before.remove("t000")
    done = place.clone("--batch", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert place.complete() == set(place.names) and place.identities() == known
    assert not before or f"{len(before)} were there already" in done.stdout
    assert [path.name for path in place.clones.iterdir() if path.name.startswith(".")] == []
    assert list((place.state / "ledger").glob("*.json")) == [] and mounts_below(tmp_path) == []
    assert processes_with([str(tmp_path)]) == []
    again = facts_of(place.clones / "t000", tmp_path)
    assert again.pop("data disk's UUID") != first.pop("data disk's UUID")
    assert again == first
    # Who clones all again has nothing to do.
    done = place.clone()
    assert done.returncode == 0 and "5 were there already" in done.stdout, done.stdout + done.stderr


@dataclass(frozen=True)
class Thirty:
    """Thirty tenants' clones, what each has for itself, and what was seen while they were made."""

    place: House
    output: str
    programs: str
    facts: dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def thirty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Thirty]:
    """Clone thirty tenants while every program that is started is written down with its arguments."""
    folder = tmp_path_factory.mktemp("thirty")
    place = house(folder / "house", 30)
    trace = folder / "programs"
    watch = ["strace", "-f", "--seccomp-bpf", "-qq", "-v", "-s", "1000000", "-e", "trace=execve", "-o", str(trace)]
    # Whatever somebody's umask lets others read.
    done = place.clone(before=["sh", "-c", 'umask 000; exec "$@"', "sh", *watch])
    assert done.returncode == 0, done.stdout + done.stderr
    assert place.complete() == set(place.names)
    facts = {name: facts_of(place.clones / name, folder) for name in place.names}
    # The process's number at the start of a line may be anybody's PIN.
    programs = re.sub(r"^\d+ ", "", trace.read_text(errors="replace"), flags=re.MULTILINE)
    yield Thirty(place, done.stdout + done.stderr, programs, facts)


@THIRTY
def test_no_two_of_thirty_share_anything(thirty: Thirty) -> None:
    assert shared(thirty.facts) == []
    assert {own["host name"] for own in thirty.facts.values()} == set(thirty.place.names)
    planted = {**thirty.facts, "t007": {**thirty.facts["t007"], "TLS key": thirty.facts["t003"]["TLS key"]}}
    assert shared(planted) == ["t003 and t007 have one TLS key"]


@THIRTY
def test_a_planted_double_is_refused(thirty: Thirty) -> None:
    """Two tenants with one address, and an identity that was copied."""
    tenants = thirty.place.folder / "tenants"
    double = tenants / "t999.yaml"
    double.write_text((tenants / "t003.yaml").read_text().replace("t003", "t999"))
    copied = thirty.place.state / "identities" / "t999.json"
    try:
        done = thirty.place.clone()
        assert done.returncode == 1 and "the address 10.80.0.13 is used by t003" in done.stdout + done.stderr
        double.write_text(double.read_text().replace("10.80.0.13", "10.80.1.13"))
        copied.write_text((copied.parent / "t003.json").read_text().replace('"t003"', '"t999"'))
        done = thirty.place.clone()
        assert done.returncode == 1 and "t999 has the MAC address of t003" in done.stdout + done.stderr
        assert not (thirty.place.clones / "t999").exists()
    finally:
        double.unlink()
        copied.unlink()


@THIRTY
def test_secrets_are_in_no_log_no_argument_and_nothing_that_others_can_read(thirty: Thirty) -> None:
    secrets = secrets_of(thirty)
    assert len(secrets) > 30 * 8
    # The programs were written down: one that is started for each clone, and libguestfs's QEMU.
    assert thirty.programs.count("mke2fs") >= 30 and "qemu-system-x86_64" in thirty.programs
    assert told_in(thirty.programs, secrets) == []
    assert told_in(thirty.output, secrets) == []
    assert told_in("pin=947261, 0947261", {"947261", "094726"}) == ["947261"]
    numbers = {secret for secret in secrets if secret.isdigit()}
    assert numbers and secrets - numbers
    found: list[str] = []
    for option, wanted in (("-F", secrets - numbers), ("-Fw", numbers)):
        # The golden image was there before any secret, and among so many digits a PIN stands somewhere.
        where = ["--devices=skip", "--exclude-dir=output", "-f", "-", str(thirty.place.folder)]
        found += run(
            ["grep", "-rl", option, *where], stdin="\n".join(sorted(wanted)).encode(), check=False
        ).stdout.splitlines()
    holders = [Path(name) for name in found]
    assert any(path.name == "system.qcow2" for path in holders) and any(path.suffix == ".json" for path in holders)
    assert [path for path in holders if path.is_relative_to(thirty.place.state / "logs")] == []
    open_ones = [path for path in holders if path.stat().st_mode & 0o077]
    assert open_ones == []
    # Not even the folders let others in.
    assert {(thirty.place.clones / name).stat().st_mode & 0o777 for name in thirty.place.names} == {0o700}


def told_in(text: str, secrets: set[str]) -> list[str]:
    """Which secrets stand in a text: a PIN as a number of its own, for any long number holds some PIN."""
    return [s for s in sorted(secrets) if re.search(rf"\b{s}\b" if s.isdigit() else re.escape(s), text)]


def secrets_of(thirty: Thirty) -> set[str]:
    """What nobody may read: SIP secrets, PINs, and a line out of the middle of each private key."""
    found: set[str] = set()
    for text in thirty.place.identities().values():
        found |= set(re.findall(r'"10[12][a-z-]*": "([^"]{6,})"', text))
        for key in re.findall(r"PRIVATE KEY-----\\n(.*?)\\n-----END", text):
            found.add(max(key.split("\\n"), key=len)[-40:])
    for own in thirty.facts.values():
        found |= {value for what, value in own.items() if what.startswith("SIP digest")}
    return found


def test_ctrl_c_is_answered_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    """While libguestfs starts: its QEMU is ended, and nothing is there but the identities."""
    place = house(tmp_path / "house", 2)
    child = begin(place)
    wait(child, lambda: any("qemu-system" in line for line in processes_with([str(place.folder / "state")])))
    os.kill(child.pid, signal.SIGINT)
    assert child.wait(60) == 130
    assert "interrupted" in (place.folder / "log").read_text()
    assert list(place.clones.iterdir()) == [] and list((place.state / "ledger").glob("*.json")) == []
    assert processes_with([str(tmp_path)]) == []
