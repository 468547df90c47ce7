"""Checks between the fields of a tenant's file.

They work on the tree, not on the model, so that they find what they can also in a file that has other errors.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

from centralita.ground.errors import Problem
from centralita.spec.calendar import dates
from centralita.spec.desk_phones import desk_phones
from centralita.spec.dialling import outside
from centralita.spec.numbering import numbering, reached
from centralita.spec.rounds import rounds
from centralita.spec.rules import MIN_SECRET, weak_pin, weak_secret
from centralita.spec.sounds import sounds
from centralita.spec.source import Node
from centralita.spec.tree import listed, problem, text_at, word

_GENERATED = "or leave it out and one is generated"


def cross_check(root: Node, folder: Path) -> list[Problem]:
    """Return what is wrong between the fields of a tenant's file, which lies in ``folder``."""
    people = [*_extensions(root), *_pins(root), *_admins(root)]
    numbers = [*numbering(root), *reached(root), *rounds(root), *outside(root)]
    return [*people, *numbers, *sounds(root, folder), *_network(root), *desk_phones(root), *_faxes(root), *dates(root)]


def _extensions(root: Node) -> list[Problem]:
    problems: list[Problem] = []
    secrets: dict[str, Node] = {}
    for where, extension in listed(root, "extensions"):
        number = word(extension, "number")
        problems += _secrets(extension, where, number, secrets)
        for place, device in listed(extension, "devices"):
            problems += _secrets(device, f"{where}.{place}", number, secrets)
    return problems


def _pins(root: Node) -> list[Problem]:
    problems = []
    for where, room in listed(root, "conferences"):
        pins = {key: found for key in ("pin", "moderator_pin") if (found := text_at(room, key))}
        for key, (node, pin) in pins.items():
            if pin.isascii() and pin.isdigit() and len(pin) >= 4 and (why := weak_pin(pin, word(room, "number"))):
                problems.append(problem(node, f"{where}.{key}", f"the PIN {why}", "other digits"))
        if len(pins) == 2 and len({pin for _node, pin in pins.values()}) == 1:
            message = "the moderator's PIN is everybody's"
            problems.append(problem(pins["moderator_pin"][0], f"{where}.moderator_pin", message, "other digits"))
    return problems


def _faxes(root: Node) -> list[Problem]:
    if root.get("mail") is not None:
        return []
    fix = "`mail: {host: smtp.example.com, sender: pbx@example.com}`"
    problems = [
        problem(fax, where, "faxes are sent by e-mail, and no server for it is given", fix)
        for where, fax in listed(root, "faxes")
    ]
    for where, extension in listed(root, "extensions"):
        box = extension.get("voicemail")
        if box is not None and box.get("email") is not None and (found := box.get("delete")) and found.value is True:
            message = "messages would be deleted unsent: no server for e-mail is given"
            problems.append(problem(found, f"{where}.voicemail.delete", message, fix))
    return problems


def _secrets(extension: Node, where: str, number: str, secrets: dict[str, Node]) -> list[Problem]:
    problems: list[Problem] = []
    if found := text_at(extension, "secret"):
        node, secret = found
        if why := weak_secret(secret, number):
            fix = f"at least {MIN_SECRET} characters, no word and no number of the company's, {_GENERATED}"
            problems.append(problem(node, f"{where}.secret", f"the secret {why}", fix))
        elif secret in secrets:
            message = f"the same secret as in line {secrets[secret].line}"
            problems.append(problem(node, f"{where}.secret", message, f"one of its own, {_GENERATED}"))
        secrets.setdefault(secret, node)
    voicemail = extension.get("voicemail")
    if voicemail is not None and (found := text_at(voicemail, "pin")):
        node, pin = found
        digits = pin.isascii() and pin.isdigit() and len(pin) >= 4
        if digits and (why := weak_pin(pin, number)):
            problems.append(problem(node, f"{where}.voicemail.pin", f"the PIN {why}", f"other digits, {_GENERATED}"))
    return problems


def _network(root: Node) -> list[Problem]:
    network = root.get("network")
    if network is None or not isinstance(network.value, dict):
        return []
    problems: list[Problem] = []
    found = text_at(network, "method")
    method = found[1] if found else "dhcp"
    if method == "dhcp":
        for key in ("address", "gateway"):
            if given := text_at(network, key):
                message = f"method dhcp gets its {key} from the DHCP server"
                problems.append(problem(given[0], f"network.{key}", message, "remove it, or write `method: static`"))
        return problems
    address = text_at(network, "address")
    if address is None:
        if method == "static":
            fix = "add it with its prefix length, e.g. `address: 192.0.2.10/24`"
            problems.append(problem(network, "network.address", "method static needs an address", fix))
        return problems
    try:
        interface = IPv4Interface(address[1])
    except ValueError:
        return problems  # the model says so
    if "/" in address[1]:
        problems += _address(address[0], interface)
        if gateway := text_at(network, "gateway"):
            problems += _gateway(gateway[0], gateway[1], interface)
    return problems


def _address(node: Node, interface: IPv4Interface) -> list[Problem]:
    network, address = interface.network, interface.ip
    example = f"e.g. {next(iter(network.hosts()), address)}/{network.prefixlen}"
    if (
        network.prefixlen == 0
        or address.is_multicast
        or address.is_loopback
        or address.is_unspecified
        or address.is_link_local
    ):
        return [problem(node, "network.address", f"{interface} is no address for a machine", "e.g. 192.0.2.10/24")]
    if network.prefixlen < 31 and address == network.network_address:
        return [problem(node, "network.address", f"{address} is the address of the network {network} itself", example)]
    if network.prefixlen < 31 and address == network.broadcast_address:
        return [problem(node, "network.address", f"{address} is the broadcast address of {network}", example)]
    return []


def _gateway(node: Node, text: str, interface: IPv4Interface) -> list[Problem]:
    try:
        gateway = IPv4Address(text)
    except ValueError:
        return []
    network = interface.network
    first = next((host for host in network.hosts() if host != interface.ip), None) if network.prefixlen else None
    example = f"an address in {network}" + (f", e.g. {first}" if first else "")
    if gateway == interface.ip:
        return [problem(node, "network.gateway", f"{gateway} is the machine's own address", example)]
    if gateway not in network:
        return [problem(node, "network.gateway", f"{gateway} is outside the network {network}", example)]
    if network.prefixlen < 31 and gateway in (network.network_address, network.broadcast_address):
        return [problem(node, "network.gateway", f"{gateway} is the network's or its broadcast address", example)]
    return []


def _admins(root: Node) -> list[Problem]:
    admins = root.get("admins")
    seen: dict[str, Node] = {}
    problems: list[Problem] = []
    for index, admin in enumerate(admins.items() if admins is not None else ()):
        if found := text_at(admin, "name"):
            node, name = found
            if name in seen:
                message = f"{name!r} is here and in line {seen[name].line}"
                problems.append(
                    problem(node, f"admins[{index}].name", message, "one entry an admin, with all keys in it")
                )
            seen.setdefault(name, node)
    return problems
