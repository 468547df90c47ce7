"""`invoke apply` as an admin types it: over SSH, to the machine of that identity and no other, also if killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from centralita.clone.identity import Identity, IdentityStore
from centralita.clone.render import render
from centralita.ground.ledger import default as ledger
from centralita.ground.paths import repo_root
from centralita.ground.run import Completed, environment, run
from centralita.image.build import ostree_of
from centralita.lab.bare import BareAsterisk
from centralita.lab.net import LabNetwork
from centralita.lab.phones import Phones
from centralita.lab.ssh import AdminKey, make_key
from centralita.spec.tenant import load_tenant
from tests.arguments import arguments_of_all
from tests.conftest import TESTS
from tests.office.company import until
from tests.office.provider import static_files

pytestmark = [pytest.mark.calls, pytest.mark.xdist_group("apply-ssh")]

PORT = 2222
TASK_S = 120.0


@dataclass(frozen=True)
class Reachable:
    """The shop's PBX with an SSH server of its own tree, its admin's key and files of its tenant."""

    pbx: BareAsterisk
    folder: Path
    key: AdminKey
    store: IdentityStore
    before: Path
    later: Path

    @property
    def identity(self) -> Identity:
        found = self.store.get("shop")
        assert found is not None
        return found

    def argv(self, file: Path, *flags: str | Path) -> list[str | Path]:
        argv = [sys.executable, "-m", "invoke", "--search-root", str(repo_root()), "apply", str(file)]
        where = ["--address", "pbx", "--ssh-config", str(self.folder / "ssh_config")]
        if "--key" not in flags:
            where += ["--key", str(self.key.private)]
        return [*self.pbx.network.argv([*argv, *where, *map(str, flags)])]

    @property
    def environment(self) -> dict[str, str]:
        return {"XDG_STATE_HOME": str(self.folder / "state"), "PYTHONPATH": str(repo_root())}

    def apply(self, file: Path, *flags: str | Path, check: bool = True) -> Completed:
        """Run the task."""
        argv = self.argv(file, *flags)
        return run(argv, env=self.environment, cwd=repo_root(), check=check, timeout_s=TASK_S)


def write(folder: Path, name: str, *keys: str) -> Path:
    """Write one of the shop's files with admins who have these keys."""
    listed = "".join(f"\n  - {{name: Admin {index}, ssh_keys: [{key}]}}" for index, key in enumerate(keys))
    path = folder / f"{name}-{len(keys)}.yaml"
    path.write_text((TESTS / f"data/{name}.yaml").read_text().replace("admins: []", f"admins:{listed}"))
    return path


@pytest.fixture(scope="module")
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reachable]:
    folder = tmp_path_factory.mktemp("shop")
    (folder / "welcome.wav").write_bytes((TESTS / "data/welcome.wav").read_bytes())
    key = make_key(folder)
    before, later = (write(folder, name, key.public) for name in ("shop", "shop-later"))
    tenant = load_tenant(before)
    store = IdentityStore(folder / "state/centralita/identities")
    files = render(tenant, store.get_or_create(tenant))
    appliance = request.config.getoption("--appliance")
    interface = tenant.network.address
    assert interface is not None
    with ExitStack() as stack:
        network = stack.enter_context(LabNetwork(interface.network, host_address=tenant.network.gateway))
        tree = ostree_of(appliance).tar
        pbx = stack.enter_context(BareAsterisk(tree, network, interface, [*static_files(appliance), *files]))
        for name, minor in (("null", 3), ("zero", 5), ("urandom", 9)):
            run(["mknod", "-m", "666", pbx.root / "dev" / name, "c", "1", str(minor)])
        (pbx.root / "run/sshd").mkdir()
        log = stack.enter_context((folder / "sshd.log").open("wb"))
        server = ["/usr/sbin/sshd", "-D", "-e", "-p", str(PORT), "-o", "PidFile=none"]
        stack.enter_context(
            ledger().process(
                network.argv(["chroot", str(pbx.root), *server]),
                env=environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )
        )  # fmt: skip
        until(lambda: b"listening" in (folder / "sshd.log").read_bytes(), "the SSH server")
        (folder / "ssh_config").write_text(f"Host pbx\n  HostName {network.host_address}\n  Port {PORT}\n")
        yield Reachable(pbx, folder, key, store, before, later)


