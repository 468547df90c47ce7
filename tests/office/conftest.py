"""Super Awesome Company's PBX and its provider, both without a machine, and phones on both sides."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Interface
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
    provider: BareAsterisk | None
    agents: list[Phones]
    secrets: dict[str, str]
    pins: dict[str, str]
    phones: dict[str, Phone] = field(default_factory=dict)

    def phone(self, number: str) -> Phone:
        """The phone of an extension, registered; it rings and is answered by nobody."""
        if number not in self.phones:
            # An agent holds eight phones and four calls.
            agent = self.agents[int(number) % 2]
            declared = next(item for item in self.tenant.extensions if item.number == number)
            secret, transport = self.secrets[number], declared.transport
            phone = agent.add(number, registrar=self.pbx.address, secret=secret, transport=transport)
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
        assert self.provider is not None
        lines = [line for line in self.provider.log.splitlines() if "customer dialled" in line]
        return lines[-1].split("customer dialled ")[1] if lines else ""


@contextmanager
def opened(tenant: Tenant, appliance: str, folder: Path, *, with_provider: bool) -> Iterator[Office]:
    """An office's PBX and phones; with its first trunk's provider, and a customer's phone there."""
    identity = IdentityStore(folder / "identities").get_or_create(tenant)
    interface, gateway = tenant.network.address, tenant.network.gateway
    assert interface is not None and gateway is not None
    tree = ostree_of(appliance).tar
    with ExitStack() as stack:
        network = stack.enter_context(LabNetwork(interface.network, host_address=gateway))
        # Whoever else there is, is on the same bridge: nothing is routed.
        run(network.argv(["ip", "route", "add", "default", "dev", BRIDGE]))
        provider: BareAsterisk | None = None
        if with_provider:
            trunk = tenant.trunks[0]
            assert trunk.user is not None and trunk.password is not None
            files = provider_files(appliance, trunk.user, trunk.password)
            there = IPv4Interface(f"{trunk.host}/24")
            provider = stack.enter_context(BareAsterisk(tree, network, there, files, name="provider"))
        files = [*static_files(appliance), *render(tenant, identity)]
        pbx = stack.enter_context(BareAsterisk(tree, network, interface, files, name=tenant.host))
        agents = [stack.enter_context(Phones(network, workdir=folder / f"phones{n}")) for n in range(3)]
        made = Office(tenant, pbx, provider, agents, identity.sip_secrets, identity.voicemail_pins)
        if provider is not None:
            world = agents[2].add(PHONE, registrar=provider.address, secret=PHONE_SECRET)
            assert world.wait_registered().code == 200
            made.phones["world"] = world
        yield made


@pytest.fixture(scope="session")
def office(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    """Super Awesome Company as declared, but callers wait in queues for seconds, and the mail server is the lab's."""
    declared = load_tenant(repo_root() / "examples" / "super-awesome.yaml")
    queues = tuple(queue.model_copy(update={"max_wait_seconds": WAIT_S}) for queue in declared.queues)
    assert declared.mail is not None and declared.network.gateway is not None
    ours = {"host": str(declared.network.gateway), "port": 2525, "tls": "none"}
    tenant = declared.model_copy(update={"queues": queues, "mail": declared.mail.model_copy(update=ours)})
    appliance = request.config.getoption("--appliance")
    with opened(tenant, appliance, tmp_path_factory.mktemp("office"), with_provider=True) as made:
        yield made


@pytest.fixture(scope="session")
def features(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    """The office whose file says everything; its trunks reach nobody."""
    tenant = load_tenant(repo_root() / "tests" / "data" / "office.yaml")
    appliance = request.config.getoption("--appliance")
    with opened(tenant, appliance, tmp_path_factory.mktemp("features"), with_provider=False) as made:
        yield made


def hang_up(office: Office) -> None:
    """Leave no call to the next test, and no phone that answers."""
    for agent in office.agents:
        agent.hangup_all()
    for phone in office.phones.values():
        phone.when_called(180)
