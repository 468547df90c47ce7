"""Checks of the way outside: trunks, rules and patterns, public numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from centralita.ground.errors import Problem
from centralita.spec import patterns
from centralita.spec.countries import COUNTRY_CODES, INTERNATIONAL, forms
from centralita.spec.numbering import owners
from centralita.spec.patterns import Pattern
from centralita.spec.problems import choose_from
from centralita.spec.source import Node
from centralita.spec.tree import destinations, listed, problem, text_at, texts, word


def reaches_abroad(sent: Pattern, country: str, also: Sequence[str] = ()) -> bool:
    """Tell whether what is sent to a trunk can be a number of neither the own country nor one of ``also``."""
    own = [code for name in (country, *also) if (code := COUNTRY_CODES.get(name))]
    for prefix in (INTERNATIONAL.get(country, "00"), "+"):
        rest = sent.places[len(prefix) :]
        if sent.may_start_with(prefix) and not any(_starts_with(rest, code) for code in own):
            return True
    return False


def _starts_with(places: Sequence[frozenset[str]], code: str) -> bool:
    """Tell whether all numbers of a pattern start with a country's code."""
    return len(places) >= len(code) and all(place == {digit} for place, digit in zip(places, code, strict=False))


def parsed(parent: Node, key: str) -> Iterator[tuple[int, Node, Pattern]]:
    """Iterate over the patterns of a list that are patterns: index, node, pattern."""
    for index, node, text in texts(parent, key):
        try:
            yield index, node, patterns.parse(text)
        except ValueError:
            continue  # the model says so


def strip_of(rule: Node) -> int:
    """Return how many digits a rule takes away; 0 where that is no number (the model says so)."""
    text = word(rule, "strip", "0")
    return int(text) if text.isdigit() and len(text) < 3 else 0


def public_numbers(root: Node) -> Iterator[tuple[str, Node, str, str]]:
    """Iterate over the public numbers: where each stands, its node, the number, its trunk or nothing."""
    for where, item in listed(root, "inbound"):
        if found := text_at(item, "number"):
            yield f"{where}.number", *found, word(item, "trunk")
    for where, item in listed(root, "extensions"):
        for index, node, text in texts(item, "dids"):
            yield f"{where}.dids[{index}]", node, text, ""


def outside(root: Node) -> list[Problem]:
    """Return what is wrong between trunks, public numbers, rules and destinations outside."""
    return [*_trunks(root), *_dids(root), *_rules(root), *_externals(root), *_names(root)]


#: Names that mean something else in the files that are rendered.
_RESERVED = {
    "trunks": {"any", "global", "system", "udp", "tcp", "tls", "wss", "extension", "extension-auth", "extension-aor"},
    "music": {"general"},
}


def _names(root: Node) -> list[Problem]:
    problems = []
    for key in ("trunks", "outbound", "schedules", "music"):
        seen: dict[str, Node] = {}
        for where, item in listed(root, key):
            if found := text_at(item, "name"):
                node, name = found
                if name in _RESERVED.get(key, ()):
                    problems.append(
                        problem(node, f"{where}.name", f"{name!r} is a name of the PBX's own", "another name")
                    )
                if name in seen:
                    message = f"{name!r} is here and in line {seen[name].line}"
                    problems.append(problem(node, f"{where}.name", message, "another name"))
                seen.setdefault(name, node)
    music = [word(item, "name") for _where, item in listed(root, "music")]
    for where, queue in listed(root, "queues"):
        found = text_at(queue, "music")
        if found and found[1] not in (*music, "default"):
            fix = choose_from(found[1], [*music, "default"])
            problems.append(problem(found[0], f"{where}.music", f"there is no music {found[1]!r}", fix))
    for where, extension in listed(root, "extensions"):
        names: set[str] = set()
        for place, device in listed(extension, "devices"):
            if found := text_at(device, "name"):
                if found[1] in names:
                    problems.append(
                        problem(found[0], f"{where}.{place}.name", f"{found[1]!r} is used twice", "another name")
                    )
                names.add(found[1])
    return problems


def _trunks(root: Node) -> list[Problem]:
    problems = []
    trunks = {word(item, "name"): (where, item) for where, item in listed(root, "trunks")}
    used: set[str] = set()
    for where, rule in listed(root, "outbound"):
        for index, node, name in texts(rule, "trunks"):
            used.add(name)
            if name not in trunks:
                fix = choose_from(name, sorted(trunks)) if trunks else "declare it under `trunks:`"
                problems.append(problem(node, f"{where}.trunks[{index}]", f"there is no trunk {name!r}", fix))
    for where, item in listed(root, "inbound"):
        if found := text_at(item, "trunk"):
            used.add(found[1])
            if found[1] not in trunks:
                fix = choose_from(found[1], sorted(trunks))
                problems.append(problem(found[0], f"{where}.trunk", f"there is no trunk {found[1]!r}", fix))
    # A public number that names no trunk is served by all.
    anywhere = any(item.get("trunk") is None for _where, item in listed(root, "inbound"))
    anywhere = anywhere or any(item.get("dids") is not None for _where, item in listed(root, "extensions"))
    for name, (where, trunk) in trunks.items():
        if name not in used and not anywhere:
            fix = "name it in a rule of `outbound:`, or give a number under `inbound:`"
            problems.append(problem(trunk, where, f"the trunk {name!r} has no route: no call uses it", fix))
        problems += _one_trunk(where, trunk)
    return problems


