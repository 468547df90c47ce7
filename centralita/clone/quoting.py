"""Putting a tenant's values into configuration files so that none can break out of its place.

Every template value goes through one of these filters; :func:`plain_output` is the last line of defence. A value that
a place cannot hold is refused (:class:`Unquotable`), never cleaned: what an admin wrote and what the machine does
stay the same.

Asterisk's configuration language (``main/config.c``): a line is cut at the first ``;`` that has no backslash before
it (one backslash is then taken away), spaces at its ends are dropped, lines of more than 8191 bytes are cut.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

MAX_LINE = 4000

_DIGITS = re.compile(r"[0-9]{1,15}")
_WORD = re.compile(r"[A-Za-z0-9._:/@+-]{1,255}")


class Unquotable(ValueError):
    """A value that a place in a configuration file cannot hold."""

    def __init__(self, value: str, place: str, why: str) -> None:
        super().__init__(f"{place} cannot hold this value: {why}")
        self.value = value
        self.place = place
        self.why = why


def _line(value: object, place: str) -> str:
    """Return a value as text of one line, or refuse it."""
    text = str(value)
    for character in text:
        code = ord(character)
        if code < 0x20 or 0x7F <= code < 0xA0 or character in "\u2028\u2029":
            raise Unquotable(text, place, f"it has the control character U+{code:04X}")
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError:
        raise Unquotable(text, place, "it is not valid Unicode") from None
    if size > MAX_LINE:
        raise Unquotable(text, place, f"it has more than {MAX_LINE} bytes")
    return text


def asterisk(value: object) -> str:
    """Quote the value of an Asterisk setting: ``company = {{ company | asterisk }}``."""
    text = _line(value, "a setting of Asterisk")
    if text != text.strip():
        raise Unquotable(text, "a setting of Asterisk", "it starts or ends with a space")
    if text.startswith(">"):
        raise Unquotable(text, "a setting of Asterisk", "it starts with >, which after = means something else")
    return text.replace(";", "\\;")


def callerid(name: object) -> str:
    """Quote a display name for ``callerid = {{ name | callerid }} <101>``: in double quotes, escaped by backslashes."""
    text = _line(name, "a caller ID's name")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + escaped.replace(";", "\\;") + '"'


def voicemail(value: object) -> str:
    """Quote a field of a mailbox's line in voicemail.conf: ``101 => pin,{{ name | voicemail }},…``."""
    text = _line(value, "a field of voicemail.conf")
    if "," in text:
        raise Unquotable(text, "a field of voicemail.conf", "it has a comma, which ends the field")
    if text != text.strip():
        raise Unquotable(text, "a field of voicemail.conf", "it starts or ends with a space")
    return text.replace(";", "\\;")


def comment(value: object) -> str:
    """Quote text that stands behind a ``;`` or ``#`` in a line of its own."""
    return _line(value, "a comment")


def digits(value: object) -> str:
    """Let nothing but digits through: what is dialled, ports, seconds."""
    text = str(value)
    if not _DIGITS.fullmatch(text):
        raise Unquotable(text, "a number", "it has something else than digits")
    return text


def word(value: object) -> str:
    """Let a plain word through: letters, digits and ``._:/@+-``; names of hosts, zones, addresses."""
    text = str(value)
    if not _WORD.fullmatch(text):
        raise Unquotable(text, "a word", "it has something else than letters, digits and ._:/@+-")
    return text


def line(value: object) -> str:
    """Let one line of text through as it is: an SSH public key."""
    return _line(value, "a line")


FILTERS: dict[str, Callable[[Any], str]] = {
    "asterisk": asterisk,
    "callerid": callerid,
    "voicemail": voicemail,
    "comment": comment,
    "digits": digits,
    "word": word,
    "line": line,
}


class Quoted(str):
    """Text that a filter of this module returned, and that may stand in a file."""

    __slots__ = ()


def marking(function: Callable[[Any], str]) -> Callable[[Any], Quoted]:
    """Return ``function`` with its result marked as :class:`Quoted`, for use as a template filter."""

    def quoted(value: object) -> Quoted:
        return Quoted(function(value))

    return quoted


def only_quoted(value: object) -> object:
    """Jinja's ``finalize``: refuse a value that no filter has quoted (a template's mistake, not an admin's)."""
    if not isinstance(value, Quoted):
        raise TypeError(f"a template prints a value of type {type(value).__name__} without a quoting filter")
    return value
