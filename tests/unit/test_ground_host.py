"""What the host can do: the accelerator, the doctor, and `bootstrap`."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from centralita.ground import accel, doctor, ledger, paths
from centralita.ground.errors import CentralitaError
from centralita.ground.run import run

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CENTRALITA_ACCEL", raising=False)


def test_the_probes_kernel_comes_up_where_the_accelerator_works() -> None:
    """In emulation, which works everywhere: so where KVM fails the probe, it is not for the probe's own fault."""
    kernel = accel.newest_kernel()
    qemu = shutil.which(accel.QEMU)
    assert kernel and qemu, "./bootstrap installs both"
    done = run(accel.boot_command(qemu, kernel, ("-accel", "tcg,thread=multi"), "max"), timeout_s=60)
    assert any(token in done.stdout for token in accel._TOKENS)


def fake_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Path:
    """A QEMU that counts its runs, a /dev/kvm and a kernel."""
    folder = tmp_path / "bin"
    folder.mkdir()
    qemu = folder / accel.QEMU
    qemu.write_text(f"#!/bin/sh\necho run >> '{tmp_path}/runs'\n{script}\n")
    qemu.chmod(0o755)
    for version in ("6.1.0-9-cloud-amd64", "6.1.0-10-cloud-amd64"):
        (tmp_path / f"vmlinuz-{version}").write_text("kernel")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(accel, "KVM_DEVICE", tmp_path / "runs")
    monkeypatch.setattr(accel, "BOOT", tmp_path)
    (tmp_path / "runs").touch()
    return tmp_path / "runs"


def test_kvm_is_chosen_where_a_kernel_boots_and_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "echo '[    1.0] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)'"
    runs = fake_qemu(tmp_path, monkeypatch, script)
    found = accel.probe()
    assert (found.name, found.qemu_args, found.cpu) == ("kvm", ("-accel", "kvm"), "host")
    assert "vmlinuz-6.1.0-10-cloud-amd64 boots" in found.reason
    assert accel.probe() == found
    assert runs.read_text().count("run") == 1
    assert accel.probe(refresh=True).name == "kvm"
    assert runs.read_text().count("run") == 2
    os.utime(tmp_path / "bin" / accel.QEMU, (1, 1))
    accel.probe()
    assert runs.read_text().count("run") == 3, "another QEMU is another question"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'qemu-system-x86_64: failed to set MSR 0x10a' >&2; exit 134", "does not work: failed to set MSR 0x10a"),
        ("exit 1", "QEMU ended with status 1"),
        ("sleep 30", "does not come up"),
    ],
)
def test_kvm_that_is_there_and_does_not_work_is_not_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    monkeypatch.setattr(accel, "_TIMEOUT_S", 0.5)
    runs = fake_qemu(tmp_path, monkeypatch, script)
    found = accel.probe()
    assert (found.name, found.qemu_args) == ("tcg", ("-accel", "tcg,thread=multi"))
    assert reason in found.reason
    assert found.guestfs_environment["LIBGUESTFS_BACKEND_SETTINGS"] == "force_tcg"
    assert accel.probe() == found
    assert runs.read_text().count("run") == 1


def test_without_the_device_nothing_is_booted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = fake_qemu(tmp_path, monkeypatch, "exit 1")
    monkeypatch.setattr(accel, "KVM_DEVICE", tmp_path / "absent")
    assert accel.probe().name == "tcg"
    assert runs.read_text() == ""


def test_the_user_may_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CENTRALITA_ACCEL", "kvm")
    assert accel.probe().name == "kvm"
    monkeypatch.setenv("CENTRALITA_ACCEL", "xen")
    with pytest.raises(CentralitaError, match="CENTRALITA_ACCEL"):
        accel.probe()


def test_libguestfs_works_in_a_folder_that_the_ledger_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/0")
    monkeypatch.setenv("CENTRALITA_ACCEL", "tcg")
    with accel.guestfs_surroundings():
        folder = Path(os.environ["LIBGUESTFS_TMPDIR"])
        assert os.environ["XDG_RUNTIME_DIR"] == str(folder)
        assert os.environ["LIBGUESTFS_BACKEND_SETTINGS"] == "force_tcg"
        assert {entry.kind for entry in ledger.default().entries()} == {"tempdir", "process"}
        assert folder.is_dir()
    assert not folder.exists()
    assert os.environ["XDG_RUNTIME_DIR"] == "/run/user/0"
    assert "LIBGUESTFS_TMPDIR" not in os.environ


