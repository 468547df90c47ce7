"""Rules for single values of a tenant's file: SSH keys, secrets, PINs, names, addresses."""

from __future__ import annotations

import base64
import binascii
import re
import struct
import zoneinfo
from functools import cache
from ipaddress import AddressValueError, IPv4Address, IPv4Interface, IPv6Address, NetmaskValueError, ip_address
from itertools import pairwise

from centralita.spec.problems import Complaint, choose_from

#: Tone zones of the element asterisk's indications.conf (a unit test compares them).
COUNTRIES = (
    "at", "au", "be", "bg", "br", "ch", "cl", "cn", "cz", "de", "dk", "ee", "es", "fi", "fr", "gr", "hu", "id", "il",
    "in", "it", "jp", "lt", "mx", "my", "nl", "no", "nz", "ph", "pl", "pt", "ru", "se", "sg", "th", "tw", "uk", "us",
    "us-old", "ve", "za",
)  # fmt: skip

MIN_SECRET = 8
#: In a range of numbers, as for parked calls.
MOST_PLACES = 1000
_COMMON_SECRETS = frozenset((
    "password", "passw0rd", "secret", "changeme", "asterisk", "centralita", "letmein", "welcome", "qwerty", "qwertyui",
    "qwertyuiop", "abcdefgh", "iloveyou", "administrator", "admin", "default", "test", "testtest", "extension",
    "freepbx", "elastix", "sipsip", "phone", "telephone", "voip", "1q2w3e4r", "1qaz2wsx",
))  # fmt: skip
_COMMON_PINS = frozenset({"1212", "2580", "1004", "0852"})

_KEY_FIX = "paste the line of a .pub file, e.g. `ssh-ed25519 AAAAC3… ana@laptop`"
# Strings after the type's name: RFC 4253 6.6, RFC 5656 3.1, RFC 8709 4, and PROTOCOL.u2f of OpenSSH.
_KEY_TYPES = {
    "ssh-ed25519": 1,
    "sk-ssh-ed25519@openssh.com": 2,
    "ecdsa-sha2-nistp256": 2,
    "ecdsa-sha2-nistp384": 2,
    "ecdsa-sha2-nistp521": 2,
    "sk-ecdsa-sha2-nistp256@openssh.com": 3,
    "ssh-rsa": 2,
}


def range_of_numbers(value: str) -> str:
    """Refuse a range of numbers that is empty, is of two lengths, or holds more than anybody parks."""
    low, _dash, high = value.partition("-")
    if len(low) != len(high) or int(low) > int(high):
        raise Complaint(f"{value} is no range of numbers", "the smaller first, and both as long, e.g. 701-720")
    if int(high) - int(low) >= MOST_PLACES:
        raise Complaint(f"{value} are more than {MOST_PLACES} numbers", "fewer, e.g. 701-720")
    return value


def ssh_public_key(value: str) -> str:
    """Return an OpenSSH public key line; refuse what its structure shows not to be one (RFC 4253, section 6.6)."""
    if "PRIVATE KEY" in value:
        raise Complaint("is a private key", f"take it out of this file and out of the version control; {_KEY_FIX}")
    if any(ord(c) < 0x20 or ord(c) == 0x7F for c in value):
        raise Complaint("holds a line break or another control character", f"one key a list item; {_KEY_FIX}")
    words = value.split()
    if words and words[0] == "ssh-dss":
        raise Complaint("is a DSA key, which OpenSSH no longer accepts", "make another: `ssh-keygen -t ed25519`")
    if not words or words[0] not in _KEY_TYPES:
        raise Complaint(
            f"{_short(words[0] if words else '')!r} is not a type of SSH key",
            f"{_KEY_FIX}; without options before the type",
        )
    if len(words) < 2:
        raise Complaint("the key itself is missing", _KEY_FIX)
    try:
        fields = _ssh_strings(base64.b64decode(words[1], validate=True))
    except (binascii.Error, ValueError, struct.error):
        raise Complaint("the key is cut off or changed", f"copy the whole line; {_KEY_FIX}") from None
    _check_key_fields(words[0], fields)
    return value


def _ssh_strings(blob: bytes) -> list[bytes]:
    """Split a blob into the strings of RFC 4251, section 5. Raises ValueError or struct.error."""
    fields = []
    while blob:
        (length,) = struct.unpack_from(">I", blob)
        if length > len(blob) - 4:
            raise ValueError("cut off")
        fields.append(blob[4 : 4 + length])
        blob = blob[4 + length :]
    return fields


