"""Checks of a tenant's numbers and destinations: each number once, each destination there, no endless round."""

from __future__ import annotations

import re
from collections.abc import Iterator

from centralita.ground.errors import Problem
from centralita.spec.countries import forms
from centralita.spec.problems import choose_from
from centralita.spec.source import Node
from centralita.spec.tree import destinations, listed, problem, text_at, texts, word
from centralita.spec.words import Destination, destination

#: Lists of things that have a number, and the kind by which destinations name them.
KINDS = {
    "extensions": "extension",
    "groups": "group",
    "queues": "queue",
    "menus": "menu",
    "conferences": "conference",
    "pages": "page",
    "faxes": "fax",
}

#: Codes of the PBX unless the file sets others; those of features.conf and directed pickup are fixed.
CODES = {
    "voicemail": "*97",
    "echo": "*43",
    "forward_on": "*72",
    "forward_off": "*73",
    "dnd_on": "*78",
    "dnd_off": "*79",
    "directory": "*411",
    "queue_login": "*45",
    "queue_logout": "*46",
}
FIXED_CODES = {"*8": "pickup"}
PICKUP = "**"

#: Numbers for help by country, that every phone may dial (ITU-T E.161.1; national numbering plans).
EMERGENCY = {
    "us": ("911",), "us-old": ("911",), "mx": ("911",), "ph": ("911",), "uk": ("999", "112"), "ie": ("999", "112"),
    "au": ("000", "112"), "nz": ("111",), "jp": ("110", "119"), "cn": ("110", "119", "120"),
    "br": ("190", "192", "193"),
    "za": ("112", "10111"), "in": ("112",), "sg": ("995", "999"), "my": ("999",), "th": ("191",), "tw": ("110", "119"),
    "ch": ("112", "117", "118", "144"), "no": ("110", "112", "113"), "il": ("100", "101", "102"), "ve": ("911",),
    "cl": ("131", "132", "133"),
}  # fmt: skip


def emergency_numbers(country: str) -> tuple[str, ...]:
    """Return a country's numbers for help; 112 where the table knows nothing else (all of Europe has it)."""
    return EMERGENCY.get(country, ("112",))


def owners(root: Node) -> Iterator[tuple[str, str, Node, str]]:
    """Iterate over everything that a phone can dial inside: number, what it is, node, field."""
    for key, kind in KINDS.items():
        for where, item in listed(root, key):
            if found := text_at(item, "number"):
                yield found[1], kind, found[0], f"{where}.number"
    voicemail = root.get("voicemail")
    if voicemail is not None and (found := text_at(voicemail, "number")):
        yield found[1], "voicemail", found[0], "voicemail.number"
    parking = root.get("parking")
    if parking is not None and isinstance(parking.value, dict):
        number = text_at(parking, "number")
        yield (number[1] if number else "700"), "parking", number[0] if number else parking, "parking.number"
        slots = text_at(parking, "slots")
        low, _dash, high = (slots[1] if slots else "701-720").partition("-")
        if low.isdigit() and high.isdigit() and 0 <= int(high) - int(low) < 1000 and len(low) == len(high):
            for value in range(int(low), int(high) + 1):
                place = slots[0] if slots else parking
                yield str(value).zfill(len(low)), "a parking place", place, "parking.slots"
    for where, item in listed(root, "schedules"):
        if found := text_at(item, "night_code"):
            yield found[1], "night mode", found[0], f"{where}.night_code"
    codes = root.get("codes")
    for name in CODES:
        if codes is not None and (found := text_at(codes, name)):
            yield found[1], f"the code {name}", found[0], f"codes.{name}"


def lamps(root: Node) -> set[str]:
    """Return the numbers and codes whose state phones can watch (those that have a hint in the dial plan)."""
    kinds = {"extension", "conference", "a parking place", "night mode"}
    return {number for number, kind, *_rest in owners(root) if kind in kinds}


