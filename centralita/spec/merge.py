"""Single inheritance of declared files: what a child's value does to its parent's."""

from __future__ import annotations

from centralita.ground.errors import Problem
from centralita.spec.problems import did_you_mean
from centralita.spec.source import Node, dotted

_EDIT_KEYS = frozenset({"add", "remove"})


def merge(parent: Node, child: Node, problems: list[Problem], loc: tuple[str | int, ...] = ()) -> Node:
    """Return ``child`` laid over ``parent``.

    Scalars override, mappings merge deeply, lists replace; ``{add: […], remove: […]}`` in place of a list edits the
    inherited one (first remove, then add; what is there already is not added twice). Errors go to ``problems``.
    """
    if isinstance(parent.value, list) and is_list_edit(child):
        return _edit(parent, child, problems, loc)
    if isinstance(parent.value, dict) and isinstance(child.value, dict):
        merged = dict(parent.value)
        for key, value in child.value.items():
            merged[key] = merge(parent.value[key], value, problems, (*loc, key)) if key in parent.value else value
        return Node(merged, child.file, child.line)
    return child


def is_list_edit(node: Node) -> bool:
    """Tell whether a value is ``{add: […], remove: […]}``."""
    return isinstance(node.value, dict) and bool(node.value) and set(node.value) <= _EDIT_KEYS


def settle(root: Node, problems: list[Problem], loc: tuple[str | int, ...] = ()) -> Node:
    """Turn list edits that had no inherited list to edit into plain lists; a removal there is an error."""
    if is_list_edit(root):
        return _edit(Node([], root.file, root.line), root, problems, loc)
    if isinstance(root.value, dict):
        children = {key: settle(child, problems, (*loc, key)) for key, child in root.value.items()}
        return Node(children, root.file, root.line, root.raw)
    return root


def _edit(parent: Node, child: Node, problems: list[Problem], loc: tuple[str | int, ...]) -> Node:
    items = list(parent.value)
    for key in ("remove", "add"):
        part = child.get(key)
        if part is not None and not isinstance(part.value, list):
            fix = f"write a list, e.g. `{key}: [{part.text() or '…'}]`"
            problems.append(Problem(part.file, part.line, dotted((*loc, key)), "is not a list", fix))
            part = None
        for index, item in enumerate(part.items() if part is not None else ()):
            there = next((old for old in items if old.value == item.value), None)
            if key == "add":
                items += [] if there is not None else [item]
            elif there is not None:
                items.remove(there)
            else:
                known = [old.text() or "" for old in items]
                message = f"{item.text()!r} is not in the inherited list"
                fix = (
                    did_you_mean(item.text() or "", known) or "remove it here; `invoke show` prints the inherited list"
                )
                problems.append(Problem(item.file, item.line, dotted((*loc, "remove", index)), message, fix))
    return Node(items, child.file, child.line)
