"""A tenant and its identity as the templates of hooks/ see them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from centralita.clone.identity import Identity
from centralita.clone.prompts import sounds_of
from centralita.spec import calendar, routing
from centralita.spec.office import Menu, Queue, Schedule
from centralita.spec.tenant import Extension, Tenant
from centralita.spec.words import destination

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_STRATEGIES = {
    "ring-all": "ringall",
    "least-recent": "leastrecent",
    "fewest-calls": "fewestcalls",
    "random": "random",
    "round-robin": "rrmemory",
    "in-order": "linear",
}


@dataclass(frozen=True)
class Account:
    """A SIP account; ``digests`` are the hashes of its password by algorithm, as pjsip.conf wants them."""

    name: str
    transport: str
    digests: tuple[tuple[str, str], ...] = field(repr=False)


@dataclass(frozen=True)
class Member:
    """Somebody who is rung through a Local channel: a number in a context."""

    number: str
    context: str


@dataclass(frozen=True)
class Line:
    """An extension as the templates see it. ``pin`` is empty where there is no voicemail box."""

    number: str
    name: str
    ring_seconds: int
    email: str
    pin: str = field(repr=False)
    mailbox_options: tuple[str, ...]
    accounts: tuple[Account, ...]
    codecs: tuple[str, ...]
    service: str
    ringing: str
    do_not_disturb: bool
    caller_id: str | None
    record_in: bool
    record_out: bool
    pickup_group: str | None
    always: str | None
    busy: str | None
    no_answer: str | None
    follow: tuple[Member, ...]
    follow_seconds: int
    follow_confirm: bool


@dataclass(frozen=True)
class GroupView:
    """A ring group: who rings together, in rounds."""

    number: str
    name: str
    ring_seconds: int
    rings: tuple[tuple[Member, ...], ...]
    fallback: str


@dataclass(frozen=True)
class MenuView:
    """A menu with its prompts' names."""

    number: str
    name: str
    prompts: tuple[str, ...]
    keys: dict[str, str]
    also: tuple[Any, ...]
    wait_seconds: int
    repeats: int
    direct_dial: bool
    fallback: str


@dataclass(frozen=True)
class QueueView:
    """A queue with its greeting's prompts, its strategy in Asterisk's words and the rest as declared."""

    queue: Queue
    prompts: tuple[str, ...]
    strategy: str

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self.queue, name)


@dataclass(frozen=True)
class Day:
    """A holiday: of one year, or of each (``year`` is empty)."""

    year: str
    month: str
    month_number: str
    day: str
    day_number: str


@dataclass(frozen=True)
class ScheduleView:
    """A schedule with its holidays taken apart."""

    name: str
    hours: tuple[Any, ...]
    days: tuple[Day, ...]
    open: str
    closed: str
    holiday: str


def realm_of(tenant: Tenant) -> str:
    """Return the digest realm: the tenant's name, so that equal secrets of two tenants have different digests."""
    return tenant.name


def context_of(tenant: Tenant, identity: Identity) -> dict[str, Any]:
    """Return what the templates may use."""
    lines = tuple(_line_of(tenant, identity, extension) for extension in tenant.extensions)
    transports = {account.transport for line in lines for account in line.accounts}
    numbered = ("groups", "queues", "menus", "conferences", "pages", "faxes")
    return {
        "tenant": tenant.model_copy(update={"company": tenant.company or tenant.name}),
        "identity": identity,
        "host": tenant.host,
        "realm": realm_of(tenant),
        "lines": lines,
        "static": tenant.network.method == "static",
        "dhcp": tenant.network.method == "dhcp",
        "nameservers": tenant.network.method == "static" or bool(tenant.network.dns),
        "admins": bool(tenant.admins),
        "autologin": tenant.console == "autologin",
        "trunks": bool(tenant.trunks),
        "mail": tenant.mail is not None,
        "faxes": bool(tenant.faxes),
        "webrtc": "webrtc" in transports,
        "tls": bool(transports & {"tls", "webrtc"}) or any(trunk.transport == "tls" for trunk in tenant.trunks),
        "algorithms": ",".join(tenant.digest),
        "classes": routing.services(tenant),
        "kinds": tuple(kind for kind in numbered if getattr(tenant, kind)),
        "rules": routing.rules(tenant),
        "ways": {service: routing.ways(tenant, service) for service in routing.services(tenant)},
        "emergencies": list(routing.emergencies(tenant)),
        "dids": routing.dids(tenant),
        "blacklist": routing.blacklist(tenant),
        "no_anonymous": "anonymous" in tenant.blacklist,
        "externals": [
            (number, rule) for number in routing.externals(tenant) if (rule := routing.way_outside(tenant, number))
        ],
        "groups": tuple(_group(group) for group in tenant.groups),
        "queues": tuple(
            QueueView(queue, sounds_of(f"queue-{queue.number}", queue.greeting), _STRATEGIES[queue.strategy])
            for queue in tenant.queues
        ),
        "menus": tuple(_menu(menu) for menu in tenant.menus),
        "schedules": tuple(_schedule(schedule) for schedule in tenant.schedules),
        "record": {
            "schema": 1,
            "name": tenant.name,
            "company": tenant.company or tenant.name,
            "hostname": tenant.host,
            "uuid": identity.uuid,
            "mac": identity.mac,
            "language": tenant.language,
            "extensions": [line.number for line in lines],
        },
    }