def _check_key_fields(kind: str, fields: list[bytes]) -> None:
    if not fields or fields[0] != kind.encode():
        inside = fields[0].decode("ascii", "replace") if fields else "nothing"
        raise Complaint(f"says {kind} and holds {_short(inside)}", f"copy the whole line; {_KEY_FIX}")
    ok = len(fields) == 1 + _KEY_TYPES[kind]
    if ok and "ed25519" in kind:
        ok = len(fields[1]) == 32
    elif ok and "ecdsa" in kind:
        curve = re.search(r"nistp\d+", kind)
        size = {"nistp256": 65, "nistp384": 97, "nistp521": 133}
        ok = curve is not None and fields[1] == curve.group().encode() and len(fields[2]) == size[curve.group()]
    elif ok:
        bits = int.from_bytes(fields[2], "big").bit_length()
        if bits < 2048:
            raise Complaint(f"is an RSA key of {bits} bits", "2048 bits or more, or `ssh-keygen -t ed25519`")
    if not ok:
        raise Complaint("the key is cut off or changed", f"copy the whole line; {_KEY_FIX}")


def weak_secret(secret: str, number: str) -> str | None:
    """Return why a SIP secret of extension ``number`` is weak, or None."""
    lowered = secret.lower()
    stem = lowered.replace(number.lower(), "") if number else lowered
    letters = re.sub(r"[^a-z]+$|^[^a-z]+", "", lowered)
    if len(secret) < MIN_SECRET:
        return f"has {len(secret)} characters, fewer than {MIN_SECRET}"
    if not re.sub(r"[^a-z0-9]", "", stem):
        return "is made of the extension's number"
    if lowered in _COMMON_SECRETS or letters in _COMMON_SECRETS:
        return "is a common word"
    if len(set(secret)) < 5:
        return "repeats few characters"
    if lowered in "01234567890123456789" or lowered in "98765432109876543210":
        return "is a run of digits"
    return None


def weak_pin(pin: str, number: str) -> str | None:
    """Return why a voicemail PIN of extension ``number`` is weak, or None."""
    steps = {(int(b) - int(a)) % 10 for a, b in pairwise(pin)}
    if pin.lstrip("0") == number.lstrip("0"):
        return "is the extension's number"
    if steps <= {0}:
        return "is one digit repeated"
    if steps in ({1}, {9}):
        return "is a run of digits"
    if pin in _COMMON_PINS:
        return "is among the first that a thief tries"
    return None


def person_name(value: str) -> str:
    """Refuse names that Asterisk would cut (79 bytes) or that its voicemail.conf cannot hold (a comma)."""
    size = len(value.encode("utf-8", "surrogatepass"))
    if size > 79:
        raise Complaint(f"has {size} bytes in UTF-8", "at most 79: Asterisk cuts longer names")
    if "," in value:
        last, _comma, first = value.partition(",")
        swapped = f"{first.strip()} {last.strip()}".replace(",", "").strip()
        raise Complaint("holds a comma, which ends a name in voicemail.conf", f"write it without, e.g. `{swapped}`")
    return value


@cache
def _timezones() -> tuple[str, ...]:
    return tuple(sorted(zoneinfo.available_timezones()))


def iana_timezone(value: str) -> str:
    """Refuse what is not in the IANA time zone database of this host (Debian package tzdata)."""
    if value not in _timezones():
        raise Complaint(
            f"{_short(value)!r} is not an IANA time zone", choose_from(value, _timezones()) or "e.g. Europe/Madrid"
        )
    return value


def ipv4_interface(value: object) -> object:
    """Return ``192.0.2.10/24`` as an :class:`IPv4Interface`; refuse one without a prefix length."""
    if not isinstance(value, str):
        return value
    try:
        interface = IPv4Interface(value)
    except (AddressValueError, NetmaskValueError, ValueError):
        raise Complaint(
            f"{_short(value)!r} is not an IPv4 address with its prefix length", "e.g. 192.0.2.10/24"
        ) from None
    if "/" not in value:
        raise Complaint(f"{value!r} has no prefix length", f"e.g. {value}/24")
    return interface


def ipv4_address(value: object) -> object:
    """Return ``192.0.2.1`` as an :class:`IPv4Address`."""
    if not isinstance(value, str):
        return value
    try:
        return IPv4Address(value)
    except (AddressValueError, ValueError):
        fix = f"without a prefix length: {value.split('/')[0]}" if "/" in value else "e.g. 192.0.2.1"
        raise Complaint(f"{_short(value)!r} is not an IPv4 address", fix) from None


def any_address(value: object) -> object:
    """Return an IPv4 or IPv6 address object."""
    if not isinstance(value, str):
        return value
    try:
        found: IPv4Address | IPv6Address = ip_address(value)
    except ValueError:
        raise Complaint(f"{_short(value)!r} is not an IP address", "e.g. 192.0.2.53 or 2001:db8::53") from None
    return found


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "…"
