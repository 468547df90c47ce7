"""Dial patterns: what they match, how specific they are, whether two can match the same number.

A pattern is written without Asterisk's leading underscore: digits, ``*``, ``#`` and ``+`` stand for themselves, ``X``
is 0-9, ``Z`` 1-9, ``N`` 2-9, ``[15-7]`` one of a set; a ``.`` at the end is one or more further characters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

DIALLED = frozenset("0123456789*#+")
#: For the model and its JSON Schema: the form; what a set holds is checked by :func:`parse`.
FORM = r"([0-9*#+XZN]|\[[0-9*#+-]+\]){1,30}\.?"

_SETS = {"X": frozenset("0123456789"), "Z": frozenset("123456789"), "N": frozenset("23456789")}


@dataclass(frozen=True)
class Pattern:
    """A parsed pattern: the characters allowed at each place, and whether more may follow."""

    text: str
    places: tuple[frozenset[str], ...]
    open_ended: bool

    def matches(self, number: str) -> bool:
        """Tell whether the pattern matches the whole of ``number``."""
        size = len(self.places)
        if len(number) < size + self.open_ended or (len(number) > size and not self.open_ended):
            return False
        return all(digit in place for digit, place in zip(number, self.places, strict=False))

    @property
    def rank(self) -> tuple[tuple[int, str], ...]:
        """Sort key: the most specific pattern first, as Asterisk tries them (main/pbx.c, ext_cmp_pattern)."""
        ranks = tuple((len(place), "".join(sorted(place))) for place in self.places)
        return (*ranks, (len(DIALLED) + 1, "")) if self.open_ended else ranks

    def rewritten(self, strip: int, prepend: str) -> Pattern:
        """Return the pattern of what is sent: the first ``strip`` characters gone, ``prepend`` put before the rest."""
        places = (*(frozenset(c) for c in prepend), *self.places[strip:])
        return Pattern(prepend + self.text, places, self.open_ended)

    def may_start_with(self, prefix: str) -> bool:
        """Tell whether a number that the pattern matches can start with ``prefix`` and go on."""
        if len(self.places) < len(prefix) + 1 and not self.open_ended:
            return False
        return all(digit in place for digit, place in zip(prefix, self.places, strict=False))


def overlap(first: Pattern, second: Pattern) -> bool:
    """Tell whether some number is matched by both patterns."""
    for one, other in ((first, second), (second, first)):
        if not one.open_ended and len(one.places) < len(other.places) + other.open_ended:
            return False
    if not first.open_ended and not second.open_ended and len(first.places) != len(second.places):
        return False
    return all(a & b for a, b in zip(first.places, second.places, strict=False))


@lru_cache(maxsize=4096)
def parse(text: str) -> Pattern:
    """Return a parsed pattern. Raises ValueError with what is wrong with it."""
    if not re.fullmatch(FORM, text):
        raise ValueError("is not a dial pattern")
    places: list[frozenset[str]] = []
    rest = text.removesuffix(".")
    while rest:
        if rest[0] == "[":
            inside, _bracket, rest = rest[1:].partition("]")
            places.append(_set(inside))
        else:
            places.append(_SETS.get(rest[0], frozenset(rest[0])))
            rest = rest[1:]
    return Pattern(text, tuple(places), text.endswith("."))


def _set(inside: str) -> frozenset[str]:
    found: set[str] = set()
    while inside:
        if span := re.match(r"([0-9])-([0-9])", inside):
            low, high = span.groups()
            if low > high:
                raise ValueError(f"has the range {low}-{high}, which is empty")
            found.update(chr(code) for code in range(ord(low), ord(high) + 1))
            inside = inside[3:]
        elif inside[0] == "-":
            raise ValueError("has a hyphen that is no range")
        else:
            found.add(inside[0])
            inside = inside[1:]
    return frozenset(found)
