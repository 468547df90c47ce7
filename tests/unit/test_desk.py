"""The front desk as a user meets it: `invoke` in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def invoke(*argv: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run invoke with cache and state in *folder*."""
    env = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "XDG_STATE_HOME": str(folder / "state")}
    return subprocess.run(
        [sys.executable, "-m", "invoke", *argv], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )


def test_list_of_tasks_tells_what_each_is_for(tmp_path: Path) -> None:
    """Every task has a line of help."""
    out = invoke("--list", folder=tmp_path).stdout
    for task in ("build", "list", "show", "doctor", "lock", "run", "test", "clean", "tenant.check"):
        assert f"  {task} " in out
    flags = invoke("build", "--help", folder=tmp_path).stdout
    assert "--locked" in flags and "--mirror" in flags and "--progress" in flags


@pytest.mark.parametrize("words", [["appliance=pbx-nope"], ["--appliance", "pbx-nope"], ["pbx-nope"]])
def test_three_ways_to_name_an_appliance_are_one(words: list[str], tmp_path: Path) -> None:
    """All three give the same error for a name that is not there, and status 1; nothing is written."""
    done = invoke("build", *words, folder=tmp_path)
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert "pbx-nope" in said and "pbx-small" in said
    assert "Traceback" not in said
    assert not (ROOT / "output/pbx-nope").exists()


def test_unknown_flag_and_progress_are_errors_with_a_hint(tmp_path: Path) -> None:
    """A flag that is none is not taken for an appliance; a progress mode that is none is named."""
    done = invoke("build", "--nonsense", folder=tmp_path)
    assert done.returncode == 1 and "no flag --nonsense" in done.stdout + done.stderr
    done = invoke("list", "--progress", "loud", folder=tmp_path)
    assert done.returncode == 1 and "rich, plain, json" in done.stdout + done.stderr


def test_abstract_appliance_is_not_built(tmp_path: Path) -> None:
    """Building an abstract appliance says what to do instead."""
    done = invoke("build", "pbx-base", folder=tmp_path)
    assert done.returncode == 1 and "abstract" in done.stdout + done.stderr


def test_show_as_json_is_json(tmp_path: Path) -> None:
    """`invoke show --json` prints one JSON document with the stages and why they are or are not cached."""
    done = invoke("show", "pbx-small", "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["appliance"]["memory_mib"] == 512
    states = {row["stage"]: row for row in shown["stages"]}
    assert states["OS tree"]["state"] == "to be made"
    assert "MB" in states["packages"]["why"]
