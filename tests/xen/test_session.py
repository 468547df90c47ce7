"""`invoke run pbx-small --tenant … --target xen-pvh` as somebody at a terminal uses it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from centralita.ground import paths
from tests.conftest import TESTS

pytestmark = pytest.mark.xdist_group("xen")

END_S = 300.0


def test_runs_until_ctrl_c_and_leaves_nothing(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(paths.repo_root()), "XDG_STATE_HOME": str(tmp_path)}
    words = ("run", "pbx-small", "--tenant", str(TESTS / "data/duo.yaml"), "--target", "xen-pvh")
    argv = [sys.executable, "-m", "invoke", "--search-root", str(paths.repo_root()), *words]
    said = ""
    with subprocess.Popen(argv, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        # Its own deadlines end this, should it not come up.
        for line in process.stdout:
            said += line
            if "Ctrl-C powers it down" in line:
                process.send_signal(signal.SIGINT)
        assert process.wait(END_S) == 0, said
    assert "is up as xen-pvh" in said, said
    assert "did not shut down" not in said
    assert not list((tmp_path / "centralita/ledger").glob("*.json"))
