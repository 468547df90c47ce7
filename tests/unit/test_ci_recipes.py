"""The CI recipes: valid by their hosts' schemas, and the script that both call, run for real with a small image."""

from __future__ import annotations

import base64
import io
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from centralita.depot.keys import Keys
from centralita.depot.verify import verify_folder
from tests.depot import NAME, image

# One process: each run of the script starts Python several times.
pytestmark = [pytest.mark.unit, pytest.mark.xdist_group("ci-recipes")]

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "ci" / "release"
RECIPES = {"vendor.github-workflows": ROOT / "ci/github-actions.yaml", "vendor.gitlab-ci": ROOT / "ci/gitlab-ci.yml"}
DATA = ROOT / "tests/data/cve/tracker.json"


@pytest.mark.parametrize("schema", RECIPES)
def test_recipes_are_valid_by_their_hosts_schemas(schema: str, tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema]
    done = subprocess.run([*argv, RECIPES[schema]], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    # The check is one that can fail.
    broken = tmp_path / RECIPES[schema].name
    broken.write_text(re.sub(r"timeout(-minutes)?: .*", r"timeout\1: [soon]", RECIPES[schema].read_text()))
    assert subprocess.run([*argv, broken], capture_output=True, check=False).returncode != 0


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda path: path.name)
def test_recipes_call_the_script_with_steps_and_variables_that_it_has(recipe: Path) -> None:
    text, script = recipe.read_text(), SCRIPT.read_text()
    calls = [call.split() for call in re.findall(r"ci/release( [a-z -]+)?$", text, re.MULTILINE)]
    steps = {word for call in calls for word in call if not word.startswith("-")}
    assert steps == {"keys", "build", "test", "publish", "verify", "watch", "refresh", "forget"}
    for step in steps:
        assert f"step_{step}()" in script
    for variable in set(re.findall(r"CENTRALITA_[A-Z_]+", text)):
        assert variable in script


def environment(home: Path, **more: str) -> dict[str, str]:
    """What a CI job has: folders of its own, and this checkout's code in the interpreter that runs the tests."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("CENTRALITA_")}
    return {
        **own,
        "PATH": f"{Path(sys.executable).parent}:{own['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(home / "ci"),
        "XDG_STATE_HOME": str(home / "ci/state"),
        "XDG_CACHE_HOME": str(home / "ci/cache"),
        "CENTRALITA_OUTPUT": str(home / "built"),
        "CENTRALITA_APPLIANCE": str(home / f"{NAME}.yaml"),
        "CENTRALITA_DEPOT": str(home / "depot"),
        "CENTRALITA_RUNNER": "env",
        **more,
    }


def release(home: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPT, *words], env=environment(home, **more), capture_output=True, text=True, check=False, timeout=300
    )


@pytest.fixture
def built(keys: Keys, home: Path) -> str:
    """An image that stands for the last built one, and the keys as a CI variable has them."""
    (home / f"{NAME}.yaml").write_text("schema: 1\nextends: pbx-base\ndescription: Stands for one\nversion: 1.0.0\n")
    golden = image(home / "built", b"one" * 1000)
    (home / "built" / NAME / "latest").symlink_to(golden.record.full_version)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        tar.add(keys.folder, ".", filter=lambda member: None if member.name.startswith("./gnupg/S.") else member)
    return base64.b64encode(packed.getvalue()).decode()


def test_a_dry_run_checks_every_step_and_changes_nothing(built: str, home: Path) -> None:
    done = release(home, "--dry-run", CENTRALITA_SIGNING_KEYS=built, CENTRALITA_UNTESTED="yes")
    assert done.returncode == 0, done.stdout + done.stderr
    for step in ("a whole pair", f"{NAME}.yaml --locked", "--gate", "invoke publish", "done: keys build"):
        assert step in done.stderr
    assert not (home / "depot").exists() and not (home / "ci/state/centralita/keys").exists()
    assert built[:40] not in done.stdout + done.stderr
    wrong = release(home, "--dry-run", "test", CENTRALITA_TEST_FLAGS="--no-such-flag")
    assert wrong.returncode == 1 and "invoke test has no flag --no-such-flag" in wrong.stderr


def test_a_release_of_a_small_image_for_real(built: str, home: Path) -> None:
    secret = home / "secret"
    secret.write_text(built)
    given = {"CENTRALITA_SIGNING_KEYS_FILE": str(secret), "CENTRALITA_FAIL_ON_CVE": ""}
    stopped = release(home, "publish", CENTRALITA_UNTESTED="yes")
    assert stopped.returncode == 1 and "there are no signing keys" in stopped.stderr
    assert release(home, "keys", **given).returncode == 0
    folder = home / "ci/state/centralita/keys"
    loose = [path for path in (folder, *folder.rglob("*")) if path.lstat().st_mode & 0o077]
    assert loose == []
    refused = release(home, "publish", **given)
    assert refused.returncode == 1 and "no signed test results" in refused.stderr + refused.stdout
    shown = release(home, "--dry-run", "publish", CENTRALITA_UNTESTED="yes", CENTRALITA_FAIL_ON_CVE="none",
                    CENTRALITA_CVE_DATA=str(DATA))  # fmt: skip
    done = release(home, "publish", "verify", "refresh", CENTRALITA_UNTESTED="yes", **given)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [r.appliance for r in verify_folder(home / "depot").releases] == [NAME]
    assert shown.returncode == 1 and "does not say its suite" in shown.stdout + shown.stderr
    assert release(home, "forget").returncode == 0 and not folder.exists()


def test_an_ssh_key_is_for_us_alone_and_names_itself_in_the_address(built: str, home: Path) -> None:
    given = {
        "CENTRALITA_SIGNING_KEYS": built,
        "CENTRALITA_SSH_KEY": "-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0",
        "CENTRALITA_SSH_KNOWN_HOSTS": "depot.example.org ssh-ed25519 AAAA",
        "CENTRALITA_DEPOT": "rsync+ssh://ci@depot.example.org/srv/depot",
    }
    done = release(home, "keys", **given)
    assert done.returncode == 0 and "c2VjcmV0" not in done.stdout + done.stderr
    key = home / "ci/state/centralita/ci-ssh/key"
    assert key.read_text() == given["CENTRALITA_SSH_KEY"] + "\n"
    assert key.stat().st_mode & 0o777 == 0o600 and key.parent.stat().st_mode & 0o777 == 0o700
    shown = release(home, "--dry-run", "publish", CENTRALITA_OUTPUT=str(home / "none"), **given)
    hosts = key.with_name("known_hosts")
    assert shown.returncode == 0, shown.stderr
    assert f"--to {given['CENTRALITA_DEPOT']}?keyfile={key}&known_hosts={hosts} " in shown.stderr
    assert release(home, "forget").returncode == 0 and not key.exists()


def test_keys_that_are_none_are_refused_without_showing_them(home: Path) -> None:
    for value in ("not base64!", base64.b64encode(b"secret-of-ours").decode()):
        done = release(home, "keys", CENTRALITA_SIGNING_KEYS=value)
        assert done.returncode == 1 and "not a tar.gz in base64" in done.stderr
        assert value not in done.stderr and "secret-of-ours" not in done.stderr
    assert release(home, "keys").returncode == 1
    state = home / "ci/state/centralita"
    assert not state.exists() or list(state.iterdir()) == []
