"""Programs are run with a small environment, and end when they should."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from pathlib import Path

import pytest

from centralita.ground import ledger, procs
from centralita.ground.errors import CentralitaError
from centralita.ground.run import environment, run

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def test_output_and_status_are_returned() -> None:
    done = run(["sh", "-c", "echo heard; echo seen >&2; exit 3"], check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("heard\n", "seen\n", 3)
    assert not ledger.default().entries()


def test_a_failure_is_one_message_that_can_be_pasted(tmp_path: Path) -> None:
    folder = tmp_path / "with space"
    folder.mkdir()
    with pytest.raises(CentralitaError) as caught:
        run(["sh", "-c", "echo it broke >&2; exit 7"], cwd=folder, env={"COLOUR": "dark red", "SIP_SECRET": "hush"})
    message = str(caught.value)
    assert "ended with status 7" in message
    assert "it broke" in message
    assert "hush" not in message
    pasted = message.splitlines()[0].split("status 7: ")[1]
    again = subprocess.run(["sh", "-c", pasted], capture_output=True, text=True, check=False)
    assert (again.returncode, again.stderr) == (7, "it broke\n")


def test_a_program_that_is_not_there_is_a_known_error() -> None:
    with pytest.raises(CentralitaError, match="cannot start no-such-program-here"):
        run(["no-such-program-here"])
    assert not ledger.default().entries()


def test_standard_input_is_closed_or_exactly_what_was_given() -> None:
    assert run(["cat"]).stdout == ""
    megabyte = bytes(range(256)) * 4096
    assert int(run(["wc", "-c"], stdin=megabyte).stdout) == len(megabyte)


def test_the_environment_is_small_and_explicit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "tr_TR.UTF-8")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    monkeypatch.setenv("SSL_CERT_FILE", "/etc/company.pem")
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    monkeypatch.setenv("PATH", "/opt/bin:/usr/bin")
    seen = dict(line.split("=", 1) for line in run(["env"], env={"DIB_RELEASE": "forky"}).stdout.splitlines())
    assert "LC_ALL" not in seen
    assert "PYTHONPATH" not in seen
    assert seen["LANG"] == "C.UTF-8"
    assert seen["SSL_CERT_FILE"] == "/etc/company.pem"
    assert seen["https_proxy"] == "http://proxy:3128"
    assert seen["DIB_RELEASE"] == "forky"
    assert seen["PATH"].startswith("/opt/bin:/usr/bin:")
    assert "/usr/sbin" in seen["PATH"].split(":")


def test_user_and_home_are_there_without_a_login(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("USER", "LOGNAME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    assert {"USER", "LOGNAME", "HOME"} <= environment().keys()


def test_a_log_gets_everything_while_memory_keeps_the_end(tmp_path: Path) -> None:
    log = tmp_path / "build.log"
    heard: list[str] = []
    done = run(["sh", "-c", "seq 1 3000; echo oops >&2"], log=log, on_line=heard.append)
    lines = log.read_text().splitlines()
    assert lines[0] == "$ " + shlex.join(done.argv)
    assert {"1", "3000", "oops"} <= set(lines)
    assert done.stdout.splitlines()[0] == "2001"
    assert len(heard) == 3001
    with pytest.raises(CentralitaError) as caught:
        run(["false"], log=log)
    assert caught.value.log == log


def test_a_time_out_ends_grandchildren_in_other_groups_too() -> None:
    started = time.monotonic()
    with pytest.raises(CentralitaError, match=r"took longer than 0\.3 s"):
        run(["sh", "-c", "setsid sleep 987 & echo $!; sleep 986"], timeout_s=0.3)
    assert time.monotonic() - started < 5
    left = [p for p in procs.snapshot().values() if not p.zombie and _argv(p.pid)[:1] == ["sleep"]]
    assert not [p for p in left if _argv(p.pid)[1] in ("987", "986")]
    assert not ledger.default().entries()


def test_a_daemon_left_in_the_group_does_not_outlive_the_run() -> None:
    started = time.monotonic()
    pid = int(run(["sh", "-c", "sleep 985 >/dev/null 2>&1 & echo $!"]).stdout)
    assert time.monotonic() - started < 5
    process = procs.look(pid)
    assert process is None or process.zombie


def test_an_error_in_a_listener_is_not_swallowed() -> None:
    def listener(line: str) -> None:
        raise RuntimeError(line)

    with pytest.raises(RuntimeError, match="word"):
        run(["echo", "word"], on_line=listener)


def _argv(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except OSError:
        return []


def test_children_do_not_inherit_our_descriptors(tmp_path: Path) -> None:
    with (tmp_path / "open").open("w") as stream:
        os.set_inheritable(stream.fileno(), False)
        listing = run(["sh", "-c", "ls -l /proc/self/fd"]).stdout
    assert str(tmp_path) not in listing
