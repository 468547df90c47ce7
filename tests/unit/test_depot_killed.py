"""A publish, or a removal of old releases, that is killed: the depot stays whole, and the next one completes.

At ten moments each takes half a minute of an idle processor: in the tier `formats`. Of the tier `unit` is one moment.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from centralita.depot.keys import Keys
from centralita.depot.pull import pull
from centralita.depot.verify import verify_folder
from centralita.desk import depots
from tests.depot import NAME, image, publish

ROOT = Path(__file__).parents[2]
TEN = tuple(i / 9 for i in range(10))
ONE_AND_TEN = pytest.mark.parametrize(
    "when",
    [pytest.param((0.6,), marks=pytest.mark.unit, id="one"), pytest.param(TEN, marks=pytest.mark.formats, id="ten")],
)
# Runs something and kills itself when it changes the depot's folder for the n-th time: as `kill -9`, but at a known
# moment. Python tells of each change right before it (PEP 578).
CHILD = """
import os, signal, sys
from pathlib import Path
from centralita.desk import depots
from tests.depot import NAME, image, publish

what, home, depot, last = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
count = 0

def changed(event, args):
    global count
    if event == "open":
        mine = (args[2] or 0) & (os.O_WRONLY | os.O_RDWR) and str(args[0]).startswith(str(depot))
    else:
        mine = event in ("os.rename", "os.remove", "os.link") and any(str(a).startswith(str(depot)) for a in args[:2])
    if mine:
        count += 1
        if count == last:
            os.kill(os.getpid(), signal.SIGKILL)

golden = image(home / "built", what.encode() * 1000, version=what) if what != "prune" else None
sys.addaudithook(changed)
if golden is not None:
    publish(golden, depot)
else:
    depots.prune(str(depot), keep=1, appliance="", valid_days=30, dry_run=False)
print(f"changes {count}")
"""


def child(what: str, home: Path, depot: Path, last: int) -> subprocess.CompletedProcess[str]:
    """Publish the release *what*, or `prune`, in a process that is killed at its change number *last* (0: at none)."""
    argv = [sys.executable, "-c", CHILD, what, str(home), str(depot), str(last)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(argv, env=env, capture_output=True, text=True, check=False, cwd=ROOT)


def versions(depot: Path) -> list[str]:
    """The releases that the depot serves, all of it checked byte by byte."""
    return [release.version.partition("+")[0] for release in verify_folder(depot).releases]


def copied(base: Path, target: Path) -> Path:
    """A copy of a depot; its links to one file stay such."""
    subprocess.run(["cp", "-a", base, target], check=True)
    return target


def killed(what: str, home: Path, base: Path, when: Sequence[float], check: Callable[[Path, int], None]) -> None:
    """Kill it at moments between the first change (0.0) and the last (1.0), and check what is left each time."""
    whole = child(what, home, copied(base, home / "whole"), 0)
    assert whole.returncode == 0, whole.stderr
    total = int(whole.stdout.split("changes ")[1])
    moments = sorted({1 + round(at * (total - 1)) for at in when})
    assert len(moments) == len(when)
    for moment in moments:
        depot = copied(base, home / f"at-{moment}")
        assert child(what, home, depot, moment).returncode == -signal.SIGKILL
        check(depot, moment)
        shutil.rmtree(depot)


@ONE_AND_TEN
def test_a_killed_publish_leaves_the_old_state(keys: Keys, home: Path, when: Sequence[float]) -> None:
    base = home / "base"
    publish(image(home / "built", b"one" * 1000), base)
    index = (base / "index.json").read_bytes()
    seen = set()

    def check(depot: Path, moment: int) -> None:
        served = versions(depot)
        seen.add(tuple(served))
        if served == ["1.0.0"]:
            assert (depot / "index.json").read_bytes() == index
        else:
            assert served == ["1.0.0", "1.0.1"]
        assert pull(NAME, str(depot), key=keys.minisign).record.version == served[-1]
        # The next completes, be it the same again or another release.
        number = 1 if moment % 2 else 2
        publish(image(home / "built", f"1.0.{number}".encode() * 1000, version=f"1.0.{number}"), depot)
        assert versions(depot) == [*served, f"1.0.{number}"] if served[-1] != f"1.0.{number}" else served
        assert not list((depot / "next").glob("*")) and not (depot / ".publish").exists()

    killed("1.0.1", home, base, when, check)
    assert ("1.0.0",) in seen and seen <= {("1.0.0",), ("1.0.0", "1.0.1")}


@pytest.mark.formats
def test_killed_pruning_leaves_a_whole_depot(keys: Keys, home: Path) -> None:
    base = home / "base"
    for number, content in enumerate((b"one", b"two", b"three")):
        publish(image(home / "built", content * 1000, version=f"1.0.{number}"), base)

    def check(depot: Path, moment: int) -> None:
        assert versions(depot) in (["1.0.0", "1.0.1", "1.0.2"], ["1.0.2"])
        depots.prune(str(depot), keep=1, appliance="", valid_days=30, dry_run=False)
        assert versions(depot) == ["1.0.2"]
        assert [path.name[:5] for path in (depot / f"releases/{NAME}").iterdir()] == ["1.0.2"]

    killed("prune", home, base, TEN, check)


@pytest.mark.formats
def test_killed_again_and_again(keys: Keys, home: Path) -> None:
    """Each is killed before the one before could be finished; the depot is whole all the time."""
    depot = home / "depot"
    publish(image(home / "built", b"one" * 1000), depot)
    for what, last in (
        ("1.0.1", 9), ("1.0.2", 25), ("1.0.1", 40), ("1.0.3", 1), ("1.0.2", 20), ("1.0.2", 12), ("prune", 5),
    ):  # fmt: skip
        assert child(what, home, depot, last).returncode == -signal.SIGKILL
        assert versions(depot)[0] == "1.0.0"
    publish(image(home / "built", b"1.0.4" * 1000, version="1.0.4"), depot)
    assert versions(depot)[-1] == "1.0.4"
    assert not list((depot / "next").glob("*")) and not (depot / ".publish").exists()
