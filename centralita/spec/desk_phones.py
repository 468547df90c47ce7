"""Desk phones that get a file of settings: which phone it is, and what all of them are told."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from centralita.ground.errors import Problem
from centralita.spec.numbering import lamps
from centralita.spec.problems import choose_from
from centralita.spec.source import Node
from centralita.spec.tree import listed, problem, text_at, texts, word
from centralita.spec.types import AsWritten, Model, matching
from centralita.spec.words import HostName, SecretValue

Maker = Literal["yealink", "snom", "grandstream"]


def bare_mac(text: str) -> str:
    """Return a MAC address as twelve small hexadecimal digits."""
    return re.sub(r"[^0-9a-f]", "", text.lower())


MacAddress = Annotated[
    str,
    AsWritten,
    matching(r"([0-9A-Fa-f]{2}[:-]?){5}[0-9A-Fa-f]{2}", "a MAC address", 'quote it: "80:5e:c0:11:22:33"'),
    AfterValidator(bare_mac),
]
#: What a busy lamp watches, with what dials it: a number inside, or the code of night mode.
LampNumber = Annotated[
    str, AsWritten, matching(r"[*#]?[0-9]{1,10}", "a number or a code", 'e.g. 102, or a night mode\'s code as "*281"')
]


class DeskPhone(Model):
    """A phone that is set up by a file (`invoke tenant.provision`)."""

    maker: Maker = Field(examples=["yealink"])
    mac: MacAddress = Field(description="Printed on the phone's back.", examples=["80:5e:c0:11:22:33"])


class Provisioning(Model):
    """What all phones that are set up by a file are told."""

    server: HostName | None = Field(
        None, description="Where phones find the PBX; by default its static address, else HOSTNAME.DOMAIN."
    )
    ntp: HostName = Field("pool.ntp.org", description="The phones' time server.")
    password: SecretValue | None = Field(
        None, repr=False, description="Of the phones' own web pages; left as it is if not given."
    )


def desk_phones(root: Node) -> list[Problem]:
    """Return what is wrong with phones that are set up by a file, and with busy lamps."""
    problems: list[Problem] = []
    seen: dict[str, Node] = {}
    known = sorted(lamps(root))
    for where, extension in listed(root, "extensions"):
        for index, node, number in texts(extension, "blf"):
            if number not in known:
                fix = choose_from(number, known) or "an extension, a conference, a parking place or a night_code"
                problems.append(problem(node, f"{where}.blf[{index}]", f"nothing with a lamp has {number}", fix))
        accounts = [(where, extension)]
        accounts += [(f"{where}.{place}", device) for place, device in listed(extension, "devices")]
        for place, account in accounts:
            phone = account.get("phone")
            if phone is None or not isinstance(phone.value, dict):
                continue
            if word(account, "transport") == "webrtc":
                message = "a WebRTC phone is a web page, which no file sets up"
                problems.append(problem(phone, f"{place}.phone", message, "remove it, or another transport"))
            if found := text_at(phone, "mac"):
                node, mac = found[0], bare_mac(found[1])
                if mac in seen:
                    message = f"{found[1]} is here and in line {seen[mac].line}"
                    problems.append(problem(node, f"{place}.phone.mac", message, "each phone has its own"))
                seen.setdefault(mac, node)
            if not _server(root):
                message = "the phone would not know where the PBX is: its address is given by DHCP"
                fix = "`provisioning: {server: pbx.example.com}`, or a static address, or `network: {domain: …}`"
                problems.append(problem(phone, f"{place}.phone", message, fix))
    return problems


def _server(root: Node) -> bool:
    network, provisioning = root.get("network"), root.get("provisioning")
    named = provisioning is not None and provisioning.get("server") is not None
    return named or (network is not None and any(network.get(key) is not None for key in ("address", "domain")))
