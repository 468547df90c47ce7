"""The tenant: what an admin declares in a YAML file, and how it is read.

A tenant's file may hold secrets; no message shows a secret or a PIN, and neither does a model's ``repr``.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv6Address
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr

from centralita.ground.errors import SpecError
from centralita.spec.checks import cross_check
from centralita.spec.csv_extensions import with_csv
from centralita.spec.desk_phones import DeskPhone, LampNumber, Provisioning
from centralita.spec.office import (
    Codes,
    Conference,
    Fax,
    Group,
    Mail,
    Menu,
    Music,
    Page,
    Parking,
    Queue,
    Schedule,
    VoicemailAccess,
)
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
from centralita.spec.trunks import Inbound, OutboundRule, Trunk
from centralita.spec.types import DnsLabel, DomainName, Language, Line, Model, one_of
from centralita.spec.words import (
    CallerPattern,
    Class,
    Codec,
    DestinationText,
    DialPattern,
    Digest,
    Email,
    Number,
    PinValue,
    PublicNumber,
    SecretValue,
    Slug,
    Transport,
)


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

    pin: PinValue | None = Field(None, repr=False, description="4 to 10 digits; generated if left out.")
    email: Email | None = Field(None, description="Where new messages are sent.", examples=["ana@example.com"])
    delete: bool = Field(False, description="Whether a message that was sent is deleted from the mailbox.")
    directory: bool = Field(True, description="Whether callers find the name in the directory.")


class Device(Model):
    """A further phone of an extension, with an account of its own: 101-NAME."""

    name: Slug = Field(examples=["mobile"])
    secret: SecretValue | None = Field(None, repr=False, description="SIP password; generated if left out.")
    transport: Transport = "udp"
    phone: DeskPhone | None = Field(None, description="Set up by a file; see `invoke tenant.provision`.")


class Forward(Model):
    """Where an extension's calls go instead."""

    always: DestinationText | None = None
    busy: DestinationText | None = Field(None, description="Instead of voicemail's busy greeting.")
    no_answer: DestinationText | None = Field(None, description="Instead of voicemail.")


class FollowMe(Model):
    """Who is rung after an extension's own phones."""

    numbers: tuple[DestinationText, ...] = Field(min_length=1, max_length=10, examples=["external:600123123"])
    ring_seconds: int = Field(20, ge=5, le=300)
    confirm: bool = Field(True, description="Whoever answers must press 1: another voicemail cannot take the call.")


