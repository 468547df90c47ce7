"""Files of settings for desk phones: Yealink (cfg), Snom and Grandstream (XML), from the templates in hooks/phones.

They hold SIP passwords in clear text, which is what a phone needs; so they are 0600 and never in the machine.
"""

from __future__ import annotations

import os
import zoneinfo
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import TemplateError

from centralita.clone.identity import Identity
from centralita.clone.quoting import Unquotable
from centralita.clone.render import hooks_dir, template_environment
from centralita.ground.errors import CentralitaError, Problem, SpecError
from centralita.spec.numbering import PICKUP
from centralita.spec.tenant import Device, Extension, Tenant

#: The folder in a clone's folder.
FOLDER = "provisioning"
_TEMPLATES = {"yealink": "yealink.cfg", "snom": "snom.xml", "grandstream": "grandstream.xml"}


@dataclass(frozen=True)
class Lamp:
    """A key with a lamp; ``pickup`` where a call that rings there can be picked up."""

    number: str
    name: str
    pickup: bool


@dataclass(frozen=True)
class PhoneSettings:
    """What a template of hooks/phones may use, as ``phone``."""

    mac: str
    account: str
    name: str
    secret: str = field(repr=False)
    transport: str
    server: str
    port: int
    codecs: tuple[str, ...]
    voicemail: str | None
    pickup: str
    lamps: tuple[Lamp, ...]
    language: str
    ntp: str
    offset: str
    summer: bool
    password: str | None = field(repr=False)


def server_of(tenant: Tenant) -> str:
    """Return where phones find the PBX: what ``provisioning`` says, the static address, or the host's full name."""
    if tenant.provisioning.server:
        return tenant.provisioning.server
    if tenant.network.address is not None:
        return str(tenant.network.address.ip)
    return f"{tenant.host}.{tenant.network.domain}" if tenant.network.domain else tenant.host


def file_name(maker: str, mac: str) -> str:
    """Return the name under which a phone of this maker asks for its file."""
    names = {"yealink": f"{mac}.cfg", "snom": f"{mac.upper()}.xml", "grandstream": f"cfg{mac}.xml"}
    return names[maker]


def phone_files(tenant: Tenant, identity: Identity, hooks: Path | None = None) -> dict[str, str]:
    """Return the texts of the phones' files by name. Raises SpecError for a value that a file cannot hold."""
    environment = template_environment(hooks if hooks is not None else hooks_dir())
    made: dict[str, str] = {}
    for extension in tenant.extensions:
        parts: tuple[Extension | Device, ...] = (extension, *extension.devices)
        for part in parts:
            if part.phone is None:
                continue
            settings = _settings(tenant, identity, extension, part)
            name = file_name(part.phone.maker, part.phone.mac)
            try:
                template = environment.get_template(f"phones/{_TEMPLATES[part.phone.maker]}")
                made[name] = template.render(phone=settings)
            except Unquotable as error:
                place = f"phone of {settings.account}"
                raise SpecError([Problem("tenant", None, place, str(error), "change the value")]) from None
            except (TemplateError, TypeError) as error:
                raise CentralitaError(f"{name} cannot be rendered: {error}", hint="see hooks/README.md") from error
    return made


def write_phone_files(files: dict[str, str], folder: Path) -> None:
    """Write the files (0600) into a folder (0700); each is replaced whole."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    for name, text in files.items():
        new = folder / f".{name}.{os.getpid()}"
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
            stream.write(text)
        new.replace(folder / name)


def _settings(tenant: Tenant, identity: Identity, extension: Extension, part: Extension | Device) -> PhoneSettings:
    account = extension.number if isinstance(part, Extension) else f"{extension.number}-{part.name}"
    assert part.phone is not None
    offset, summer = _zone(tenant.timezone)
    return PhoneSettings(
        mac=part.phone.mac,
        account=account,
        name=extension.name,
        secret=part.secret if part.secret is not None else identity.sip_secrets[account],
        transport=part.transport,
        server=server_of(tenant),
        port=5061 if part.transport == "tls" else 5060,
        codecs=extension.codecs or tenant.codecs,
        voicemail=tenant.codes.voicemail if extension.voicemail else None,
        pickup=PICKUP,
        lamps=tuple(_lamp(tenant, number) for number in extension.blf),
        language=tenant.language,
        ntp=tenant.provisioning.ntp,
        offset=offset,
        summer=summer,
        password=tenant.provisioning.password,
    )


def _lamp(tenant: Tenant, number: str) -> Lamp:
    names = {extension.number: extension.name for extension in tenant.extensions}
    names |= {room.number: room.name for room in tenant.conferences}
    names |= {schedule.night_code: schedule.name for schedule in tenant.schedules if schedule.night_code}
    people = {extension.number for extension in tenant.extensions}
    return Lamp(number, names.get(number, number), number in people)


def _zone(name: str) -> tuple[str, bool]:
    """Return a time zone's offset in winter as phones write it (+1, -3:30), and whether it has summer time."""
    zone = zoneinfo.ZoneInfo(name)
    year = datetime.now(UTC).year
    offsets = [datetime(year, month, 1, tzinfo=zone).utcoffset() for month in (1, 7)]
    minutes = sorted(int(offset.total_seconds()) // 60 for offset in offsets if offset is not None)
    hours, rest = divmod(abs(minutes[0]), 60)
    sign = "-" if minutes[0] < 0 else "+"
    return f"{sign}{hours}" + (f":{rest:02}" if rest else ""), len(set(minutes)) > 1