def numbering(root: Node) -> list[Problem]:
    """Return what is wrong with the numbers of a file."""
    problems: list[Problem] = []
    first: dict[str, tuple[str, Node]] = {}
    outside = root.get("trunks") is not None
    numbers = emergency_numbers(word(root, "country", "us")) if outside else ()
    helps = {number: "an emergency number" for number in numbers}
    for number in _emergencies(root):
        helps[number] = "an emergency number"
    codes_node = root.get("codes")
    given = {name for name in CODES if codes_node is not None and codes_node.get(name) is not None}
    taken = {**helps, **FIXED_CODES}
    taken |= {code: f"the code {name}" for name, code in CODES.items() if name not in given}
    for number, kind, node, field in owners(root):
        if not number:
            continue
        if number in taken:
            problems.append(problem(node, field, f"{number} is {taken[number]}", "another number, made of digits"))
        elif number.startswith(PICKUP):
            problems.append(problem(node, field, f"{number} starts with **, which picks calls up", "another code"))
        if number in first:
            what, other = first[number]
            where = f"line {other.line}" + (f" of {other.file}" if other.file != node.file else "")
            same = "here and" if what == kind else f"by this {kind} and the {what}"
            message = f"{number} is used twice, {same} in {where}"
            used = {owned for owned, *_rest in owners(root)}
            problems.append(problem(node, field, message, f"another number, e.g. {_free(number, used)}"))
        else:
            first[number] = (kind, node)
    problems += _login_codes(root, first)
    return problems


def _emergencies(root: Node) -> Iterator[str]:
    for _where, rule in listed(root, "outbound"):
        if word(rule, "class") == "emergency":
            for _index, _node, text in texts(rule, "patterns"):
                yield text


def _login_codes(root: Node, first: dict[str, tuple[str, Node]]) -> list[Problem]:
    """A code with a queue's number behind it must be no other code."""
    codes = root.get("codes")
    problems = []
    queues = [number for _where, queue in listed(root, "queues") if (number := word(queue, "number"))]
    for name in ("queue_login", "queue_logout"):
        code = word(codes, name) if codes is not None else ""
        for number in queues:
            together = (code or CODES[name]) + number
            if together in first:
                message = f"{together} logs into or out of queue {number} too"
                problems.append(problem(first[together][1], f"codes.{name}", message, "another code"))
    return problems


def _free(number: str, used: set[str]) -> str:
    """Return the next number that nothing has."""
    if not re.fullmatch(r"[0-9]{1,10}", number):
        return "101"
    value = int(number)
    while str(value).zfill(len(number)) in used:
        value += 1
    return str(value).zfill(len(number))


def _known(root: Node) -> dict[str, list[str]]:
    known: dict[str, list[str]] = {kind: [] for kind in (*KINDS.values(), "voicemail", "schedule")}
    for key, kind in KINDS.items():
        for _where, item in listed(root, key):
            if number := word(item, "number"):
                known[kind].append(number)
                box = item.get("voicemail")
                if kind == "extension" and (box is None or box.value is not False):
                    known["voicemail"].append(number)
    known["schedule"] = [name for _where, item in listed(root, "schedules") if (name := word(item, "name"))]
    return known


def reached(root: Node) -> list[Problem]:
    """Return the destinations and members that are not there, and rounds that a silent caller never leaves."""
    problems: list[Problem] = []
    known = _known(root)
    sets = {kind: frozenset(values) for kind, values in known.items()}
    for where, node, target in destinations(root):
        if not target.value or target.kind == "external" or target.value in sets[target.kind]:
            continue
        fix = (
            choose_from(target.value, sorted(known[target.kind])) if known[target.kind] else f"declare a {target.kind}"
        )
        what = "mailbox" if target.kind == "voicemail" else target.kind
        problems.append(problem(node, where, f"there is no {what} {target.value}", fix))
    for key, field in (("groups", "members"), ("queues", "agents"), ("queues", "dynamic_agents"), ("pages", "members")):
        for where, item in listed(root, key):
            seen: set[str] = set()
            for index, node, text in texts(item, field):
                number = text.removeprefix("extension:")
                place = f"{where}.{field}[{index}]"
                if text in seen:
                    problems.append(problem(node, place, f"{text} is in the list twice", "remove one"))
                seen.add(text)
                if number.isdigit() and number not in sets["extension"]:
                    fix = choose_from(number, sorted(known["extension"]))
                    problems.append(problem(node, place, f"there is no extension {number}", fix))
                elif not number.isdigit() and not re.fullmatch(r"external:\S+", text):
                    problems.append(problem(node, place, f"{text} cannot be a member", "extension:101 or external:…"))
    return problems + _penalties(root) + _rounds(root)


