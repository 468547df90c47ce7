"""A company's whole office under test, and calls that are told in words: tests/data/calls/NAME.yaml."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import IPv4Interface
from pathlib import Path

from ruamel.yaml import YAML

from centralita.clone.identity import IdentityStore
from centralita.clone.render import render
from centralita.ground.run import run
from centralita.image.build import ostree_of
from centralita.lab.bare import BareAsterisk
from centralita.lab.net import BRIDGE, LabNetwork
from centralita.lab.phone_events import PhonesError
from centralita.lab.phones import PACKETS_PER_SECOND, Call, Phone, Phones
from centralita.spec.tenant import Tenant
from tests.office.provider import PHONE, PHONE_SECRET, static_files
from tests.office.world import addresses, world_files

# A phone that sends no sound sends nothing at all, and its keys would be the first packets that Asterisk sees of it.
TONE_HZ = 300.0
PHONES_AN_AGENT = 6


@dataclass
class Company:
    """An office, its providers, and phones that are made when they are first needed."""

    tenant: Tenant
    pbx: BareAsterisk
    world: BareAsterisk
    folder: Path
    secrets: dict[str, str]
    pins: dict[str, str]
    stack: ExitStack
    agents: list[Phones] = field(default_factory=list)
    phones: dict[str, Phone] = field(default_factory=dict)

    def phone(self, account: str) -> Phone:
        """The phone of an account (101, 101-mobile), registered; it rings and is answered by nobody."""
        if account not in self.phones:
            number, _dash, device = account.partition("-")
            extension = next(item for item in self.tenant.extensions if item.number == number)
            part = next((item for item in extension.devices if item.name == device), extension)
            secret = part.secret or self.secrets[account]
            phone = self._agent().add(
                account,
                registrar=self.pbx.address,
                secret=secret,
                transport=part.transport,
                srtp=part.transport == "tls",
            )
            assert phone.wait_registered().code == 200, account
            self.phones[account] = phone
        self.phones[account].when_called(180)
        return self.phones[account]

    def accounts(self, number: str) -> tuple[str, ...]:
        """The accounts of an extension that a phone can be had for here."""
        extension = next(item for item in self.tenant.extensions if item.number == number)
        parts = [(number, extension.transport), *((f"{number}-{d.name}", d.transport) for d in extension.devices)]
        return tuple(name for name, transport in parts if transport != "webrtc")

    def outside(self) -> Phone:
        """The phone in the world."""
        if PHONE not in self.phones:
            agent = Phones(self.pbx.network, workdir=self.folder / "outside")
            self.stack.enter_context(agent)
            self.agents.append(agent)
            phone = agent.add(PHONE, registrar=self.world.address, secret=PHONE_SECRET)
            assert phone.wait_registered().code == 200
            self.phones[PHONE] = phone
        return self.phones[PHONE]

    def from_outside(self, trunk: str, caller: str, called: str) -> Call:
        """Call a public number over a trunk as somebody."""
        index = [item.name for item in self.tenant.trunks].index(trunk)
        return self.outside().call(f"{index}*{caller}*{called}", tone_hz=TONE_HZ)

    def taken(self) -> list[str]:
        """What the trunks were asked to dial so far: ``main took 0034… as …``."""
        return re.findall(r"(\S+ took \S+ as \S*)", self.world.log)

    def running(self) -> list[tuple[str, str, str]]:
        """Context, application and arguments of each channel."""
        lines = (line.split("!") for line in self.pbx.cli("core show channels concise").splitlines())
        return [(fields[1], fields[5], fields[6]) for fields in lines if len(fields) > 6]

    def hang_up(self) -> None:
        """Leave no call to the next test."""
        for agent in self.agents:
            agent.hangup_all()
        until(lambda: not self.running(), "all calls to be over")

    def _agent(self) -> Phones:
        inside = [agent for agent in self.agents if agent.workdir.name != "outside"]
        made = len([name for name in self.phones if name != PHONE])
        if made >= PHONES_AN_AGENT * len(inside):
            agent = Phones(self.pbx.network, workdir=self.folder / f"phones{len(inside)}")
            self.stack.enter_context(agent)
            self.agents.append(agent)
            return agent
        return inside[-1]


def until(look: Callable[[], object], what: str, seconds: float = 20) -> None:
    """Wait until something that can only be asked is so."""
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        time.sleep(0.2)


@contextmanager
def company(
    tenant: Tenant,
    appliance: str,
    folder: Path,
    *,
    at: datetime | None = None,
    dead: Sequence[str] = (),
    refusing: Sequence[str] = (),
) -> Iterator[Company]:
    """Open an office. ``dead`` trunks' hosts are nowhere, ``refusing`` ones are full; the clock starts at ``at``."""
    identity = IdentityStore(folder / "identities").get_or_create(tenant)
    interface, gateway = tenant.network.address, tenant.network.gateway
    assert interface is not None and gateway is not None
    tree = ostree_of(appliance).tar
    with ExitStack() as stack:
        network = stack.enter_context(LabNetwork(interface.network, host_address=gateway))
        run(network.argv(["ip", "route", "add", "default", "dev", BRIDGE]))
        home = IPv4Interface(f"{interface.network.broadcast_address - 1}/{interface.network.prefixlen}")
        files = world_files(tenant, appliance, interface.ip, home.ip, refusing=refusing, folder=folder)
        there = addresses(tenant, interface.network, dead)
        world = stack.enter_context(BareAsterisk(tree, network, home, files, name="world", also=there))
        files = [*static_files(appliance), *render(tenant, identity)]
        pbx = stack.enter_context(BareAsterisk(tree, network, interface, files, name=tenant.host, at=at))
        made = Company(tenant, pbx, world, folder, identity.sip_secrets, identity.voicemail_pins, stack)
        names = {trunk.name for trunk in tenant.trunks if trunk.kind == "registered" and trunk.name not in dead}
        shown = re.compile(r"(\S+)/sip:\S+ .*\bRegistered")
        until(lambda: set(shown.findall(pbx.cli("pjsip show registrations"))) >= names, f"{names} to register")
        yield made