def _members(texts: Sequence[str]) -> tuple[Member, ...]:
    """Return whom to ring: extensions through "agents", numbers outside through "external"."""
    found = []
    for text in texts:
        kind, _colon, value = text.rpartition(":")
        found.append(Member(value, "external" if kind == "external" else "agents"))
    return tuple(found)


def _line_of(tenant: Tenant, identity: Identity, extension: Extension) -> Line:
    number = extension.number
    pin = email = ""
    options: list[str] = []
    if box := extension.voicemail:
        pin = box.pin if box.pin is not None else identity.voicemail_pins[number]
        email = box.email or ""
        options = [*(["delete=yes"] if box.delete else []), *([] if box.directory else ["hidefromdir=yes"])]
    secrets = [(number, extension.secret, extension.transport)]
    secrets += [(f"{number}-{device.name}", device.secret, device.transport) for device in extension.devices]
    follow = extension.follow_me
    return Line(
        number=number,
        name=extension.name,
        ring_seconds=extension.ring_seconds,
        email=email,
        pin=pin,
        mailbox_options=tuple(options),
        accounts=tuple(_account(tenant, identity, *secret) for secret in secrets),
        codecs=extension.codecs or tenant.codecs,
        service=routing.service_of(tenant, extension),
        ringing="any" if extension.call_waiting else "single",
        do_not_disturb=extension.do_not_disturb,
        caller_id=extension.caller_id,
        record_in=extension.record in ("inbound", "all"),
        record_out=extension.record in ("outbound", "all"),
        pickup_group=extension.pickup_group,
        always=extension.forward.always,
        busy=extension.forward.busy,
        no_answer=extension.forward.no_answer,
        follow=_members(follow.numbers) if follow else (),
        follow_seconds=follow.ring_seconds if follow else 0,
        follow_confirm=bool(follow and follow.confirm),
    )


def _account(tenant: Tenant, identity: Identity, name: str, secret: str | None, transport: str) -> Account:
    password = secret if secret is not None else identity.sip_secrets[name]
    # RFC 7616, 3.4.2: the hash of what both sides know, in place of the secret itself.
    shared = f"{name}:{realm_of(tenant)}:{password}".encode()
    hashes = {
        "MD5": hashlib.md5(shared, usedforsecurity=False).hexdigest(),
        "SHA-256": hashlib.sha256(shared).hexdigest(),
    }
    return Account(name, transport, tuple((algorithm, hashes[algorithm]) for algorithm in tenant.digest))


def _group(group: Any) -> GroupView:  # noqa: ANN401 - centralita.spec.office.Group
    members = _members(group.members)
    rings = (members,) if group.strategy == "ring-all" else tuple((member,) for member in members)
    return GroupView(group.number, group.name, group.ring_seconds, rings, group.fallback)


def _menu(menu: Menu) -> MenuView:
    return MenuView(
        menu.number,
        menu.name,
        sounds_of(f"menu-{menu.number}", menu.prompt),
        menu.keys,
        tuple(target for text in menu.also if (target := destination(text)).value),
        menu.wait_seconds,
        menu.repeats,
        menu.direct_dial,
        menu.fallback,
    )


def _schedule(schedule: Schedule) -> ScheduleView:
    days = []
    for holiday in schedule.holidays:
        for date in calendar.dates_of(holiday.date, holiday.until):
            *year, month, day = date.split("-")
            days.append(Day("".join(year), _MONTHS[int(month) - 1], month, str(int(day)), day))
    hours = tuple((item.time, days) for item in schedule.hours for days in item.days.split(","))
    closed = schedule.closed
    return ScheduleView(schedule.name, hours, tuple(days), schedule.open, closed, schedule.holiday or closed)
