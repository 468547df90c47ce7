"""Checks of a tenant's numbers and destinations: each number once, each destination there."""

from __future__ import annotations

import re
from collections.abc import Iterator

from centralita.ground.errors import Problem
from centralita.spec.countries import emergency_numbers
from centralita.spec.problems import choose_from
from centralita.spec.rules import MOST_PLACES
from centralita.spec.source import Node
from centralita.spec.tree import destinations, listed, problem, text_at, texts, word

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
        for value in parking_places(slots[1] if slots else "701-720"):
            yield value, "a parking place", slots[0] if slots else parking, "parking.slots"
    for where, item in listed(root, "schedules"):
        if found := text_at(item, "night_code"):
            yield found[1], "night mode", found[0], f"{where}.night_code"
    codes = root.get("codes")
    for name in CODES:
        if codes is not None and (found := text_at(codes, name)):
            yield found[1], f"the code {name}", found[0], f"codes.{name}"


def parking_places(slots: str) -> list[str]:
    """Return the numbers of a range such as 701-720; none if it is no range (the model says so)."""
    low, _dash, high = slots.partition("-")
    if not (low.isdigit() and high.isdigit() and len(low) == len(high) and 0 <= int(high) - int(low) < MOST_PLACES):
        return []
    return [str(value).zfill(len(low)) for value in range(int(low), int(high) + 1)]


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
            same = "here and" if what == kind else f"by {_article(kind)} here, and by {_article(what)}"
            message = f"{number} is used twice, {same} in {where}"
            used = {owned for owned, *_rest in owners(root)}
            problems.append(problem(node, field, message, f"another number, e.g. {_free(number, used)}"))
        else:
            first[number] = (kind, node)
    problems += _login_codes(root, first)
    return problems


def _article(what: str) -> str:
    """Return "a queue", "an extension"; what has its article, or needs none, as it is."""
    if what.startswith(("a ", "an ", "the ")) or what in ("parking", "voicemail", "night mode"):
        return what
    return f"{'an' if what[0] in 'aeiou' else 'a'} {what}"


def _emergencies(root: Node) -> Iterator[str]:
    for _where, rule in listed(root, "outbound"):
        if word(rule, "class") == "emergency":
            for _index, _node, text in texts(rule, "patterns"):
                yield text


def _login_codes(root: Node, first: dict[str, tuple[str, Node]]) -> list[Problem]:
    """A code with a queue's number behind it must be no other code."""
    codes = root.get("codes")
    problems = []
    queues = [found for _where, queue in listed(root, "queues") if (found := text_at(queue, "number"))]
    taken: dict[str, str] = {}
    for name in ("queue_login", "queue_logout"):
        given = text_at(codes, name) if codes is not None else None
        for node, number in queues:
            together = (given[1] if given else CODES[name]) + number
            if together in first:
                message = f"{together} logs into or out of queue {number} too"
                problems.append(problem(first[together][1], f"codes.{name}", message, "another code"))
            elif taken.setdefault(together, number) != number or together.startswith(PICKUP):
                message = f"{together} means two things, one of them queue {number}"
                problems.append(problem(given[0] if given else node, f"codes.{name}", message, "another code"))
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
    """Return the destinations and members that are not there."""
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
    return problems + _not_rung(root) + _penalties(root)


def _not_rung(root: Node) -> list[Problem]:
    """Find what no phone rings at in follow-me, and what nobody can dial in a menu."""
    problems = []
    for where, extension in listed(root, "extensions"):
        follow = extension.get("follow_me")
        for index, node, text in texts(follow, "numbers") if follow is not None else ():
            place = f"{where}.follow_me.numbers[{index}]"
            if not re.fullmatch(r"(extension|external):\S+", text):
                problems.append(problem(node, place, f"{text} cannot be rung", "extension:101 or external:…"))
            elif text == f"extension:{word(extension, 'number')}":
                problems.append(problem(node, place, f"{text} is the extension itself", "another phone"))
    for where, menu in listed(root, "menus"):
        for index, node, text in texts(menu, "also"):
            if not re.match(r"[a-z]+:", text) or text.startswith("schedule:"):
                message = f"{text} has no number that a caller could dial"
                problems.append(problem(node, f"{where}.also[{index}]", message, "a destination with one: queue:700"))
    return problems


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