@dataclass(frozen=True)
class Told:
    """A call of a call list."""

    what: str
    caller: str
    dial: str
    ends: str
    trunk: str | None = None
    keys: tuple[str, ...] = ()
    at: datetime | None = None
    before: tuple[tuple[str, str], ...] = ()
    busy: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    seconds: float = 25


def call_list(path: Path) -> list[Told]:
    """Return the calls of a file."""
    data = YAML(typ="safe").load(path)
    calls = []
    for item in data["calls"]:
        at = datetime.fromisoformat(str(item["at"])) if "at" in item else None
        keys, busy, gone = (tuple(str(value) for value in item.get(key, ())) for key in ("keys", "busy", "gone"))
        before = tuple((str(caller), str(code)) for caller, code in item.get("before", ()))
        calls.append(
            Told(
                what=str(item["what"]),
                caller=str(item["from"]),
                dial=str(item["dial"]),
                ends=str(item["ends"]),
                trunk=item.get("trunk"),
                keys=keys,
                at=at,
                before=before,
                busy=busy,
                gone=gone,
                seconds=item.get("seconds", 25),
            )
        )
    return calls


def place(office: Company, told: Told) -> None:
    """Make a call and see that it ends as told."""
    for caller, code in told.before:
        call = office.phone(caller).call(code, tone_hz=TONE_HZ)
        call.wait_answered()
        call.wait_heard(0.5)
        call.hangup()
    kind, *values = told.ends.split()
    ringing = values if kind == "rings" else values[values.index("rings") + 1 :] if "rings" in values else []
    accounts = [account for number in ringing for account in office.accounts(number) if account not in told.gone]
    phones = [office.phone(account) for account in accounts]
    for account in told.busy:
        office.phone(account).when_called(486)
    for account in told.gone:
        if account in office.phones:
            office.phones.pop(account).register(False)
    marks = [len(phone.phones.events) for phone in phones]
    taken = len(office.taken())
    if told.trunk:
        call = office.from_outside(told.trunk, told.caller, told.dial)
    else:
        call = office.phone(told.caller).call(told.dial, tone_hz=TONE_HZ)
    heard = 1.0
    for keys in told.keys:
        call.wait_answered()
        call.wait_heard(heard)
        call.dtmf(keys)
        with suppress(PhonesError):  # a key may end the call
            # The next is pressed when more is heard: between two prompts nothing listens for keys.
            heard = call.go_on(0.5).received_packets / PACKETS_PER_SECOND + 1
    for phone, mark in zip(phones, marks, strict=True):
        phone.wait_incoming(after=mark, timeout_s=told.seconds)
    _ended(office, told, call, kind, values, taken)
    if not call.over:
        call.hangup()


_APPLICATIONS = {
    "queue": ("Queue", ""),
    "voicemail": ("VoiceMail", "@default"),
    "conference": ("ConfBridge", ","),
    "fax": ("ReceiveFAX", None),
    "mailbox": ("VoiceMailMain", None),
    "directory": ("Directory", None),
    "echo": ("Echo", None),
    "page": ("Page", None),
}


def _ended(office: Company, told: Told, call: Call, kind: str, values: list[str], taken: int) -> None:
    what = f"{told.what}: {told.ends}"
    if kind == "rings":
        return
    if kind == "trunk":
        trunk, _sends, number, _as, caller = values
        wanted = f"{trunk} took {number} as {caller}"
        until(lambda: wanted in office.taken()[taken:], what, told.seconds)
        call.wait_answered()
    elif kind in ("refused", "ended"):
        end = call.wait_ended(timeout_s=told.seconds)
        assert (end.code >= 400 and end.connected_s == 0) == (kind == "refused"), f"{what}: {end}"
        assert office.taken()[taken:] == [], what
    elif kind == "menu":
        until(lambda: any(context == f"menu-{values[0]}" for context, *_rest in office.running()), what, told.seconds)
    else:
        application, after = _APPLICATIONS[kind]
        start = "" if after is None else values[0] + after
        if kind == "voicemail" and len(values) > 1:
            start += f",{values[1][0]}"  # its greeting: unavailable or busy
        until(lambda: any(app == application and data.startswith(start) for _context, app, data in office.running()),
              what, told.seconds)  # fmt: skip
