"""The tenant: what an admin declares in a YAML file, and how it is read.

A tenant's file may hold secrets; no message shows a secret or a PIN, and neither does a model's ``repr``.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv6Address
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from centralita.ground.errors import SpecError
from centralita.spec.checks import cross_check
from centralita.spec.problems import Complaint, validate
from centralita.spec.rules import (
    COUNTRIES,
    any_address,
    iana_timezone,
    ipv4_address,
    ipv4_interface,
    person_name,
    ssh_public_key,
)
from centralita.spec.source import load
from centralita.spec.types import AsWritten, DnsLabel, DomainName, Language, Line, Model, matching, one_of

Number = Annotated[str, AsWritten, matching(r"[0-9]{1,10}", "an extension's number", "1 to 10 digits, e.g. 101")]
Pin = Annotated[str, AsWritten]
Secret = Annotated[str, AsWritten]
Email = Annotated[
    str,
    # The subset of RFC 5321 that needs no quoting anywhere.
    matching(r"[A-Za-z0-9._+-]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+", "an e-mail address", "e.g. ana@example.com"),
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


def _mailbox(value: object) -> object:
    if value is True:
        return {}
    if value is None or isinstance(value, dict):
        return value
    if value is False:
        return None
    raise Complaint("is neither true nor false nor a mapping", "true, false, or `{pin: …, email: …}`")


class Voicemail(Model):
    """A voicemail box."""

    pin: Annotated[Pin, AfterValidator(_pin)] | None = Field(
        None, repr=False, description="4 to 10 digits; generated if left out."
    )
    email: Email | None = Field(None, description="Where new messages are announced.", examples=["ana@example.com"])


class Extension(Model):
    """A person's or a room's phone number, and the account that its phones register with."""

    number: Number = Field(description="What is dialled, and the SIP user name.", examples=["101"])
    name: Annotated[Line, AfterValidator(person_name)] = Field(min_length=1, examples=["Ana García"])
    secret: Annotated[Secret, AfterValidator(_secret)] | None = Field(
        None, repr=False, description="SIP password; generated if left out."
    )
    voicemail: Annotated[Voicemail | None, BeforeValidator(_mailbox, json_schema_input_type=Voicemail | bool)] = Field(
        default_factory=lambda: Voicemail.model_validate({}),
        description="true, false, or a mapping.",
        examples=["true"],
    )
    ring_seconds: int = Field(20, ge=5, le=300, description="How long it rings before voicemail.", examples=[20])


class Network(Model):
    """The machine's one network interface."""

    method: Literal["dhcp", "static"] = Field("dhcp", examples=["dhcp"])
    address: Annotated[IPv4Interface, BeforeValidator(ipv4_interface, json_schema_input_type=str)] | None = Field(
        None, examples=["192.0.2.10/24"]
    )
    gateway: Annotated[IPv4Address, BeforeValidator(ipv4_address, json_schema_input_type=str)] | None = Field(
        None, examples=["192.0.2.1"]
    )
    dns: tuple[Annotated[IPv4Address | IPv6Address, BeforeValidator(any_address, json_schema_input_type=str)], ...] = (
        Field((), max_length=3, description="Name servers; resolv.conf(5) knows three.", examples=["192.0.2.53"])
    )
    domain: DomainName | None = Field(None, examples=["example.com"])


class Admin(Model):
    """Somebody who administers the machine over SSH."""

    name: Line = Field(min_length=1, max_length=80, examples=["Ana"])
    ssh_keys: tuple[Annotated[str, AfterValidator(ssh_public_key)], ...] = Field(
        min_length=1, description="OpenSSH public keys.", examples=["ssh-ed25519 AAAA… ana@laptop"]
    )


class Tenant(Model):
    """A company's telephone system."""

    schema_: Literal[1] = Field(1, alias="schema", examples=[1])
    name: DnsLabel = Field(description="What the clone and its records are called.", examples=["acme"])
    company: Line | None = Field(None, min_length=1, max_length=200, examples=["Acme, S. L."])
    hostname: DnsLabel | None = Field(None, description="Default: the name.", examples=["pbx"])
    timezone: Annotated[str, AfterValidator(iana_timezone)] = Field("Etc/UTC", examples=["Europe/Madrid"])
    language: Language = Field("en", description="Language of the prompts.", examples=["en"])
    country: Annotated[str, one_of(COUNTRIES, "a country whose tones are known")] = Field("us", examples=["es"])
    network: Network = Field(default_factory=lambda: Network.model_validate({}))
    admins: tuple[Admin, ...] = ()
    console: Literal["none", "autologin"] = Field(
        "none", description="A root shell on the serial console and hvc0.", examples=["none"]
    )
    extensions: tuple[Extension, ...] = Field(min_length=1, max_length=10000)

    @property
    def host(self) -> str:
        """Return the host name: ``hostname``, else ``name``."""
        return self.hostname or self.name


def load_tenant(path: str | Path) -> Tenant:
    """Return the tenant that a file declares.

    Raises :class:`SpecError` with all problems at once, those between fields included.
    """
    root = load(Path(path), str(path))
    tenant, problems = validate(Tenant, root)
    problems += cross_check(root)
    if problems or tenant is None:
        raise SpecError(sorted(dict.fromkeys(problems), key=lambda problem: problem.line or 0))
    return tenant
