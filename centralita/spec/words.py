"""Texts of one form that the parts of a tenant's file share: numbers, names, destinations, patterns, secrets."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from centralita.spec import patterns
from centralita.spec.problems import Complaint
from centralita.spec.types import AsWritten, matching

#: Classes of service, each allowed what those before it are allowed. Emergency numbers are allowed to all.
CLASSES = ("internal", "local", "national", "international")
Class = Literal["internal", "local", "national", "international"]
RuleClass = Literal["local", "national", "international", "emergency"]
Codec = Literal["ulaw", "alaw", "g722", "gsm", "opus"]
Transport = Literal["udp", "tcp", "tls", "webrtc"]
Digest = Literal["MD5", "SHA-256"]
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]

Number = Annotated[str, AsWritten, matching(r"[0-9]{1,10}", "an extension's number", "1 to 10 digits, e.g. 101")]
Code = Annotated[
    str, AsWritten, matching(r"[*#]?[0-9]{1,8}", "a code", 'an optional * or # and 1 to 8 digits, e.g. "*97"')
]
PublicNumber = Annotated[
    str, AsWritten, matching(r"\+?[0-9]{3,20}", "a telephone number", 'digits with or without +, e.g. "+34911234567"')
]
# One letter alone is none: h, i, s, t and others are extensions with a meaning of their own in Asterisk.
Slug = Annotated[
    str,
    matching(r"[a-z][a-z0-9-]{1,29}", "a short name", "a letter, then letters, digits or hyphens, e.g. main-office"),
]
Pin = Annotated[str, AsWritten]
Secret = Annotated[str, AsWritten]
Email = Annotated[
    str,
    # The subset of RFC 5321 that needs no quoting anywhere.
    matching(r"[A-Za-z0-9._+-]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+", "an e-mail address", "e.g. ana@example.com"),
]
HostName = Annotated[
    str, matching(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,250}[A-Za-z0-9])?", "a host name or address", "e.g. sip.example.com")
]
Sound = Annotated[
    str,
    matching(r"[A-Za-z0-9][A-Za-z0-9_-]*(/[A-Za-z0-9][A-Za-z0-9_-]*)*", "a prompt's name", "e.g. basic-pbx-ivr-main"),
]


def _pin(value: str) -> str:
    if not (value.isascii() and value.isdigit() and 4 <= len(value) <= 10):
        raise Complaint(
            "a PIN is 4 to 10 digits", 'e.g. `pin: "4715"` (not this one), or leave it out and one is generated'
        )
    return value


def _secret(value: str) -> str:
    if not all("!" <= character <= "~" for character in value) or len(value) > 128:
        fix = "up to 128 printable ASCII characters without spaces, or leave it out and one is generated"
        raise Complaint("holds characters that not every phone can send, or too many", fix)
    return value


PinValue = Annotated[Pin, AfterValidator(_pin)]
SecretValue = Annotated[Secret, AfterValidator(_secret)]


def _pattern(value: str) -> str:
    try:
        patterns.parse(value)
    except ValueError as error:
        fix = 'digits, X (0-9), Z (1-9), N (2-9), [13-5], and a . at the end for "and more", e.g. 00X.'
        raise Complaint(f"{value!r} {error}", fix) from None
    return value


def _schema_pattern(value: object) -> object:
    if isinstance(value, str) and value.startswith("_"):
        raise Complaint(f"{value[:40]!r} starts with an underscore", f"write it without: {value.lstrip('_')[:40]}")
    return value


DialPattern = Annotated[str, AfterValidator(_pattern), BeforeValidator(_schema_pattern), AsWritten]


def _caller(value: str) -> str:
    return value if value == "anonymous" else _pattern(value)


#: A caller who is refused.
CallerPattern = Annotated[str, AfterValidator(_caller), BeforeValidator(_schema_pattern), AsWritten]

#: Kinds of destinations that are written ``kind:number``.
NUMBERED = ("extension", "voicemail", "queue", "menu", "conference", "group", "page", "fax")
_DESTINATION = (
    rf"({'|'.join(NUMBERED)}):[0-9]{{1,10}}|schedule:[a-z][a-z0-9-]{{1,29}}|external:\+?[0-9*#]{{2,20}}"
    r"|voicemail|directory|hangup|busy"
)
DestinationText = Annotated[
    str,
    matching(
        _DESTINATION,
        "a destination",
        "extension:101, voicemail:101, queue:700, menu:900, conference:800, group:600, page:500, fax:570, "
        "schedule:office, external:0034911234567, voicemail, directory, busy or hangup",
    ),
    Field(examples=["extension:101"]),
]


@dataclass(frozen=True)
class Destination:
    """Where a call goes: a kind and a number or name (empty for directory, hangup, busy and all of voicemail)."""

    kind: str
    value: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.value}" if self.value else self.kind


def destination(text: str) -> Destination:
    """Return a destination's parts. Raises ValueError where the text is none."""
    if not re.fullmatch(_DESTINATION, text):
        raise ValueError(f"{text!r} is not a destination")
    kind, _colon, value = text.partition(":")
    return Destination(kind, value)


def within(service: str, wanted: str) -> bool:
    """Tell whether the class of service ``service`` is allowed calls of the class ``wanted``."""
    return wanted == "emergency" or CLASSES.index(wanted) <= CLASSES.index(service)
