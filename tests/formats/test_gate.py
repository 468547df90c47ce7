"""The way to a release that is no untested one: build, test, publish, each as an admin types it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from centralita.ground import paths

pytestmark = pytest.mark.xdist_group("formats")


def test_what_passed_its_tests_is_released_without_a_flag(tmp_path: Path) -> None:
    appliances = paths.repo_root() / "appliances"
    declared = tmp_path / "pbx-small.yaml"
    # The same image, hence from the cache, for the one target whose tests take no minutes.
    declared.write_text((appliances / "pbx-small.yaml").read_text() + "\ntargets: [container]\n")
    declared.with_suffix(".lock").write_bytes((appliances / "pbx-small.lock").read_bytes())
    folders = {"XDG_STATE_HOME": tmp_path / "state", "CENTRALITA_OUTPUT": tmp_path / "output"}
    # The run of pytest inside is its own, not a worker of this one.
    ours = ("PYTEST_", "CENTRALITA_TEST_")
    env = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    env |= {name: str(path) for name, path in folders.items()}

    def invoke(*words: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "invoke", *words]
        return subprocess.run(argv, cwd=paths.repo_root(), env=env, capture_output=True, text=True, check=False)

    depot = str(tmp_path / "depot")
    assert invoke("keys").returncode == 0
    built = invoke("build", str(declared))
    assert built.returncode == 0, built.stderr
    early = invoke("publish", str(declared), "--to", depot)
    assert early.returncode != 0
    assert "no signed test results" in early.stderr and "invoke test --gate" in early.stderr
    tested = invoke("test", "--gate", "--appliance", str(declared))
    assert tested.returncode == 0, tested.stdout[-4000:]
    published = invoke("publish", str(declared), "--to", depot)
    assert published.returncode == 0, published.stderr
    verified = invoke("depot.verify", depot)
    assert verified.returncode == 0, verified.stderr
    assert "pbx-small" in verified.stdout + verified.stderr
    assert "UNTESTED" not in verified.stdout + verified.stderr
