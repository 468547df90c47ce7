"""Looking into the tree of a tenant's file for the checks between its fields: texts, lists, destinations."""

from __future__ import annotations

from collections.abc import Iterator

from centralita.ground.errors import Problem
from centralita.spec.source import Node
from centralita.spec.words import Destination, destination

#: Fields whose value is a destination, or a list or a mapping of destinations.
_DESTINATIONS = frozenset(
    {"always", "busy", "no_answer", "fallback", "destination", "open", "closed", "holiday", "keys", "also", "numbers"}
)


def problem(node: Node, field: str, message: str, fix: str) -> Problem:
    """Return a problem at a node."""
    return Problem(node.file, node.line, field, message, fix)


def text_at(parent: Node, key: str) -> tuple[Node, str] | None:
    """Return the node under a key and its text, or None where there is no text."""
    node = parent.get(key)
    text = node.text() if node is not None else None
    return (node, text) if node is not None and text is not None else None


def word(parent: Node, key: str, default: str = "") -> str:
    """Return the text under a key, or the default."""
    found = text_at(parent, key)
    return found[1] if found else default


def listed(root: Node, key: str) -> Iterator[tuple[str, Node]]:
    """Iterate over a list of mappings: where each stands, as people write it, and its node."""
    node = root.get(key)
    for index, item in enumerate(node.items() if node is not None else ()):
        yield f"{key}[{index}]", item


def texts(parent: Node, key: str) -> Iterator[tuple[int, Node, str]]:
    """Iterate over a list of texts: index, node, text."""
    node = parent.get(key)
    for index, item in enumerate(node.items() if node is not None else ()):
        text = item.text()
        if text is not None:
            yield index, item, text


def destinations(node: Node, where: str = "") -> Iterator[tuple[str, Node, Destination]]:
    """Iterate over every destination in a tree: where it stands, its node, what it names."""
    if isinstance(node.value, dict):
        for key, child in node.value.items():
            place = f"{where}.{key}" if where else key
            yield from _held(child, place) if key in _DESTINATIONS else destinations(child, place)
    elif isinstance(node.value, list):
        for index, child in enumerate(node.value):
            yield from destinations(child, f"{where}[{index}]")


def _held(node: Node, where: str) -> Iterator[tuple[str, Node, Destination]]:
    if isinstance(node.value, dict):
        for key, child in node.value.items():
            yield from _held(child, f"{where}.{key}")
    elif isinstance(node.value, list):
        for index, child in enumerate(node.value):
            yield from _held(child, f"{where}[{index}]")
    elif (text := node.text()) is not None:
        try:
            yield where, node, destination(text)
        except ValueError:
            return  # the model says so
