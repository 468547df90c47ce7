"""`invoke apply` to a machine that runs: ten calls are up, the change works, and ten calls are still up."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from centralita.clone.identity import IdentityStore
from centralita.clone.render import render
from centralita.ground.errors import CentralitaError
from centralita.ground.paths import repo_root
from centralita.ground.run import Completed, run
from centralita.hosts.access import Access, reach
from centralita.hosts.apply import carry_out, propose
from centralita.lab.guest import Guest
from centralita.lab.phones import Call, Phone, Phones
from centralita.spec.tenant import load_tenant
from tests.arguments import arguments_of_all
from tests.conftest import TESTS, Pbx
from tests.office.company import until

pytestmark = pytest.mark.xdist_group("duo")

APPLY_S = 300.0
Record = Callable[[str, object], None]
OFFICE: dict[str, Any] = {
    "queues": [{"number": 700, "name": "Sales", "agents": [101], "max_wait_seconds": 600,
                "greeting": {"sounds": ["queue-thankyou"]}}],
    "menus": [{"number": 900, "name": "Main", "prompt": {"sounds": ["vm-intro"]}, "keys": {"1": "queue:700"},
               "wait_seconds": 60, "repeats": 9}],
}  # fmt: skip
LATER: dict[str, Any] = {
    "queues": [{"number": 700, "name": "Sales", "agents": [101, 103], "strategy": "random", "max_wait_seconds": 600}],
    "menus": [{"number": 900, "name": "Main", "prompt": {"file": "welcome.wav"}, "wait_seconds": 60, "repeats": 9,
               "keys": {"1": "queue:700", "2": "extension:103"}}],
}  # fmt: skip
CARLA = {"number": 103, "name": "Carla", "ring_seconds": 8, "voicemail": {"pin": "7158"}}


@dataclass(frozen=True)
class Tenants:
    """The shared clone's tenant in files: as it is, with an office, and with another one."""

    folder: Path
    state: Path
    guest: Guest

    def write(self, name: str, **changes: Any) -> Path:  # noqa: ANN401 - YAML
        """Write the tenant with changes."""
        yaml = YAML()
        data = yaml.load(TESTS / "data/duo.yaml")
        data["admins"] = [{"name": "lab", "ssh_keys": [self.guest.ssh.key.public]}]
        data["extensions"] += changes.pop("extensions", [])
        data.update(changes)
        path = self.folder / f"{name}.yaml"
        with path.open("w") as stream:
            yaml.dump(data, stream)
        return path

    def apply(self, file: Path, *flags: str, check: bool = True) -> Completed:
        """Run the task as an admin does."""
        argv: list[str | Path] = [
            sys.executable,
            "-m",
            "invoke",
            "--search-root",
            repo_root(),
            "apply",
            file,
            "--address",
            "pbx",
        ]
        env = {"XDG_STATE_HOME": str(self.state), "PYTHONPATH": str(repo_root())}
        return run(
            [*argv, "--ssh-config", self.guest.ssh.config, "--from", self.folder, *flags],
            env=env, cwd=repo_root(), check=check, timeout_s=APPLY_S,
        )  # fmt: skip


@pytest.fixture
def tenants(pbx: Pbx, tmp_path: Path) -> Iterator[Tenants]:
    """The tenant's files; the clone is as it was when the test is over."""
    assert isinstance(pbx.guest, Guest)
    prepared = pbx.guest.prepared
    (tmp_path / "welcome.wav").write_bytes((TESTS / "data/welcome.wav").read_bytes())
    # A clone's folder has its tenant's name; the lab's has not.
    (tmp_path / "duo").symlink_to(prepared.clone.folder)
    made = Tenants(tmp_path, prepared.workdir / "state", pbx.guest)
    yield made
    made.apply(made.write("duo-again"))


def heard_and_up(pbx: Pbx, calls: list[tuple[str, Call]]) -> None:
    """Each call is up and sends; those to the echo hear themselves all the time."""
    for number, call in calls:
        assert not call.over, number
        received = call.stats().received_packets
        call.go_on(1)
        assert number != "*43" or call.stats().received_packets > received + 25, number
    assert pbx.asterisk("core show channels count").splitlines()[1] == f"{len(calls)} active calls"


