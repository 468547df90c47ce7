"""Checks of a tenant's prompts and music: one source a prompt, and files that are there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from centralita.ground.errors import Problem
from centralita.spec.source import Node
from centralita.spec.tree import listed, problem, texts

_SOURCES = ("file", "text", "sounds")


def sounds(root: Node, folder: Path) -> list[Problem]:
    """Return what is wrong with prompts and music; ``folder`` is that of the tenant's file."""
    problems = []
    for where, prompt in _prompts(root):
        given = [key for key in _SOURCES if prompt.get(key) is not None]
        if isinstance(prompt.value, dict) and len(given) != 1:
            message = f"has {len(given)} of file, text and sounds"
            problems.append(problem(prompt, where, message, "give exactly one, e.g. `{sounds: [vm-intro]}`"))
        file = prompt.get("file")
        if file is not None and (name := file.text()):
            problems += _there(file, f"{where}.file", folder, name)
    for where, music in listed(root, "music"):
        for index, node, name in texts(music, "files"):
            problems += _there(node, f"{where}.files[{index}]", folder, name)
    return problems


def _prompts(root: Node) -> Iterator[tuple[str, Node]]:
    for key, field in (("menus", "prompt"), ("queues", "greeting")):
        for where, item in listed(root, key):
            if (prompt := item.get(field)) is not None:
                yield f"{where}.{field}", prompt


def _there(node: Node, where: str, folder: Path, name: str) -> list[Problem]:
    try:
        if (folder / name).is_file():
            return []
    except (OSError, ValueError):
        pass
    return [problem(node, where, f"there is no file {name[:80]!r} beside the tenant's file", "check the path")]
