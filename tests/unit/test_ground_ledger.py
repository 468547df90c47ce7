"""What was entered in the ledger is undone: on the way out, after an error, and after kill -9."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from centralita.ground import procs, undo
from centralita.ground.errors import CentralitaError
from centralita.ground.ledger import Ledger, Owner, Terminated, guard, shield
from centralita.ground.paths import repo_root

pytestmark = pytest.mark.unit
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts, loop devices and namespaces need root")


@pytest.fixture
def book(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger")


def running(mark: str) -> set[int]:
    """The living processes that bear a ledger mark."""
    return {p.pid for p in procs.snapshot().values() if mark in p.marks() and not p.zombie}


def start_victim(book: Ledger, body: str) -> subprocess.Popen[str]:
    """A Python program that uses the ledger, in a group of its own; it prints when it is ready."""
    program = "import subprocess, sys, time\nfrom pathlib import Path\nfrom centralita.ground.ledger import Ledger\n"
    program += f"book = Ledger(Path({str(book.folder)!r}))\n" + textwrap.dedent(body)
    environment = {**os.environ, "PYTHONPATH": str(repo_root())}
    # As from a terminal: where the tests are a background job, a shell has set SIGINT to be ignored.
    argv = ["env", "--default-signal", sys.executable, "-c", program]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, process_group=0, env=environment)


def kill_group(victim: subprocess.Popen[str]) -> None:
    os.killpg(victim.pid, signal.SIGKILL)
    victim.wait()


def test_a_tempdir_is_recorded_before_it_is_made_and_gone_after(book: Ledger, tmp_path: Path) -> None:
    with book.tempdir("tree-", tmp_path) as folder:
        (folder / "file").write_text("content")
        (entry,) = book.entries()
        assert (entry.kind, entry.details["path"]) == ("tempdir", str(folder))
        assert folder.stat().st_mode & 0o777 == 0o700
        assert not book.orphans()
    assert not folder.exists()
    assert not book.entries()


def test_things_are_undone_when_the_block_fails(book: Ledger, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), book.path(tmp_path / "made") as made:
        made.mkdir()
        raise RuntimeError
    assert not made.exists()
    assert not book.entries()


def test_releasing_what_was_never_made_is_no_error(book: Ledger, tmp_path: Path) -> None:
    details: dict[str, dict[str, object]] = {
        "tempdir": {"path": tmp_path / "a"},
        "path": {"path": tmp_path / "b"},
        "process": {"argv": ["never"]},
        "netns": {"name": "centralita-never"},
        "link": {"name": "ctl-never", "netns": None},
        "mount": {"target": tmp_path / "c"},
        "loop": {"backing": tmp_path / "d"},
    }
    assert details.keys() == undo.KINDS.keys()
    for kind, values in details.items():
        book.enter(kind, **values).release()
    assert not book.entries()


@pytest.mark.parametrize("path", ["/", "/etc", "relative"])
def test_a_path_that_nobody_can_mean_is_not_removed(path: str) -> None:
    with pytest.raises(CentralitaError, match="will not remove"):
        undo.remove_path(Path(path))


def test_a_link_is_removed_and_not_what_it_points_to(book: Ledger, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    with book.path(tmp_path / "link") as link:
        link.symlink_to("kept")
    assert not link.is_symlink()
    assert (tmp_path / "kept").is_dir()


def test_a_process_is_marked_and_ended_with_all_its_descendants(book: Ledger) -> None:
    script = "setsid sleep 984 & (trap '' TERM; sleep 983) & wait"
    with book.process(["sh", "-c", script], grace_s=0.3) as child:
        (entry,) = book.entries()
        assert entry.details["pid"] == child.pid
        deadline = time.monotonic() + 5
        while len(running(entry.id)) < 3 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(running(entry.id)) >= 3
    assert not running(entry.id)
    assert child.returncode is not None
    assert not book.entries()


def test_a_pid_that_another_process_bears_now_is_left_alone(book: Ledger) -> None:
    bystander = subprocess.Popen(["sleep", "30"], start_new_session=True)
    try:
        found = procs.look(bystander.pid)
        assert found is not None
        entry = book.enter("process", argv=["sleep"])
        entry.update(pid=bystander.pid, start_ticks=found.start_ticks - 1, boot=procs.boot_id())
        entry.release()
        entry = book.enter("process", argv=["sleep"])
        entry.update(pid=bystander.pid, start_ticks=found.start_ticks, boot="another boot")
        entry.release()
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_processes_of_other_means_are_ended_by_their_mark(book: Ledger) -> None:
    with book.children("something") as entry:
        child = subprocess.Popen(["sleep", "30"], start_new_session=True)
        # For a moment after it was started a program has no environment that others could read.
        deadline = time.monotonic() + 10
        while not (found := running(entry.id)) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert found == {child.pid}
        # What this same ledger starts meanwhile is its own, and must live on.
        other, other_entry = book.spawn(["sleep", "30"])
    assert child.wait() == -signal.SIGTERM
    assert other.poll() is None
    other_entry.release()
    assert other.wait() == -signal.SIGTERM
    assert procs.MARK not in os.environ or entry.id not in os.environ[procs.MARK]


def test_an_owner_of_another_boot_or_time_is_dead() -> None:
    me = Owner.current()
    assert me.alive()
    assert not Owner(me.pid, me.start_ticks + 1, me.boot).alive()
    assert not Owner(me.pid, me.start_ticks, "another boot").alive()


def test_orphans_are_released_processes_first_and_failures_do_not_stop_it(book: Ledger, tmp_path: Path) -> None:
    victim = start_victim(
        book,
        f"""
        stack = book.tempdir("orphan-", Path({str(tmp_path)!r})); folder = stack.__enter__()
        child, entry = book.spawn(["sh", "-c", "setsid sleep 982 & cd /; sleep 981"], cwd=folder)
        book.enter("path", path="/nonsense")
        print(entry.id, flush=True); time.sleep(60)
        """,
    )
    assert victim.stdout is not None
    mark = victim.stdout.readline().strip()
    assert not book.orphans()
    kill_group(victim)
    assert running(mark)
    told: list[str] = []
    released = book.release_orphans(told.append)
    assert not running(mark)
    assert not list(tmp_path.glob("orphan-*"))
    assert released[0].startswith("process sh")
    assert released[1].startswith("tempdir ")
    assert [line for line in told if line.startswith("could not release path /nonsense")]
    (left,) = book.orphans()
    assert left.details == {"path": "/nonsense"}
    left.forget()


@needs_root
def test_mounts_loops_and_namespaces_of_a_killed_run_are_undone(book: Ledger, tmp_path: Path) -> None:
    name = f"ctl-test-{os.getpid()}"
    mounted_before = undo.netns_dir_is_mounted()
    victim = start_victim(
        book,
        f"""
        def sh(script): subprocess.run(["sh", "-euc", script], check=True, stdout=subprocess.DEVNULL)
        from contextlib import ExitStack
        stack = ExitStack()
        folder = stack.enter_context(book.tempdir("a b-", Path({str(tmp_path)!r})))
        stack.enter_context(book.netns({name!r}))
        stack.enter_context(book.link({name!r}[-12:]))
        sh("ip netns add {name}; ip link add name {name[-12:]} type bridge")
        sh(f"cd '{{folder}}'; mkdir m n; mount -t tmpfs none m; mkdir m/deep; mount -t tmpfs none m/deep; "
           "mount --bind /usr n; truncate -s 4M m/disk; losetup --find --show m/disk; mkdir root")
        print(folder, flush=True); time.sleep(60)
        """,
    )
    assert victim.stdout is not None
    folder = Path(victim.stdout.readline().strip())
    assert len(undo.mounts_below(folder)) == 3
    assert undo.loops_on(folder)
    # A process that holds a mount, and bears no mark.
    holder = subprocess.Popen(["sleep", "30"], cwd=folder / "m/deep", env={})
    kill_group(victim)
    book.release_orphans()
    holder.kill()
    holder.wait()
    assert not folder.exists()
    assert not undo.mounts_below(folder)
    assert not undo.loops_on(folder)
    assert not (undo.NETNS_DIR / name).exists()
    assert not Path("/sys/class/net", name[-12:]).exists()
    assert undo.netns_dir_is_mounted() == mounted_before
    assert Path("/usr/bin").is_dir()
    assert not book.orphans()


@needs_root
def test_a_process_that_was_chrooted_into_a_tempdir_is_ended(book: Ledger, tmp_path: Path) -> None:
    with book.tempdir("root-", tmp_path) as folder:
        run = ["sh", "-euc", f"mount --bind / '{folder}'; env -i /usr/sbin/chroot '{folder}' sleep 30 & echo $!"]
        with subprocess.Popen(run, stdout=subprocess.PIPE, text=True) as shell:
            assert shell.stdout is not None
            pid = int(shell.stdout.readline())
            deadline = time.monotonic() + 5
            while pid not in {p.pid for p in procs.inside(folder)} and time.monotonic() < deadline:
                time.sleep(0.02)
            assert pid in {p.pid for p in procs.inside(folder)}
            entry = book.entries()[0]
            entry.release()
            entry.ledger._write(entry)  # so that the block can release it again
    process = procs.look(pid)
    assert process is None or process.zombie
    assert Path("/usr/bin").is_dir()


BUSY = """
while True:
    with book.tempdir("busy-", Path({folder!r})) as folder:
        with book.process(["sh", "-c", "setsid sleep 979 & sleep 978"]), book.process(["sleep", "977"]):
            (folder / "x").write_text("y")
            print("round", flush=True)
