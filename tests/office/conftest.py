"""Super Awesome Company's PBX and its provider, both without a machine, and phones on both sides."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

import pytest

from centralita.clone.identity import IdentityStore
from centralita.clone.render import render
from centralita.ground.paths import repo_root
from centralita.ground.run import run
from centralita.image.build import ostree_of
from centralita.lab.bare import BareAsterisk
from centralita.lab.net import BRIDGE, LabNetwork
from centralita.lab.phones import Phone, Phones
from centralita.spec.tenant import Tenant, load_tenant
from tests.office.provider import PHONE, PHONE_SECRET, provider_files, static_files

WAIT_S = 12


@dataclass
class Office:
    """The office under test: its PBX, its provider, and its phones by extension."""

    tenant: Tenant
    pbx: BareAsterisk
    provider: BareAsterisk
    agents: list[Phones]
    secrets: dict[str, str]
    pins: dict[str, str]
    phones: dict[str, Phone] = field(default_factory=dict)

    def phone(self, number: str) -> Phone:
        """The phone of an extension, registered; it rings and is answered by nobody."""
        if number not in self.phones:
            # An agent holds eight phones and four calls.
            agent = self.agents[int(number) % 2]
            phone = agent.add(number, registrar=self.pbx.address, secret=self.secrets[number])
            assert phone.wait_registered().code == 200
            self.phones[number] = phone
        phone = self.phones[number]
        phone.when_called(180)
        return phone

    @property
    def world(self) -> Phone:
        """A customer's phone, at the provider."""
        return self.phones["world"]

    def dialled(self) -> str:
        """What the provider was last asked to dial, and as whom."""
        lines = [line for line in self.provider.log.splitlines() if "customer dialled" in line]
        return lines[-1].split("customer dialled ")[1] if lines else ""


@pytest.fixture(scope="session")
def office(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    """The office: as declared, but its queues' callers wait for seconds where they are to wait for minutes."""
    appliance = request.config.getoption("--appliance")
    folder = tmp_path_factory.mktemp("office")
    declared = load_tenant(repo_root() / "examples" / "super-awesome.yaml")
    queues = tuple(queue.model_copy(update={"max_wait_seconds": WAIT_S}) for queue in declared.queues)
    tenant = declared.model_copy(update={"queues": queues})
    identity = IdentityStore(folder / "identities").get_or_create(tenant)
    trunk = tenant.trunks[0]
    assert trunk.user is not None and trunk.password is not None and tenant.network.address is not None
    tree = ostree_of(appliance).tar
    with ExitStack() as stack:
        gateway = tenant.network.gateway or IPv4Address("10.0.0.1")
        network = stack.enter_context(LabNetwork(IPv4Network("10.0.0.0/8"), host_address=gateway))
        # The provider is on the same bridge: nothing is routed.
        run(network.argv(["ip", "route", "add", "default", "dev", BRIDGE]))
        files = provider_files(appliance, trunk.user, trunk.password)
        there = IPv4Interface(f"{trunk.host}/24")
        provider = stack.enter_context(BareAsterisk(tree, network, there, files, name="provider"))
        files = [*static_files(appliance), *render(tenant, identity)]
        pbx = stack.enter_context(BareAsterisk(tree, network, tenant.network.address, files))
        agents = [stack.enter_context(Phones(network, workdir=folder / f"phones{n}")) for n in range(3)]
        made = Office(tenant, pbx, provider, agents, identity.sip_secrets, identity.voicemail_pins)
        world = agents[2].add(PHONE, registrar=provider.address, secret=PHONE_SECRET)
        assert world.wait_registered().code == 200
        made.phones["world"] = world
        yield made


@pytest.fixture(autouse=True)
def no_call_left(office: Office) -> Iterator[None]:
    """A test leaves no call to the next one, and no phone that answers."""
    yield
    for agent in office.agents:
        agent.hangup_all()
    for phone in office.phones.values():
        phone.when_called(180)


@pytest.fixture
def wavs(tmp_path: Path) -> Path:
    """Where a test's recordings go."""
    return tmp_path
