"""What happens to a call, told step by step from a tenant's file: for `tenant.explain` and `tenant.show`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from itertools import product

from centralita.spec import calendar, routing
from centralita.spec.numbering import KINDS, PICKUP, parking_places
from centralita.spec.office import Menu, Queue, Schedule
from centralita.spec.patterns import parse
from centralita.spec.tenant import Extension, Tenant
from centralita.spec.trunks import OutboundRule
from centralita.spec.words import Destination, destination

#: From how many destinations on a story tells each once.
LONG = 200


@dataclass(frozen=True)
class Step:
    """Something that happens, and what follows from it."""

    text: str
    then: tuple[Step, ...] = field(default=())


class Teller:
    """Tells a tenant's calls. ``at`` is the moment of the call; without it, schedules show all their ways."""

    def __init__(self, tenant: Tenant, at: datetime | None = None) -> None:
        self.tenant = tenant
        self.at = at
        self._extensions = {extension.number: extension for extension in tenant.extensions}
        self._inside: dict[str, Destination] = {}
        for key, kind in KINDS.items():
            for item in getattr(tenant, key):
                self._inside[item.number] = Destination(kind, item.number)
        # Numbers that name no trunk come first, then each trunk's, as the dial plan includes them.
        order = [None, *(trunk.name for trunk in tenant.trunks)]
        self._dids = sorted(routing.dids(tenant), key=lambda did: order.index(did.trunk))
        self._told: set[str] = set()
        self._count = 0

    def from_extension(self, number: str, dialled: str) -> Step:
        """Tell what a call of an extension to a number does. Raises KeyError where there is no such extension."""
        extension = self._extensions[number]
        service = routing.service_of(self.tenant, extension)
        return Step(
            f"extension {number} ({extension.name}), class of service {service}, dials {dialled}",
            tuple(self._dialled(extension, service, dialled)),
        )

    def from_trunk(self, trunk: str, called: str) -> Step:
        """Tell what a call to a number does that comes by a trunk. Raises KeyError where there is no such trunk."""
        found = {item.name: item for item in self.tenant.trunks}[trunk]
        digits = called.removeprefix("+")
        text = f"trunk {trunk} brings a call to {called}"
        if not re.fullmatch(r"[0-9]+", digits):
            return Step(text, (Step("refused: it is not made of digits (404)"),))
        forms = dict.fromkeys((digits, digits[-found.did_digits :] if found.did_digits else digits))
        # As the dial plan looks: the whole number before its end, the trunk's own numbers before those of all.
        for form, one in product(forms, (trunk, None)):
            if did := self._public(form, (one,)):
                name = f", shown as {did.name}" if did.name else ""
                return Step(text, (Step(f"it is our number {did.number}{name}", (self.follow(did.target),)),))
        return Step(text, (Step(f"refused and logged: {digits} is none of our numbers (404)"),))

    def _dialled(self, extension: Extension, service: str, dialled: str) -> list[Step]:
        tenant = self.tenant
        if not re.fullmatch(r"[0-9*#+]+", dialled):
            return [Step("refused and logged: it holds something else than 0-9, *, # and + (403)")]
        for number, rule in routing.emergencies(tenant):
            if number == dialled:
                return [Step("an emergency number, allowed to every class", (self._out(rule, dialled, extension),))]
        if (code := self._code(dialled)) is not None:
            return [code]
        if dialled in self._inside:
            return [self.follow(self._inside[dialled])]
        if (did := self._public(dialled)) is not None:
            return [Step("our own public number: the call stays inside", (self.follow(did.target),))]
        for text in tenant.refused:
            if parse(text).matches(dialled):
                return [Step(f"refused and logged: {text} is barred (403)")]
        for way in routing.ways(tenant, service):
            if way.pattern.matches(dialled):
                step = Step(f"pattern {way.pattern.text} of rule {way.rule.name}, class {way.rule.service}")
                if not way.allowed:
                    refusal = Step(f"refused and logged: class {service} may not dial it (403)")
                    return [Step(step.text, (refusal,))]
                return [Step(step.text, (self._out(way.rule, dialled, extension),))]
        return [Step("refused and logged: no such number (404)")]

    def _code(self, dialled: str) -> Step | None:
        tenant, codes = self.tenant, self.tenant.codes
        told = {
            codes.voicemail: "the caller's own voicemail",
            codes.echo: "echo test",
            codes.directory: "directory of names",
            codes.dnd_on: "do not disturb: on",
            codes.dnd_off: "do not disturb: off",
            codes.forward_on: "asks for a number and forwards the caller's calls there",
            codes.forward_off: "forwarding: off",
            "*8": "picks up a ringing call of the caller's pickup group",
        }
        if tenant.voicemail.number:
            pin = "" if tenant.voicemail.pin_inside else ", without PIN"
            told[tenant.voicemail.number] = f"the caller's own voicemail{pin}"
        for schedule in tenant.schedules:
            if schedule.night_code:
                told[schedule.night_code] = f"night mode of {schedule.name}: on or off"
        for queue in tenant.queues:
            if queue.dynamic_agents:
                told[codes.queue_login + queue.number] = f"logs into queue {queue.number}, if the caller may"
                told[codes.queue_logout + queue.number] = f"logs out of queue {queue.number}"
        if parking := tenant.parking:
            told[parking.number] = "parks a call that is transferred here"
            if dialled in parking_places(parking.slots):
                return Step("fetches the call that is parked here")
        if dialled.startswith(PICKUP) and dialled[2:] in self._extensions:
            return Step(f"picks up the call that rings at extension {dialled[2:]}")
        return Step(told[dialled]) if dialled in told else None

    def _out(self, rule: OutboundRule, dialled: str, extension: Extension | None, seen: tuple[str, ...] = ()) -> Step:
        sent = rule.prepend + dialled[rule.strip :]
        trunks = {trunk.name: trunk for trunk in self.tenant.trunks}
        if rule.service != "emergency" and (did := self._public(sent.lstrip("+"))):
            return Step(f"{sent} is our own public number: the call stays inside", (self.follow(did.target, seen),))
        steps = []
        for index, name in enumerate(rule.trunks):
            shown = rule.caller_id or (extension.caller_id if extension else None) or trunks[name].caller_id
            caller = f", shown as {shown}" if shown else ""
            first = "over" if index == 0 else "if that trunk does not take it, over"
            steps.append(Step(f"{first} trunk {name}: dials {sent}{caller}"))
        return Step(f"goes outside as {sent}", tuple(steps))

    def _public(self, number: str, trunks: tuple[str | None, ...] | None = None) -> routing.Did | None:
        """Return the public number that has this form; with ``trunks``, among those of these (None: of all trunks)."""
        for did in self._dids:
            if number in (did.number, *did.short) and (trunks is None or did.trunk in trunks):
                return did
        return None

    def follow(self, target: Destination | str, seen: tuple[str, ...] = ()) -> Step:
        """Tell what happens at a destination."""
        if isinstance(target, str):
            target = destination(target)
        if str(target) in seen:
            return Step(f"{target} again")
        if not seen:
            self._told, self._count = set(), 0
        # Ways that part and meet again would be told over and over: in a long story, what was told is not told again.
        self._count += 1
        if self._count > LONG and str(target) in self._told:
            return Step(f"{target}, as above")
        self._told.add(str(target))
        seen = (*seen, str(target))
        tell = getattr(self, f"_at_{target.kind}", None)
        step: Step = tell(target.value, seen) if tell else Step(str(target))
        return step

    def _at_extension(self, number: str, seen: tuple[str, ...]) -> Step:
        extension = self._extensions[number]
        title = f"extension {number} ({extension.name})"
        forward = extension.forward
        if forward.always:
            return Step(f"{title} is forwarded", (self.follow(forward.always, seen),))
        steps = [Step(f"rings {', '.join(extension.accounts)} for {extension.ring_seconds} s")]
        if extension.do_not_disturb:
            steps = [Step(f"does not want to be disturbed, until its phone dials {self.tenant.codes.dnd_off}"), *steps]
        if follow := extension.follow_me:
            confirm = ", who press 1 to take it" if follow.confirm else ""
            steps.append(Step(f"then rings {', '.join(follow.numbers)} for {follow.ring_seconds} s{confirm}"))
        box = f"voicemail of {number}" if extension.voicemail else None
        last = self.follow(forward.no_answer, seen) if forward.no_answer else Step(box or "the call ends (480)")
        steps.append(Step("if nobody answers", (last,)))
        last = self.follow(forward.busy, seen) if forward.busy else Step(box or "busy (486)")
        busy = "if it is busy" if extension.call_waiting else "if it is busy or in a call"
        steps.append(Step(busy, (last,)))
        return Step(title, tuple(steps))

    def _at_group(self, number: str, seen: tuple[str, ...]) -> Step:
        group = next(item for item in self.tenant.groups if item.number == number)
        how = "together" if group.strategy == "ring-all" else "one after the other"
        steps = (
            Step(f"rings {', '.join(group.members)} {how}, {group.ring_seconds} s"),
            Step("if nobody answers", (self.follow(group.fallback, seen),)),
        )
        return Step(f"group {number} ({group.name})", steps)

    def _at_queue(self, number: str, seen: tuple[str, ...]) -> Step:
        queue: Queue = next(item for item in self.tenant.queues if item.number == number)
        told = [f"{agent} (penalty {n})" if (n := queue.penalties.get(agent)) else agent for agent in queue.agents]
        agents = ", ".join(told) or "nobody until somebody logs in"
        steps = [Step(f"{queue.strategy}: {agents}")]
        if queue.dynamic_agents:
            steps.append(Step(f"may log in: {', '.join(queue.dynamic_agents)}"))
        steps += [Step(f"key {key}: {target}") for key, target in queue.keys.items()]
        steps.append(Step(f"after {queue.max_wait_seconds} s", (self.follow(queue.fallback, seen),)))
        return Step(f"queue {number} ({queue.name})", tuple(steps))

    def _at_menu(self, number: str, seen: tuple[str, ...]) -> Step:
        menu: Menu = next(item for item in self.tenant.menus if item.number == number)
        prompt = menu.prompt.text or menu.prompt.file or " ".join(menu.prompt.sounds)
        steps = [Step(f"plays {prompt}"), *(Step(f"key {key}: {target}") for key, target in menu.keys.items())]
        also = [*(["any extension"] if menu.direct_dial else []), *menu.also]
        if also:
            steps.append(Step(f"callers may dial {', '.join(also)}"))
        times = f"after {menu.repeats + 1} times without a key" if menu.repeats else "without a key"
        steps.append(Step(times, (self.follow(menu.fallback, seen),)))
        return Step(f"menu {number} ({menu.name})", tuple(steps))

    def _at_conference(self, number: str, _seen: tuple[str, ...]) -> Step:
        room = next(item for item in self.tenant.conferences if item.number == number)
        led = ", led by whoever enters the moderator's PIN" if room.moderator_pin else ""
        return Step(f"conference {number} ({room.name}){', with PIN' if room.pin else ''}{led}")

    def _at_page(self, number: str, _seen: tuple[str, ...]) -> Step:
        page = next(item for item in self.tenant.pages if item.number == number)
        return Step(f"page {number} ({page.name}): {', '.join(page.members)} answer on their own")

    def _at_fax(self, number: str, _seen: tuple[str, ...]) -> Step:
        fax = next(item for item in self.tenant.faxes if item.number == number)
        return Step(f"fax {number} ({fax.name}): received, and sent to {fax.email}")

    def _at_voicemail(self, number: str, _seen: tuple[str, ...]) -> Step:
        return Step(f"voicemail of {number}" if number else "voicemail, which asks for mailbox and PIN")

    def _at_external(self, number: str, seen: tuple[str, ...]) -> Step:
        rule = routing.way_outside(self.tenant, number)
        return self._out(rule, number, None, seen) if rule else Step(f"no rule dials {number}")

    def _at_schedule(self, name: str, seen: tuple[str, ...]) -> Step:
        schedule: Schedule = next(item for item in self.tenant.schedules if item.name == name)
        hours = ", ".join(f"{item.days} {item.time}" for item in schedule.hours)
        ways = {
            "open": Step(f"open ({hours})", (self.follow(schedule.open, seen),)),
            "holiday": Step("on a holiday", (self.follow(schedule.holiday or schedule.closed, seen),)),
            "closed": Step("closed, or night mode is on", (self.follow(schedule.closed, seen),)),
        }
        steps = tuple(ways.values()) if self.at is None else (ways[calendar.state(schedule, self.at)],)
        return Step(f"schedule {name}", steps)