def test_the_doctor_looks_at_everything_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = {check.name: check for check in doctor.examine()}
    assert {"root", "host packages", "KVM", "network namespaces", "loop devices", "memory"} <= checks.keys()
    assert checks["host packages"].ok, checks["host packages"]
    assert checks["root"].ok == (os.geteuid() == 0)
    assert all(check.fix for check in checks.values() if not check.ok)
    assert all(check.detail for check in checks.values())
    assert not ledger.default().entries()
    monkeypatch.setattr(doctor, "NEEDED_DISK_MIB", 10**9)
    short = next(check for check in doctor.examine() if check.name == "disk (cache)")
    assert not short.ok
    assert "free 1000000000 MiB" in short.fix


def checkout(tmp_path: Path, bindep: str) -> Path:
    """A checkout with little more than `bootstrap`, in a folder with a space."""
    folder = tmp_path / "a checkout"
    folder.mkdir()
    shutil.copy(paths.repo_root() / "bootstrap", folder)
    (folder / "bindep.txt").write_text(bindep)
    (folder / "pyproject.toml").write_text('[project]\nname = "x"\ndependencies = ["pip"]\n')
    (folder / "constraints.txt").touch()
    return folder


def test_bootstrap_names_the_packages_that_are_missing_for_this_release(tmp_path: Path) -> None:
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    here = f"platform:debian-{release['VERSION_ID'].strip(chr(34))}"
    bindep = f"""
# a comment
bash
no-such-a            # another
no-such-b [{here}]
no-such-c [platform:debian-5 platform:ubuntu]
no-such-d [platform:debian-5 {here}]
no-such-e [!{here}]
no-such-f [platform:debian !platform:debian-5]"""
    done = run([checkout(tmp_path, bindep) / "bootstrap", "--missing"], cwd=Path("/"))
    assert done.stdout.split() == ["no-such-a", "no-such-b", "no-such-d", "no-such-f"]
    assert done.stderr == ""


def test_bootstrap_makes_the_environment_once_and_runs_the_command_in_it(tmp_path: Path) -> None:
    folder = checkout(tmp_path, "bash\n")
    script = folder / "bootstrap"
    # The command sees arguments as they are, and ends with its own status.
    told = 'echo "$PWD|$VIRTUAL_ENV|$(command -v python)|$1"; exit 5'
    command: list[str | Path] = [script, "sh", "-c", told, "sh", "two  words"]
    first = run(command, cwd=Path("/"), check=False)
    expected = f"{folder}|{folder}/.venv|{folder}/.venv/bin/python|two  words\n"
    assert (first.stdout, first.returncode) == (expected, 5)
    assert "making the Python environment" in first.stderr
    second = run(command, check=False)
    assert (second.stdout, second.stderr, second.returncode) == (expected, "", 5)
    assert second.seconds < first.seconds / 5
    # A run that was killed before its end is repeated; so is one whose wishes changed.
    (folder / ".venv/centralita-stamp").unlink()
    assert "installing 1 Python packages" in run([script, "true"]).stderr
    (folder / "constraints.txt").write_text("# changed\n")
    assert "installing 1 Python packages" in run([script, "true"]).stderr
    # In another place its scripts would point back to the old one.
    moved = folder.rename(tmp_path / "moved")
    assert "making the Python environment" in run([moved / "bootstrap", "true"]).stderr


def test_two_bootstraps_take_turns(tmp_path: Path) -> None:
    script = str(checkout(tmp_path, "bash\n") / "bootstrap")
    both = [subprocess.Popen([script, "true"], stderr=subprocess.PIPE, text=True) for _ in range(2)]
    told = [child.communicate()[1] for child in both]
    assert [child.returncode for child in both] == [0, 0]
    assert sum("the environment is ready" in text for text in told) == 1
    assert sum("waiting for another bootstrap" in text for text in told) <= 1


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")
def test_bootstrap_tells_others_than_root_what_to_do(tmp_path: Path) -> None:
    folder = checkout(tmp_path, "bash\nno-such-a\nno-such-b\n")
    for path in (folder, *folder.parents[: len(folder.parts) - len(Path("/tmp").parts) - 1]):
        path.chmod(path.stat().st_mode | 0o055)
    as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    done = run([*as_nobody, folder / "bootstrap", "true"], check=False)
    assert done.returncode == 1
    assert "apt-get install -y --no-install-recommends no-such-a no-such-b" in done.stderr
    assert not (folder / ".venv").exists()


def test_bootstrap_explains_itself(tmp_path: Path) -> None:
    script = paths.repo_root() / "bootstrap"
    assert "./bootstrap invoke test" in run([script, "--help"]).stdout
    wrong = run([script, "--wrong"], check=False)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    bad = run([checkout(tmp_path, "bash [compile]\n") / "bootstrap", "--missing"], check=False)
    assert bad.returncode == 1
    assert "bindep.txt: bash: unknown selector compile" in bad.stderr
    started = time.monotonic()
    run(["shellcheck", script])
    assert time.monotonic() - started < 30