"""


def test_kill_9_at_random_moments_leaves_nothing(book: Ledger, tmp_path: Path) -> None:
    moments = random.Random(3)
    for _ in range(20):
        victim = start_victim(book, BUSY.format(folder=str(tmp_path)))
        assert victim.stdout is not None
        assert victim.stdout.readline() == "round\n"
        time.sleep(moments.uniform(0, 0.15))
        kill_group(victim)
        book.release_orphans()
        assert not book.entries()
        assert not list(tmp_path.glob("busy-*"))
        sleeping = [
            p.pid
            for p in procs.snapshot().values()
            if not p.zombie and any(str(n) in _argv(p.pid) for n in (977, 978, 979))
        ]
        assert not sleeping


def _argv(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_unwinds_the_program(book: Ledger, tmp_path: Path, number: signal.Signals) -> None:
    victim = start_victim(
        book,
        f"""
        from centralita.ground.ledger import Terminated, guard
        try:
            with guard(), book.tempdir("guarded-", Path({str(tmp_path)!r})), book.process(["sleep", "976"]):
                print("ready", flush=True); time.sleep(60)
        except Terminated as end:
            sys.exit(end.status)
        """,
    )
    assert victim.stdout is not None
    victim.stdout.readline()
    victim.send_signal(number)
    assert victim.wait(60) == 128 + number
    assert not book.entries()
    assert not list(tmp_path.glob("guarded-*"))


def test_a_signal_waits_while_something_is_undone() -> None:
    steps = []
    with pytest.raises(Terminated), guard():
        with shield():
            os.kill(os.getpid(), signal.SIGTERM)
            steps.append("undone")
        steps.append("never")
    assert steps == ["undone"]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_half_written_record_is_no_entry(book: Ledger) -> None:
    draft = book.folder / "00000000000000000001-1-000001-aaaa.new"
    draft.write_text('{"id": "half')
    os.utime(draft, (0, 0))
    assert book.entries() == []
    book.release_orphans()
    assert not draft.exists()


def test_a_record_is_readable_json_with_its_owner(book: Ledger, tmp_path: Path) -> None:
    with book.path(tmp_path / "käse ☎"):
        (file,) = book.folder.glob("*.json")
        record = json.loads(file.read_text())
    assert record["owner"]["pid"] == os.getpid()
    assert record["details"]["path"] == str(tmp_path / "käse ☎")


def test_nothing_of_this_process_stays_after_it(tmp_path: Path, book: Ledger) -> None:
    program = f"""
from pathlib import Path
from centralita.ground import ledger
path = Path({str(tmp_path)!r}) / "forgotten"
ledger.default().enter("path", path=path)
path.mkdir()
"""
    environment = {**os.environ, "PYTHONPATH": str(repo_root()), "XDG_STATE_HOME": str(tmp_path / "state")}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    assert not (tmp_path / "forgotten").exists()