class Extension(Model):
    """A person's or a room's phone number, and the account that its phones register with."""

    number: Number = Field(description="What is dialled, and the SIP user name.", examples=["101"])
    name: Annotated[Line, AfterValidator(person_name)] = Field(min_length=1, examples=["Ana García"])
    secret: SecretValue | None = Field(None, repr=False, description="SIP password; generated if left out.")
    voicemail: Annotated[Voicemail | None, BeforeValidator(_mailbox, json_schema_input_type=Voicemail | bool)] = Field(
        default_factory=lambda: Voicemail.model_validate({}),
        description="true, false, or a mapping.",
        examples=["true"],
    )
    ring_seconds: int = Field(20, ge=5, le=300, description="How long it rings before voicemail.", examples=[20])
    service: Class | None = Field(None, alias="class", description="What it may dial; see default_class.")
    caller_id: PublicNumber | None = Field(None, description="The number that is shown outside.")
    dids: tuple[PublicNumber, ...] = Field((), max_length=20, description="Public numbers that ring it.")
    transport: Transport = Field("udp", description="udp serves tcp too; tls and webrtc encrypt sound.")
    devices: tuple[Device, ...] = Field((), max_length=9, description="Further phones, with accounts of their own.")
    codecs: tuple[Codec, ...] = Field((), description="In order of preference; the tenant's if left out.")
    forward: Forward = Field(default_factory=lambda: Forward.model_validate({}))
    follow_me: FollowMe | None = None
    call_waiting: bool = Field(True, description="Whether a second call rings during a call.")
    do_not_disturb: bool = Field(False, description="Busy to everybody until its phone dials codes.dnd_off.")
    record: Literal["none", "inbound", "outbound", "all"] = "none"
    blf: tuple[LampNumber, ...] = Field(
        (), max_length=60, description="Whose lamps its phones show, in the order of the keys.", examples=["102"]
    )
    phone: DeskPhone | None = Field(None, description="Set up by a file; see `invoke tenant.provision`.")
    pickup_group: Slug | None = Field(None, description="Whose calls *8 fetches; theirs that have the same.")

    @property
    def accounts(self) -> tuple[str, ...]:
        """Return the names of its SIP accounts: the number, and number-device for each further device."""
        return (self.number, *(f"{self.number}-{device.name}" for device in self.devices))


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
    also_national: tuple[Annotated[str, one_of(COUNTRIES, "a country that is known")], ...] = Field(
        (), description="Countries beside the own one whose numbers rules of class national may reach."
    )
    network: Network = Field(default_factory=lambda: Network.model_validate({}))
    admins: tuple[Admin, ...] = ()
    console: Literal["none", "autologin"] = Field(
        "none", description="A root shell on the serial console and hvc0.", examples=["none"]
    )
    digest: tuple[Digest, ...] = Field(
        ("MD5", "SHA-256"), min_length=1, description="Of phones' passwords, in order. Many desk phones know only MD5."
    )
    codecs: tuple[Codec, ...] = Field(("ulaw", "alaw", "g722"), min_length=1, examples=["ulaw"])
    default_class: Class = Field("national", description="What an extension may dial that says nothing else.")
    extensions_csv: Line | None = Field(None, description="A CSV file with more extensions, relative to this file.")
    extensions: tuple[Extension, ...] = Field(min_length=1, max_length=10000)
    voicemail: VoicemailAccess = Field(default_factory=lambda: VoicemailAccess.model_validate({}))
    mail: Mail | None = None
    codes: Codes = Field(default_factory=lambda: Codes.model_validate({}))
    groups: tuple[Group, ...] = Field((), max_length=1000)
    queues: tuple[Queue, ...] = Field((), max_length=1000)
    menus: tuple[Menu, ...] = Field((), max_length=1000)
    conferences: tuple[Conference, ...] = Field((), max_length=1000)
    pages: tuple[Page, ...] = Field((), max_length=1000)
    faxes: tuple[Fax, ...] = Field((), max_length=1000)
    parking: Parking | None = None
    schedules: tuple[Schedule, ...] = Field((), max_length=200)
    music: tuple[Music, ...] = Field((), max_length=50)
    trunks: tuple[Trunk, ...] = Field((), max_length=50)
    inbound: tuple[Inbound, ...] = Field((), max_length=5000)
    outbound: tuple[OutboundRule, ...] = Field((), max_length=200)
    refused: tuple[DialPattern, ...] = Field((), description="Never dialled outside, whatever a rule says.")
    provisioning: Provisioning = Field(default_factory=lambda: Provisioning.model_validate({}))
    blacklist: tuple[CallerPattern, ...] = Field(
        (), max_length=10000, description="Callers who are refused: numbers, patterns, and `anonymous`."
    )

    _folder: Path = PrivateAttr(default=Path())

    @property
    def folder(self) -> Path:
        """Return the folder of the tenant's file, to which the paths in it are relative."""
        return self._folder

    @property
    def host(self) -> str:
        """Return the host name: ``hostname``, else ``name``."""
        return self.hostname or self.name


def load_tenant(path: str | Path) -> Tenant:
    """Return the tenant that a file declares.

    Raises :class:`SpecError` with all problems at once, those between fields included.
    """
    root, problems = with_csv(load(Path(path), str(path)), Path(path).parent)
    tenant, found = validate(Tenant, root)
    problems += found
    problems += cross_check(root, Path(path).parent)
    if problems or tenant is None:
        raise SpecError(sorted(dict.fromkeys(problems), key=lambda problem: problem.line or 0))
    tenant._folder = Path(path).absolute().parent
    return tenant
