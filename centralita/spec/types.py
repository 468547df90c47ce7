"""Types that the appliance's and the tenant's model share."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from centralita.spec.problems import Complaint, choose_from
from centralita.spec.source import SourceFloat, SourceInt

#: Languages for which Debian has core sounds (asterisk-core-sounds-XX).
Language = Literal["en", "es", "fr", "it", "ru"]


class Model(BaseModel):
    """A part of a declared file: strict, frozen, and no key that it does not know."""

    # Inputs stay out of pydantic's own messages: they may be secrets.
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)


def _as_written(value: object) -> object:
    return value.raw if isinstance(value, SourceInt | SourceFloat) else value


@dataclass(frozen=True)
class _Matching:
    """Refuses text which the whole of ``pattern`` does not match; the JSON Schema shows the pattern too."""

    pattern: str
    what: str
    fix: str

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema), "pattern": f"^({self.pattern})$"}

    def _check(self, value: str) -> str:
        if not re.fullmatch(self.pattern, value):
            shown = value if len(value) <= 60 else value[:57] + "…"
            raise Complaint(f"{shown!r} is not {self.what}", self.fix)
        return value


def matching(pattern: str, what: str, fix: str) -> _Matching:
    """Return an annotation for text of one form: ``'X' is not WHAT; fix: FIX``."""
    return _Matching(pattern, what, fix)


#: Text that YAML may take for a number; what was written is kept, leading zeros included.
AsWritten = BeforeValidator(_as_written, json_schema_input_type=str | int)


def no_control_characters(value: str) -> str:
    """Refuse characters that can end a line or hide text in a configuration file."""
    for character in value:
        if (
            ord(character) < 0x20
            or 0x7F <= ord(character) < 0xA0
            or character in "\u2028\u2029\ufeff\u202a\u202b\u202d\u202e"
        ):
            raise Complaint(
                f"holds the control character U+{ord(character):04X}", "remove it; a value is one line of plain text"
            )
        if 0xD800 <= ord(character) < 0xE000:
            raise Complaint("holds half of a surrogate pair", "write the character itself, in UTF-8")
    if value != value.strip():
        raise Complaint("starts or ends with a space", "remove the space, or the quotes around it")
    return value


#: One line of text that a person reads, without control characters and without spaces at its ends.
Line = Annotated[str, AfterValidator(no_control_characters)]

_DNS_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
DnsLabel = Annotated[
    str,
    matching(
        _DNS_LABEL,
        "a DNS label (RFC 1123)",
        "use a-z, 0-9 and hyphens, at most 63, with a letter or digit at both ends, e.g. acme-madrid",
    ),
]
DomainName = Annotated[
    str, matching(rf"{_DNS_LABEL}(\.{_DNS_LABEL})*", "a domain name (RFC 1123)", "lower case, e.g. example.com")
]


def one_of(known: tuple[str, ...], what: str) -> AfterValidator:
    """Return a validator for a name out of a long list, with the closest one as the fix."""
    allowed = frozenset(known)

    def check(value: str) -> str:
        if value not in allowed:
            raise Complaint(f"{value!r} is not {what}", choose_from(value, known))
        return value

    return AfterValidator(check)
