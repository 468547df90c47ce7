"""Checks that no call goes round for ever: by forwarding, fallbacks, schedules and one's own public numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

from centralita.ground.errors import Problem
from centralita.spec.countries import forms
from centralita.spec.dialling import parsed, public_numbers, strip_of
from centralita.spec.numbering import KINDS
from centralita.spec.source import Node
from centralita.spec.tree import listed, problem, text_at, texts, word
from centralita.spec.words import destination

NUMBER = "number"


@dataclass
class _Steps:
    """What follows without anybody doing anything: from a destination to others, and where the file says so."""

    then: dict[str, list[str]] = field(default_factory=dict)
    places: dict[str, tuple[Node, str]] = field(default_factory=dict)

    def add(self, start: str, to: str, node: Node, where: str) -> None:
        self.then.setdefault(start, []).append(to)
        self.places.setdefault(start, (node, where))


class _Own:
    """Knows which numbers outside lead inside again: one's own, whatever a rule makes of what is dialled."""

    def __init__(self, root: Node) -> None:
        country = word(root, "country", "us")
        self._known: dict[str, str] = {}
        for _where, _node, number, _trunk in public_numbers(root):
            self._known |= {form: f"{NUMBER}:{number}" for form in forms(number, country)}
        self._rules = sorted(
            (
                (pattern, strip_of(rule), word(rule, "prepend"))
                for _where, rule in listed(root, "outbound")
                for _index, _node, pattern in parsed(rule, "patterns")
            ),
            key=lambda rule: rule[0].rank,
        )

    def number(self, text: str) -> str | None:
        """Return the step that a destination or member outside is, if it is one's own number."""
        if not text.startswith("external:"):
            return None
        dialled = text.removeprefix("external:")
        sent = dialled
        for pattern, strip, prepend in self._rules:
            if pattern.matches(dialled):
                sent = prepend + dialled[strip:]
                break
        return self._known.get(sent.lstrip("+")) or self._known.get(dialled.lstrip("+"))

    def step(self, text: str) -> str | None:
        """Return the step that a destination is, or None where it is none."""
        try:
            return self.number(text) or str(destination(text))
        except ValueError:
            return None


def rounds(root: Node) -> list[Problem]:
    """Return the rounds of steps that follow each other where nobody answers, and where all are busy."""
    own = _Own(root)
    idle, busy = _Steps(), _Steps()

    def follow(steps: tuple[_Steps, ...], start: str, parent: Node | None, key: str, where: str) -> None:
        found = text_at(parent, key) if parent is not None else None
        if found and (to := own.step(found[1])):
            for one in steps:
                one.add(start, to, found[0], f"{where}.{key}")

    def ring(start: str, parent: Node | None, key: str, where: str) -> None:
        for index, node, text in texts(parent, key) if parent is not None else ():
            if to := own.number(text):
                idle.add(start, to, node, f"{where}.{key}[{index}]")

    for where, item in listed(root, "extensions"):
        start = f"extension:{word(item, 'number')}"
        for index, node, text in texts(item, "dids"):
            for one in (idle, busy):
                one.add(f"{NUMBER}:{text}", start, node, f"{where}.dids[{index}]")
        forward = item.get("forward")
        if forward is not None and forward.get("always") is not None:
            follow((idle, busy), start, forward, "always", f"{where}.forward")
        else:
            follow((idle,), start, forward, "no_answer", f"{where}.forward")
            follow((busy,), start, forward, "busy", f"{where}.forward")
            ring(start, item.get("follow_me"), "numbers", f"{where}.follow_me")
    for where, item in listed(root, "inbound"):
        follow((idle, busy), f"{NUMBER}:{word(item, 'number')}", item, "destination", where)
    for key in ("groups", "queues", "menus"):
        for where, item in listed(root, key):
            follow((idle,), f"{KINDS[key]}:{word(item, 'number')}", item, "fallback", where)
    for where, item in listed(root, "groups"):
        ring(f"group:{word(item, 'number')}", item, "members", where)
    for where, item in listed(root, "schedules"):
        for key in ("open", "closed", "holiday"):
            follow((idle, busy), f"schedule:{word(item, 'name')}", item, key, where)
    told: set[frozenset[str]] = set()
    return [
        *_told(idle, told, "a call that nobody takes goes round for ever"),
        *_told(busy, told, "a call goes round for ever while all of them are busy"),
    ]


def _told(steps: _Steps, told: set[frozenset[str]], message: str) -> list[Problem]:
    problems = []
    for start in steps.then:
        path = _round_from(start, steps.then)
        if path and frozenset(path) not in told:
            told.add(frozenset(path))
            node, where = steps.places[start]
            shown = " → ".join(step.replace(f"{NUMBER}:", "the public number ") for step in (*path, path[0]))
            problems.append(problem(node, where, f"{message}: {shown}", "end one of them with voicemail:… or hangup"))
    return problems


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