def _one_trunk(where: str, trunk: Node) -> list[Problem]:
    kind, problems = word(trunk, "kind"), []
    for key in ("user", "password"):
        if kind == "registered" and trunk.get(key) is None:
            problems.append(problem(trunk, f"{where}.{key}", f"a registered trunk needs a {key}", f"add `{key}: …`"))
    if (trunk.get("user") is None) != (trunk.get("password") is None) and kind == "ip":
        problems.append(problem(trunk, where, "has one of user and password", "give both, or neither"))
    if kind == "ip" and trunk.get("accept_from") is None:
        fix = "the provider's addresses, e.g. `accept_from: [203.0.113.0/24]`; [] to take no calls"
        problems.append(problem(trunk, f"{where}.accept_from", "is missing: its calls are known by nothing else", fix))
    return problems


def _dids(root: Node) -> list[Problem]:
    problems = []
    first: dict[tuple[str, str], Node] = {}
    has_trunk = bool(list(listed(root, "trunks")))
    internal = {number for number, *_rest in owners(root)}
    country = word(root, "country", "us")
    sizes: dict[str, set[int]] = {"": set()}
    for _where, item in listed(root, "trunks"):
        if (size := word(item, "did_digits")).isdigit() and size != "0":
            sizes[""].add(int(size))
            sizes[word(item, "name")] = {int(size)}
    for place, node, text, trunk in public_numbers(root):
        bare = text.lstrip("+")
        # A trunk that compares last digits only cannot tell two numbers apart that end alike.
        ends = {bare[-size:] for size in sizes.get(trunk, ()) if size < len(bare)}
        known = {bare, *forms(text, country), *ends}
        if (same := next((first[form, trunk] for form in sorted(known) if (form, trunk) in first), None)) is not None:
            message = f"{text} is used twice, here and in line {same.line}"
            if same.text() != text and any((end, trunk) in first for end in ends):
                message = (
                    f"{text} ends like the number in line {same.line}, and a trunk's did_digits compares ends only"
                )
            problems.append(problem(node, place, message, "one destination a number"))
        for form in known:
            first.setdefault((form, trunk), node)
        if bare in internal:
            problems.append(problem(node, place, f"{text} is an internal number too", "write it with its area code"))
        if not has_trunk:
            problems.append(problem(node, place, "no trunk brings calls to it", "declare one under `trunks:`"))
    return problems


def _rules(root: Node) -> list[Problem]:
    problems = []
    country = word(root, "country", "us")
    also = [text for _index, _node, text in texts(root, "also_national")]
    seen: dict[str, Node] = {}
    inside = list(owners(root))
    for where, rule in listed(root, "outbound"):
        strip = strip_of(rule)
        prepend, service = word(rule, "prepend"), word(rule, "class")
        for index, node, pattern in parsed(rule, "patterns"):
            place = f"{where}.patterns[{index}]"
            if pattern.text in seen:
                message = f"{pattern.text} is here and in line {seen[pattern.text].line}"
                problems.append(problem(node, place, message, "one rule a pattern"))
            seen.setdefault(pattern.text, node)
            if strip > len(pattern.places) or (strip == len(pattern.places) and not pattern.open_ended and not prepend):
                fix = f"at most {max(len(pattern.places) - 1, 0)}"
                problems.append(problem(node, f"{where}.strip", f"strip {strip} leaves nothing of {pattern.text}", fix))
                continue
            if service == "emergency":
                problems += _emergency(node, place, pattern, pattern.rewritten(strip, prepend), country)
            elif service != "international" and reaches_abroad(pattern.rewritten(strip, prepend), country, also):
                fix = "write the digits out (e.g. [2-9]XXXXXXX), or `class: international`"
                message = f"{pattern.text} can reach international numbers, but the rule's class is {service}"
                problems.append(problem(node, place, message, fix))
            if not pattern.places:
                continue
            hidden = [number for number, *_rest in inside if pattern.matches(number)]
            if hidden and not pattern.open_ended and len(hidden) * 2 > 10 ** len(pattern.places):
                message = f"most numbers of {pattern.text} are internal, such as {hidden[0]}"
                problems.append(problem(node, place, message, "put a prefix before it, e.g. 9"))
    return problems


def _emergency(node: Node, place: str, pattern: Pattern, sent: Pattern, country: str) -> list[Problem]:
    if pattern.open_ended or any(len(allowed) > 1 for allowed in pattern.places) or len(pattern.places) > 6:
        message = f"{pattern.text} is no emergency number, and every phone could dial it"
        return [problem(node, place, message, "the number itself, e.g. 112")]
    if len(sent.places) > 3 and reaches_abroad(sent, country):
        message = f"{pattern.text} is sent as a number abroad, and every phone could dial it"
        return [problem(node, place, message, "send the number itself, e.g. 112")]
    return []


def _externals(root: Node) -> list[Problem]:
    """Destinations outside need a rule that dials them."""
    rules = [pattern for _where, rule in listed(root, "outbound") for _i, _n, pattern in parsed(rule, "patterns")]
    refused = [pattern for _i, _n, pattern in parsed(root, "refused")]
    members = [
        (f"{where}.members[{index}]", node, text.removeprefix("external:"))
        for where, item in listed(root, "groups")
        for index, node, text in texts(item, "members")
        if text.startswith("external:")
    ]
    found = [(where, node, target.value) for where, node, target in destinations(root) if target.kind == "external"]
    problems = []
    for where, node, number in [*found, *members]:
        if any(pattern.matches(number) for pattern in refused):
            problems.append(problem(node, where, f"{number} is among the refused numbers", "another number"))
        elif not any(pattern.matches(number) for pattern in rules):
            problems.append(problem(node, where, f"no rule of `outbound:` dials {number}", "add a rule for it"))
    return problems
