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
from xml.sax.saxutils import escape

from centralita.spec import patterns
from centralita.spec.words import Destination, destination

MAX_LINE = 4000

_PLAIN = re.compile(r"[^\W_]([\w .'/-]*[\w.])?")
_DIAL = re.compile(r"\+?[0-9*#]{1,30}")
_SLUG = re.compile(r"[a-z][a-z0-9-]{0,62}|[0-9]{1,10}(-[a-z][a-z0-9-]{0,29})?")
_SOUND = re.compile(r"/?[A-Za-z0-9][A-Za-z0-9_-]*(/[A-Za-z0-9][A-Za-z0-9_-]*)*")
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


def dial(value: object) -> str:
    """Let a telephone number or a code through: digits, ``*``, ``#``, and ``+`` at the start."""
    return _matched(value, _DIAL, "a number to dial", "it has something else than 0-9, *, # and a + at the start")


def prefix(value: object) -> str:
    """Let through what is dialled before a number; a ``+`` alone too."""
    return _matched(value, re.compile(r"\+?[0-9*#]{0,30}"), "digits to dial first", "it has something else than 0-9*#")


def slug(value: object) -> str:
    """Let a name of ours through (a context, a label): small letters, digits, hyphens; ``101-mobile`` too."""
    return _matched(value, _SLUG, "a name", "it has something else than a-z, 0-9 and hyphens")


def sound(value: object) -> str:
    """Let a prompt's name or path through; it has neither dots nor spaces."""
    return _matched(value, _SOUND, "a prompt's name", "it has something else than letters, digits, /, _ and -")


def plain(value: object) -> str:
    """Let words of any script through that mean nothing to the dial plan: letters, digits, spaces and ``.'/-``."""
    return _matched(
        _line(value, "plain words"), _PLAIN, "plain words", "it has something else than letters, digits, .'/-"
    )


def pattern(value: object) -> str:
    """Write a dial pattern as Asterisk does, with an underscore; a plain number without."""
    text = str(value)
    try:
        parsed = patterns.parse(text)
    except ValueError as error:
        raise Unquotable(text, "a dial pattern", f"it {error}") from None
    if all(len(place) == 1 for place in parsed.places) and not parsed.open_ended and "[" not in text:
        return text
    return f"_{text}"


def caller(value: object) -> str:
    """Write the pattern of a caller who is refused: a ``c`` stands before his digits."""
    text = pattern(value)
    return f"_c{text[1:]}" if text.startswith("_") else f"c{text}"


def goto(value: object) -> str:
    """Write a destination (its text, as in a tenant's file) as the application that goes there."""
    try:
        target = destination(str(value))
    except ValueError as error:
        raise Unquotable(str(value), "a destination", str(error)) from None
    if target == Destination("voicemail"):
        return "Goto(services,voicemail,1)"
    return _GOTO[target.kind].format(dial(target.value) if target.kind in _DIALLED else target.value)


_DIALLED = frozenset({"extension", "voicemail", "queue", "menu", "conference", "group", "page", "fax", "external"})
_GOTO = {
    "extension": "Goto(extensions,{},1)",
    "voicemail": "Goto(mailboxes,{},1)",
    "queue": "Goto(queues,{},1)",
    "menu": "Goto(menus,{},1)",
    "conference": "Goto(conferences,{},1)",
    "group": "Goto(groups,{},1)",
    "page": "Goto(pages,{},1)",
    "fax": "Goto(faxes,{},1)",
    "schedule": "Goto(schedules,{},1)",
    "external": "Goto(external,{},1)",
}
_GOTO |= {
    "directory": "Goto(services,directory,1)",
    "hangup": "Hangup(16)",
    "busy": "Busy(10)",
}


def option(value: object) -> str:
    """Let an option of ours through, ``name=value``."""
    return _matched(value, re.compile(r"[a-z]+=[a-z]+"), "an option", "it is not name=value")


def words(value: object) -> str:
    """Let small words with commas between them through."""
    return _matched(
        value, re.compile(r"[a-z]+(,[a-z]+)*"), "a list of words", "it has something else than a-z and commas"
    )


def uri_suffix(value: object) -> str:
    """Quote a SIP URI's parameter of ours (RFC 3261, 19.1.1), or nothing."""
    text = _matched(value, re.compile(r"(;transport=(tcp|tls))?"), "a URI's parameter", "it is not ;transport=…")
    return text.replace(";", "\\;")


def msmtp(value: object) -> str:
    """Quote a value of msmtp's configuration, which knows no escape inside double quotes."""
    text = _line(value, "a value of msmtprc")
    if '"' in text:
        raise Unquotable(text, "a value of msmtprc", "it has a double quote")
    return f'"{text}"'


def xml(value: object) -> str:
    """Quote text of an XML element or attribute."""
    text = _line(value, "XML")
    if any(ord(character) in (0xFFFE, 0xFFFF) for character in text):
        raise Unquotable(text, "XML", "it has a character that XML does not know")
    return escape(text, {'"': "&quot;", "'": "&apos;"})


def cfg(value: object) -> str:
    """Quote the value of a setting in a Yealink's file: the rest of a line, without quotes or escapes."""
    text = _line(value, "a phone's setting")
    if text != text.strip():
        raise Unquotable(text, "a phone's setting", "it starts or ends with a space")
    return text


def uri_user(value: object) -> str:
    """Write a number or a code as the user part of a SIP URI (RFC 3261, 25.1): a # is no user character."""
    return dial(value).replace("#", "%23")


def pem(value: object) -> str:
    """Let a PEM block through (RFC 7468)."""
    form = re.compile(r"(-----(BEGIN|END) [A-Z ]+-----\n|[A-Za-z0-9+/=]+\n)+")
    return _matched(value, form, "a PEM file", "it is none")


def _matched(value: object, form: re.Pattern[str], place: str, why: str) -> str:
    text = str(value)
    if not form.fullmatch(text):
        raise Unquotable(text, place, why)
    return text


FILTERS: dict[str, Callable[[Any], str]] = {
    "asterisk": asterisk,
    "callerid": callerid,
    "voicemail": voicemail,
    "comment": comment,
    "digits": digits,
    "word": word,
    "line": line,
    "dial": dial,
    "prefix": prefix,
    "slug": slug,
    "sound": sound,
    "plain": plain,
    "pattern": pattern,
    "goto": goto,
    "caller": caller,
    "option": option,
    "words": words,
    "uri_suffix": uri_suffix,
    "msmtp": msmtp,
    "xml": xml,
    "cfg": cfg,
    "uri_user": uri_user,
    "pem": pem,
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