def _penalties(root: Node) -> list[Problem]:
    """Find penalties of extensions that do not serve the queue."""
    problems = []
    for where, queue in listed(root, "queues"):
        agents = [text for key in ("agents", "dynamic_agents") for _index, _node, text in texts(queue, key)]
        penalties = queue.get("penalties")
        found = penalties.value if penalties is not None and isinstance(penalties.value, dict) else {}
        for number, node in found.items():
            if number not in agents:
                fix = choose_from(number, sorted(agents)) if agents else "name it among agents"
                problems.append(problem(node, f"{where}.penalties.{number}", f"{number} is no agent of it", fix))
    return problems


def _rounds(root: Node) -> list[Problem]:
    """Find rounds of steps that follow each other without anybody doing anything."""
    steps: dict[str, list[str]] = {}
    places: dict[str, tuple[Node, str]] = {}

    def follow(start: str, parent: Node | None, fields: tuple[str, ...], where: str) -> None:
        for field in fields:
            found = text_at(parent, field) if parent is not None else None
            if found is None:
                continue
            try:
                target = destination(found[1])
            except ValueError:
                continue
            steps.setdefault(start, []).append(_own(target, dids))
            places.setdefault(start, (found[0], f"{where}.{field}"))

    country = word(root, "country", "us")
    dids = {
        form: word(item, "destination")
        for _where, item in listed(root, "inbound")
        for form in forms(word(item, "number"), country)
    }
    for where, item in listed(root, "extensions"):
        number = word(item, "number")
        for _index, _node, text in texts(item, "dids"):
            dids |= {form: f"extension:{number}" for form in forms(text, country)}
        forward = item.get("forward")
        always = forward is not None and forward.get("always") is not None
        follow(f"extension:{number}", forward, ("always",) if always else ("no_answer",), f"{where}.forward")
    for key in ("groups", "queues", "menus"):
        for where, item in listed(root, key):
            follow(f"{KINDS[key]}:{word(item, 'number')}", item, ("fallback",), where)
    for where, item in listed(root, "schedules"):
        follow(f"schedule:{word(item, 'name')}", item, ("open", "closed", "holiday"), where)
    problems, told = [], set()
    for start in steps:
        path = _round_from(start, steps)
        if path and frozenset(path) not in told:
            told.add(frozenset(path))
            node, field = places[start]
            shown = " → ".join((*path, path[0]))
            message = f"a call that nobody takes goes round for ever: {shown}"
            problems.append(problem(node, field, message, "end one of them with voicemail:… or hangup"))
    return problems


def _own(target: Destination, dids: dict[str, str]) -> str:
    """Return where a destination leads; one's own public number leads inside again."""
    if target.kind == "external":
        return dids.get(target.value.lstrip("+"), str(target))
    return str(target)


def _round_from(start: str, steps: dict[str, list[str]]) -> tuple[str, ...]:
    """Return a round that leads from ``start`` back to it, or nothing."""
    todo: list[tuple[str, ...]] = [(start,)]
    seen: set[str] = set()
    while todo:
        path = todo.pop()
        for step in steps.get(path[-1], ()):
            if step == start:
                return path
            if step not in seen:
                seen.add(step)
                todo.append((*path, step))
    return ()
