"""What the dial plan of a tenant is made of, worked out once: for the renderer, `tenant.show` and `tenant.explain`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from centralita.spec.countries import ALSO_EMERGENCY, caller_forms, emergency_numbers, forms
from centralita.spec.numbering import KINDS, parking_places
from centralita.spec.patterns import Pattern, parse
from centralita.spec.tenant import Extension, Tenant
from centralita.spec.trunks import OutboundRule
from centralita.spec.words import CLASSES, Destination, destination, within


@dataclass(frozen=True)
class Way:
    """A pattern that a class of service can dial. ``rule`` is None where the class is not allowed it."""

    pattern: Pattern
    rule: OutboundRule
    allowed: bool


def rules(tenant: Tenant) -> tuple[OutboundRule, ...]:
    """Return the rules for calls outside; the country's numbers for help that no rule names get one of their own."""
    if not tenant.outbound:
        return ()
    named = [rule for rule in tenant.outbound if rule.service == "emergency"]
    known = {text for rule in named for text in rule.patterns}
    numbers = [number for number in emergency_numbers(tenant.country) if number not in known]
    if older := ALSO_EMERGENCY.get(tenant.country):
        taken_numbers = known | inside(tenant)
        numbers += [number for number in older if number not in taken_numbers]
    if not numbers:
        return tenant.outbound
    trunks = tuple(dict.fromkeys(name for rule in named or tenant.outbound for name in rule.trunks))
    taken = {rule.name for rule in tenant.outbound}
    name = next(name for name in ("emergency", *(f"emergency-{n}" for n in range(2, 999))) if name not in taken)
    made = {"name": name, "class": "emergency", "patterns": tuple(numbers), "trunks": trunks[:8]}
    return (OutboundRule.model_validate(made), *tenant.outbound)


def _kinds(tenant: Tenant) -> set[str]:
    """Return the numbers of what destinations name."""
    return {item.number for key in KINDS for item in getattr(tenant, key)}


def inside(tenant: Tenant) -> set[str]:
    """Return the numbers that something inside has."""
    found = _kinds(tenant)
    if tenant.voicemail.number:
        found.add(tenant.voicemail.number)
    if tenant.parking:
        found |= {tenant.parking.number, *parking_places(tenant.parking.slots)}
    return found


def service_of(tenant: Tenant, extension: Extension) -> str:
    """Return an extension's class of service; without rules for calls outside all are internal."""
    return (extension.service or tenant.default_class) if tenant.outbound else "internal"


def services(tenant: Tenant) -> tuple[str, ...]:
    """Return the classes of service that the tenant has."""
    return CLASSES if tenant.outbound else CLASSES[:1]


def ways(tenant: Tenant, service: str) -> list[Way]:
    """Return what a class finds outside, the most specific pattern first (emergency numbers are apart)."""
    found = [
        Way(parse(text), rule, within(service, rule.service))
        for rule in tenant.outbound
        if rule.service != "emergency"
        for text in rule.patterns
    ]
    return sorted(found, key=lambda way: way.pattern.rank)


def emergencies(tenant: Tenant) -> Iterator[tuple[str, OutboundRule]]:
    """Iterate over the emergency numbers and their rules."""
    for rule in rules(tenant):
        if rule.service == "emergency":
            for text in rule.patterns:
                yield text, rule


@dataclass(frozen=True)
class Did:
    """A public number, without +, and where calls to it go; ``short`` are the ends of it by which trunks know it."""

    number: str
    target: Destination
    name: str = ""
    trunk: str | None = None
    short: tuple[str, ...] = ()


def dids(tenant: Tenant) -> list[Did]:
    """Return all public numbers, those of the extensions included."""
    found: list[tuple[str, Destination, str, str | None]] = [
        (item.number, destination(item.destination), item.name or "", item.trunk) for item in tenant.inbound
    ]
    for extension in tenant.extensions:
        found += [(number, Destination("extension", extension.number), "", None) for number in extension.dids]
    sizes = {
        name: {trunk.did_digits for trunk in tenant.trunks if trunk.did_digits and name in (None, trunk.name)}
        for name in (None, *(trunk.name for trunk in tenant.trunks))
    }
    numbers = _kinds(tenant)
    taken = {(text.lstrip("+"), trunk) for text, _target, _name, trunk in found}
    made = []
    for text, target, name, trunk in found:
        number = text.lstrip("+")
        # In what form a provider sends it is its own affair; other countries' numbers have one.
        ends = [number[-size:] for size in sorted(sizes.get(trunk, ())) if size < len(number)]
        ends += [form for form in forms(text, tenant.country) if form != number and form not in numbers]
        short = tuple(end for end in dict.fromkeys(ends) if (end, trunk) not in taken)
        taken |= {(end, trunk) for end in short}
        made.append(Did(number, target, name, trunk, short))
    return made


def blacklist(tenant: Tenant) -> tuple[str, ...]:
    """Return the patterns of callers who are refused, without +, in each form in which a number may be sent."""
    found: list[str] = []
    for text in tenant.blacklist:
        if text != "anonymous":
            found += caller_forms(text, tenant.country)
    return tuple(dict.fromkeys(found))


def externals(tenant: Tenant) -> tuple[str, ...]:
    """Return the numbers outside that destinations of the file name, sorted."""
    texts: list[str] = [item.destination for item in tenant.inbound]
    for extension in tenant.extensions:
        forward = extension.forward
        texts += [text for text in (forward.always, forward.busy, forward.no_answer) if text]
        texts += extension.follow_me.numbers if extension.follow_me else ()
    for group in tenant.groups:
        texts += [*group.members, group.fallback]
    for queue in tenant.queues:
        texts += [*queue.keys.values(), queue.fallback]
    for menu in tenant.menus:
        texts += [*menu.keys.values(), *menu.also, menu.fallback]
    for schedule in tenant.schedules:
        texts += [text for text in (schedule.open, schedule.closed, schedule.holiday) if text]
    return tuple(sorted({text.removeprefix("external:") for text in texts if text.startswith("external:")}))


def way_outside(tenant: Tenant, number: str) -> OutboundRule | None:
    """Return the rule that dials a number for the office itself (a destination of the file), or None."""
    for text, rule in emergencies(tenant):
        if parse(text).matches(number):
            return rule
    return next((way.rule for way in ways(tenant, "international") if way.pattern.matches(number)), None)
