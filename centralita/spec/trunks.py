"""The way outside: trunks, numbers that come in, rules for what goes out."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from centralita.spec.problems import Complaint
from centralita.spec.types import AsWritten, Model, matching
from centralita.spec.words import (
    Codec,
    DestinationText,
    DialPattern,
    Digest,
    HostName,
    PublicNumber,
    RuleClass,
    Secret,
    Slug,
)


def _network(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        network = IPv4Network(value)
    except ValueError:
        raise Complaint(f"{value[:40]!r} is not an IPv4 address or network", "e.g. 203.0.113.0/24") from None
    if network.prefixlen < 8:
        raise Complaint(f"{value!r} lets half the world in", "the provider's own networks, e.g. 203.0.113.0/24")
    return network


Source = Annotated[IPv4Network, BeforeValidator(_network, json_schema_input_type=str)]
Prepend = Annotated[str, AsWritten, matching(r"\+?[0-9*#]{0,15}", "digits to dial first", 'e.g. "0034"')]


Label = Annotated[
    str,
    matching(
        r"[^\W_]([\w .'/-]{0,38}[\w.])?", "a label of up to 40 letters, digits, spaces and .'/-", "e.g. Sales Madrid"
    ),
]


class Trunk(Model):
    """A connection to a telephone company."""

    name: Slug = Field(examples=["main"])
    kind: Literal["registered", "ip"] = Field(description="By a user name and password, or by our address.")
    host: HostName = Field(examples=["sip.example.com"])
    port: int | None = Field(None, ge=1, le=65535, description="Default: 5060, with tls 5061.")
    transport: Literal["udp", "tcp", "tls"] = "udp"
    user: Annotated[str, AsWritten, matching(r"[A-Za-z0-9._+-]{1,80}", "a SIP user name", "e.g. acme")] | None = None
    password: Secret | None = Field(None, repr=False)
    accept_from: tuple[Source, ...] = Field((), description="Where its calls come from.", examples=["203.0.113.0/24"])
    did_digits: int | None = Field(None, ge=3, le=15, description="Compare this many last digits of a called number.")
    did_from: Literal["uri", "to"] = Field("uri", description="Where the called number stands.")
    caller_id: PublicNumber | None = Field(None, description="Shown for callers without a number of their own.")
    codecs: tuple[Codec, ...] = Field(("alaw", "ulaw"), min_length=1)
    digest: tuple[Digest, ...] = Field(("MD5", "SHA-256"), min_length=1, description="What its challenges may use.")
    srtp: bool = Field(False, description="Encrypted sound (SDES); its keys travel in the signalling, so use tls.")
    max_calls: int | None = Field(None, ge=1, le=10000)


class Inbound(Model):
    """A number under which the company is called, and where such calls go."""

    number: PublicNumber = Field(examples=["+34911234567"])
    destination: DestinationText
    name: Label | None = Field(None, description="Put before the caller's name on the phones.", examples=["Sales"])
    trunk: Slug | None = Field(None, description="Only calls of this trunk.")


class OutboundRule(Model):
    """Which numbers may be dialled, by whom, and over which trunks."""

    name: Slug = Field(examples=["national"])
    service: RuleClass = Field(alias="class", examples=["national"])
    patterns: tuple[DialPattern, ...] = Field(min_length=1, max_length=100, examples=["[6-9]XXXXXXXX"])
    strip: int = Field(0, ge=0, le=15, description="So many of the dialled digits are not sent.")
    prepend: Prepend = Field("", description="Sent before them.")
    trunks: tuple[Slug, ...] = Field(min_length=1, max_length=8, description="In the order in which they are tried.")
    caller_id: PublicNumber | None = Field(None, description="Shown instead of the extension's number.")
