"""Asterisk's modules: which there are, what each requires, and the ``modules.conf`` that loads a chosen list."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

_TABLE = Path(__file__).with_name("asterisk_22_modules.txt")

#: Loaded before all others: what the configuration of res_pjsip is kept in must be there when it loads.
_PRELOADED = ("res_sorcery_config", "res_sorcery_memory", "res_sorcery_astdb")


@cache
def requirements() -> dict[str, tuple[str, ...]]:
    """Return each module of Debian's Asterisk 22 with the modules that it requires (built-in parts left out)."""
    table = {}
    for line in _TABLE.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, _colon, required = line.partition(":")
            table[name] = tuple(required.split())
    return table


KNOWN_MODULES: tuple[str, ...] = tuple(requirements())


def with_requirements(modules: Iterable[str]) -> tuple[str, ...]:
    """Return ``modules`` and all that they require, each once, every module behind those that it requires.

    With ``autoload=no`` Asterisk does not pull requirements in; a module whose requirement is missing fails to load.
    """
    table = requirements()
    ordered: dict[str, None] = {}

    def visit(name: str) -> None:
        if name in ordered:
            return
        for required in table.get(name, ()):
            visit(required)
        ordered[name] = None

    for module in modules:
        visit(module)
    return tuple(ordered)


def render_modules_conf(modules: Iterable[str]) -> str:
    """Return the ``/etc/asterisk/modules.conf`` that loads ``modules`` with what they require, and nothing else."""
    ordered = with_requirements(modules)
    lines = [
        "; Made by Centralita from the appliance's asterisk.modules. Nothing else is loaded.",
        "[modules]",
        "autoload = no",
        *(f"preload = {name}.so" for name in _PRELOADED if name in ordered),
        *(f"load = {name}.so" for name in ordered if name not in _PRELOADED),
    ]
    return "\n".join(lines) + "\n"