@pytest.fixture(autouse=True)
def as_before(shop: Reachable) -> None:
    """Each test begins with the shop as it was."""
    shop.apply(shop.before)


def test_it_is_shown_then_done_then_nothing_and_no_secret_is_seen(shop: Reachable, tmp_path: Path) -> None:
    assert "would change" in shop.apply(shop.later, "--dry-run").stdout
    assert "103" not in shop.pbx.cli("pjsip list endpoints")
    with arguments_of_all() as seen:
        done = shop.apply(shop.later)
    assert "+[103](extension)" in done.stdout.splitlines()
    assert "shop: applied; calls up before 0, after 0" in done.stdout
    with Phones(shop.pbx.network, workdir=tmp_path / "phones") as agent:
        carla = agent.add("103", registrar=shop.pbx.address, secret=shop.identity.sip_secrets["103"])
        assert carla.wait_registered().code == 200
    assert any("centralita-apply" in arguments for arguments in seen)
    rendered = b"".join(file.content for file in render(load_tenant(shop.later), shop.identity) if file.secret)
    digests = [line.rpartition(b":")[2].decode() for line in rendered.splitlines() if b"password_digest" in line]
    assert len(digests) == 6
    for secret in (*shop.identity.sip_secrets.values(), *digests, "7158", "6930"):
        assert secret not in done.stdout + done.stderr
        assert len(secret) < 6 or not any(secret in arguments for arguments in seen)
    again = shop.apply(shop.later)
    assert "nothing to change" in again.stdout


def test_whoever_applies_is_killed_and_the_next_apply_mends_it(shop: Reachable) -> None:
    with (shop.folder / "killed.log").open("w+b") as said:
        process = subprocess.Popen(
            [str(word) for word in shop.argv(shop.later)],
            env=environment(shop.environment), cwd=repo_root(), stdout=said, stderr=said, start_new_session=True,
        )  # fmt: skip
        text = shop.folder / "killed.log"
        until(lambda: b"==> apply to shop" in text.read_bytes(), "it to begin", TASK_S)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    run([sys.executable, "-m", "invoke", "--search-root", repo_root(), "clean", "--orphans"], env=shop.environment)
    shop.apply(shop.later)
    assert "nothing to change" in shop.apply(shop.later).stdout
    assert "PJSIP/103" in shop.pbx.cli("core show hints")
    assert not list((shop.pbx.root / "etc").glob(".centralita*"))


def test_another_machine_is_not_talked_to(shop: Reachable, tmp_path: Path) -> None:
    state = tmp_path / "state/centralita/identities"
    other = IdentityStore(state).get_or_create(load_tenant(shop.later))
    assert other.host_keys != shop.identity.host_keys
    env = {**shop.environment, "XDG_STATE_HOME": str(tmp_path / "state")}
    done = run(shop.argv(shop.later), env=env, cwd=repo_root(), check=False, timeout_s=TASK_S)
    assert done.returncode == 1
    assert "is another machine: it has not the host keys of shop's identity" in done.stdout + done.stderr


def test_admins_change_and_nobody_locks_himself_out(shop: Reachable, tmp_path: Path) -> None:
    new = make_key(tmp_path)
    both = write(shop.folder, "shop", shop.key.public, new.public)
    assert "the admins' keys are the new ones" in shop.apply(both).stdout
    assert "nothing to change" in shop.apply(both, "--key", new.private).stdout
    only = write(tmp_path, "shop", new.public)
    done = shop.apply(only, check=False)
    assert done.returncode == 1 and "could not get in any more" in done.stdout + done.stderr
    assert "nothing to change" in shop.apply(both).stdout
    assert "the admins' keys are the new ones" in shop.apply(only, "--key", new.private).stdout
    shop.apply(both, "--key", new.private)