def test_a_change_with_ten_calls_up(pbx: Pbx, tenants: Tenants, tmp_path: Path, record_property: Record) -> None:
    store = IdentityStore(tenants.state / "centralita/identities")
    tenants.apply(tenants.write("office", **OFFICE))
    later = tenants.write("later", extensions=[CARLA], **LATER)
    address, secret = pbx.guest.address, pbx.secret("101")
    started = pbx.asterisk("core show uptime seconds")
    with ExitStack() as stack:
        agents = [stack.enter_context(Phones(pbx.guest.network, workdir=tmp_path / f"agent{n}")) for n in range(3)]
        phones = [agent.add("101", registrar=address, secret=secret, register=False) for agent in agents]
        numbers = ["*43", "900", "700", "*43", "*43", "700", "900", "*43", "*43", "*43"]
        calls = [(n, phones[index // 4].call(n, tone_hz=400.0 + 20 * index)) for index, n in enumerate(numbers)]
        for _number, call in calls:
            call.wait_answered(timeout_s=30)
        assert "would change" in tenants.apply(later, "--dry-run").stdout
        with arguments_of_all() as seen:
            done = tenants.apply(later)
        assert "calls up before 10, after 10" in done.stdout
        record_property("seconds", round(done.seconds, 1))
        assert "+[103](extension)" in done.stdout.splitlines()
        carla = new_phone(agents[2], pbx, store)
        answered(carla, phones[2])
        heard_and_up(pbx, calls)
        # Those that heard the old queue's greeting have come through it into the queue.
        until(lambda: len([line for line in channels(pbx) if line[5] == "Queue"]) == 2, "callers to wait")
        assert "random" in pbx.asterisk("queue show 700")

        broken_is_undone(pbx, tenants, store)
        answered(carla, phones[2])
        heard_and_up(pbx, calls)
        assert [call.hangup().code for _number, call in calls] == [200] * 10
    assert int(pbx.asterisk("core show uptime seconds").split()[2]) > int(started.split()[2])

    identity = store.get("duo")
    assert identity is not None
    secrets = {*identity.sip_secrets.values(), *identity.voicemail_pins.values(), "7158", "4719"}
    assert any("apply" in arguments for arguments in seen)
    for secret in secrets:
        assert secret not in done.stdout + done.stderr
        assert len(secret) < 6 or not any(secret in arguments for arguments in seen)
    assert "nothing to change" in tenants.apply(later).stdout
    kept = pbx.guest.prepared.clone.folder / "tenant.yaml"
    assert kept.read_bytes() == later.read_bytes()
    assert kept.stat().st_mode & 0o777 == 0o600


def channels(pbx: Pbx) -> list[list[str]]:
    """Asterisk's channels: name, context, extension, priority, state, application…"""
    return [line.split("!") for line in pbx.asterisk("core show channels concise").splitlines() if "!" in line]


def new_phone(agent: Phones, pbx: Pbx, store: IdentityStore) -> Phone:
    """The phone of the extension that is new, registered."""
    identity = store.get("duo")
    assert identity is not None
    carla = agent.add("103", registrar=pbx.guest.address, secret=identity.sip_secrets["103"])
    assert carla.wait_registered().code == 200
    carla.when_called(200)
    return carla


def answered(phone: Phone, caller: Phone) -> None:
    """The new extension is called and answers."""
    mark = len(phone.phones.events)
    call = caller.call(phone.name, tone_hz=700.0)
    call.wait_answered()
    phone.wait_incoming(after=mark)
    call.wait_heard(1)
    call.hangup()


def broken_is_undone(pbx: Pbx, tenants: Tenants, store: IdentityStore) -> None:
    """What Asterisk does not take is put back, and said."""
    tenant = load_tenant(tenants.folder / "later.yaml")
    identity = store.get_or_create(tenant)
    files = [
        replace(file, content=file.content + b"\n[104](extension)\nno_such_option = 1\n")
        if file.path == "/etc/asterisk/pjsip.conf"
        else file
        for file in render(tenant, identity)
    ]
    before = pbx.guest.ssh.run("sha256sum /etc/asterisk/*.conf").stdout
    with reach(Access("pbx", config=pbx.guest.ssh.config), identity) as machine:
        proposal = propose(machine.shell, files, identity)
        with pytest.raises(CentralitaError, match="no_such_option"):
            carry_out(machine.shell, proposal)
    assert pbx.guest.ssh.run("sha256sum /etc/asterisk/*.conf").stdout == before
    assert pbx.guest.ssh.run("ls -A /etc | grep centralita-apply", check=False).stdout == ""
