"""Tenants: what is kept as written, what is refused, and that all errors come at once."""

from __future__ import annotations

import base64
import struct
import subprocess
import time
from pathlib import Path

import pytest

from centralita.ground.errors import Problem, SpecError
from centralita.ground.paths import repo_root
from centralita.spec.rules import COUNTRIES, weak_pin, weak_secret
from centralita.spec.tenant import load_tenant

pytestmark = pytest.mark.unit

HEAD = "name: acme\n"
ONE = "extensions: [{number: 101, name: Ana}]\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "tenant.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def problems_of(path: Path) -> tuple[Problem, ...]:
    with pytest.raises(SpecError) as caught:
        load_tenant(path)
    return caught.value.problems


def ssh_string(*fields: bytes) -> str:
    return base64.b64encode(b"".join(struct.pack(">I", len(field)) + field for field in fields)).decode()


ED25519 = "ssh-ed25519 " + ssh_string(b"ssh-ed25519", bytes(32)) + " ana@laptop"


def test_duo_is_what_the_lab_needs() -> None:
    tenant = load_tenant(repo_root() / "tests" / "data" / "duo.yaml")
    assert [extension.number for extension in tenant.extensions] == ["101", "102"]
    assert str(tenant.network.address) == "10.77.0.10/24"
    assert not tenant.extensions[1].name.isascii()
    assert tenant.admins == ()


def test_defaults(tmp_path: Path) -> None:
    tenant = load_tenant(write(tmp_path, HEAD + ONE))
    assert (tenant.host, tenant.language, tenant.country, tenant.console) == ("acme", "en", "us", "none")
    assert tenant.network.method == "dhcp"
    extension = tenant.extensions[0]
    assert extension.ring_seconds == 20
    assert extension.voicemail is not None and extension.voicemail.pin is None


def test_numbers_pins_and_secrets_stay_as_they_were_written(tmp_path: Path) -> None:
    text = (
        HEAD + "extensions:\n"
        "  - {number: 0101, name: A, secret: 90817263548, voicemail: {pin: 0862}}\n"
        '  - {number: "102", name: B, secret: 12e5067x9, voicemail: {pin: "0071"}}\n'
        "  - {number: 103, name: C, voicemail: false}\n"
        "  - {number: 104, name: D, voicemail: true, secret: 71.250e46}\n"
    )
    first, second, third, fourth = load_tenant(write(tmp_path, text)).extensions
    assert (first.number, first.secret) == ("0101", "90817263548")
    assert first.voicemail is not None and first.voicemail.pin == "0862"
    assert second.voicemail is not None and second.voicemail.pin == "0071"
    assert third.voicemail is None
    assert fourth.secret == "71.250e46"
    assert fourth.voicemail is not None


def test_secrets_are_in_no_repr_and_in_no_message(tmp_path: Path) -> None:
    secret, pin = "mY-s3cret/value", "86197"
    line = f"  - {{number: 101, name: A, secret: {secret}, voicemail: {{pin: {pin}}}}}\n"
    good = load_tenant(write(tmp_path, HEAD + "extensions:\n" + line))
    assert secret not in repr(good) and pin not in repr(good)
    bad = f'  - {{number: 101, name: A, secret: "{secret} ", voicemail: {{pin: x{pin}}}}}\n  - {{secret: [{secret}]}}\n'
    text = "\n".join(map(str, problems_of(write(tmp_path, HEAD + "extensions:\n" + bad))))
    assert secret not in text and pin not in text
    assert "extensions[0].secret" in text and "extensions[0].voicemail.pin" in text


BROKEN = [
    ("name: Acme", "name", "a-z"),
    ("nmae: acme", "nmae", "'name'"),
    ("hostname: a_b", "hostname", "a-z"),
    ("timezone: Europe/Madird", "timezone", "'Europe/Madrid'"),
    ("language: de", "language", "en, es, fr, it, ru"),
    ("country: spain", "country", "es"),
    ("console: yes", "console", "none"),
    ("network: {method: statc, address: 192.0.2.1/24}", "network.method", "'static'"),
    ("network: {method: static}", "network.address", "192.0.2.10/24"),
    ("network: {method: static, address: 192.0.2.10}", "network.address", "192.0.2.10/24"),
    ("network: {method: static, address: 192.0.2.300/24}", "network.address", "192.0.2.10/24"),
    ("network: {method: static, address: 192.0.2.0/24}", "network.address", "192.0.2.1/24"),
    ("network: {method: static, address: 192.0.2.255/24}", "network.address", "192.0.2.1/24"),
    ("network: {method: static, address: 224.0.0.5/24}", "network.address", "192.0.2.10/24"),
    ("network: {method: static, address: 192.0.2.10/24, gateway: 192.0.3.1}", "network.gateway", "192.0.2.0/24"),
    ("network: {method: static, address: 192.0.2.10/24, gateway: 192.0.2.10}", "network.gateway", "192.0.2.1"),
    ("network: {method: static, address: 192.0.2.10/24, gateway: 192.0.2.1/24}", "network.gateway", "192.0.2.1"),
    ("network: {address: 192.0.2.10/24}", "network.address", "method: static"),
    ("network: {method: dhcp, gateway: 192.0.2.1}", "network.gateway", "remove it"),
    ("network: {dns: [resolver.example]}", "network.dns[0]", "192.0.2.53"),
    ("network: {domain: Example..com}", "network.domain", "example.com"),
    ("admins: [{name: Ana}]", "admins[0].ssh_keys", "ssh-ed25519"),
    ("admins: [{name: Ana, ssh_keys: [ssh-ed25519 AAAA]}]", "admins[0].ssh_keys[0]", ".pub"),
    ("extensions: []", "extensions", "1 to 10000 items"),
    ("extensions: [101]", "extensions[0]", "number"),
    ("extensions: [{number: 101}]", "extensions[0].name", "name: Ana"),
    ("extensions: [{name: Ana}]", "extensions[0].number", "number: 101"),
    ("extensions: [{number: '*97', name: A}]", "extensions[0].number", "digits"),
    ("extensions: [{number: 12345678901, name: A}]", "extensions[0].number", "1 to 10 digits"),
    ("extensions: [{number: 101, name: 5}]", "extensions[0].name", '"5"'),
    ("extensions: [{number: 101, name: ''}]", "extensions[0].name", "1 character"),
    ("extensions: [{number: 101, name: 'García, Ana'}]", "extensions[0].name", "`Ana García`"),
    (f"extensions: [{{number: 101, name: {'ñ' * 40}}}]", "extensions[0].name", "79"),
    ('extensions: [{number: 101, name: "a\\nb"}]', "extensions[0].name", "one line"),
    ("extensions: [{number: 101, name: A, ring_seconds: 3}]", "extensions[0].ring_seconds", "5 to 300"),
    ("extensions: [{number: 101, name: A, ring_seconds: '20'}]", "extensions[0].ring_seconds", "5 to 300"),
    ("extensions: [{number: 101, name: A, voicemail: maybe}]", "extensions[0].voicemail", "true, false"),
    ("extensions: [{number: 101, name: A, voicemail: {pin: 12}}]", "extensions[0].voicemail.pin", "generated"),
    ("extensions: [{number: 101, name: A, voicemail: {pin: 1234}}]", "extensions[0].voicemail.pin", "generated"),
    ("extensions: [{number: 101, name: A, voicemail: {email: a b@c.de}}]", "extensions[0].voicemail.email", "ana@"),
    ("extensions: [{number: 101, name: A, secret: short}]", "extensions[0].secret", "8 characters"),
    ("extensions: [{number: 101, name: A, secret: ñandúñandú1}]", "extensions[0].secret", "ASCII"),
]


@pytest.mark.parametrize(("line", "field", "fix"), BROKEN)
def test_each_error_names_line_field_and_fix(tmp_path: Path, line: str, field: str, fix: str) -> None:
    key = line.split(":")[0]
    lines = [known for known in (HEAD + ONE).splitlines() if not known.startswith(f"{key}:")]
    found = problems_of(write(tmp_path, "\n".join([*lines, line]) + "\n"))
    place = [p for p in found if p.field == field and p.line == len(lines) + 1]
    assert place, found
    assert fix in place[0].fix
    assert "Traceback" not in str(found) and "Input should" not in str(found)


def test_all_errors_come_at_once_also_those_between_fields(tmp_path: Path) -> None:
    text = (
        "nmae: x\n"
        "timezone: Mars/Olympus\n"
        "network:\n"
        "  method: static\n"
        "  address: 10.0.0.5/24\n"
        "  gateway: 10.0.1.1\n"
        "extensions:\n"
        "  - number: 101\n"
        "    name: Ana\n"
        "    ring_seconds: 1\n"
        "  - number: 102\n"
        "    name: Luis\n"
        "    secret: password1\n"
        "  - number: 101\n"
        "    name: Eva\n"
        "    voicemail: {pin: 0000}\n"
    )
    found = problems_of(write(tmp_path, text))
    assert [(p.line, p.field) for p in found] == [
        (1, "name"),
        (1, "nmae"),
        (2, "timezone"),
        (6, "network.gateway"),
        (10, "extensions[0].ring_seconds"),
        (13, "extensions[1].secret"),
        (14, "extensions[2].number"),
        (16, "extensions[2].voicemail.pin"),
    ]
    assert "line 8" in found[6].message
    assert "103" in found[6].fix


def test_the_same_secret_twice_is_an_error(tmp_path: Path) -> None:
    text = HEAD + "extensions:\n" + "".join(f"  - {{number: {n}, name: A, secret: Kx7-Zp2q9}}\n" for n in (101, 102))
    (problem,) = problems_of(write(tmp_path, text))
    assert (problem.line, problem.field) == (4, "extensions[1].secret")


@pytest.mark.parametrize(
    "secret",
    ["abc", "101101101", "Password", "password123", "aaaaaaaa", "12345678", "asterisk!", "1010-101", "abababab"],
)
def test_weak_secrets(secret: str) -> None:
    assert weak_secret(secret, "101")


@pytest.mark.parametrize("secret", ["Kx7-Zp2q9", "correct horse battery", "101-tulip-Rain", "9f8a7b6c5d"])
def test_good_secrets(secret: str) -> None:
    assert weak_secret(secret, "101") is None


@pytest.mark.parametrize("pin", ["0000", "1111", "1234", "4321", "7890", "2580", "0101", "00101"])
def test_weak_pins(pin: str) -> None:
    assert weak_pin(pin, "101")


@pytest.mark.parametrize("pin", ["4719", "0862", "1357", "10100"])
def test_good_pins(pin: str) -> None:
    assert weak_pin(pin, "101") is None


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("-----BEGIN OPENSSH PRIVATE KEY-----", "private key"),
        ("ssh-dss AAAA", "DSA"),
        ("ssh-ed25519", "missing"),
        (ED25519[:-30], "cut off"),
        ("ssh-rsa " + ED25519.split()[1], "holds ssh-ed25519"),
        ("ssh-rsa " + ssh_string(b"ssh-rsa", b"\x01\x00\x01", b"\x7f" * 128), "1023 bits"),
        ("ssh-ed25519 " + ssh_string(b"ssh-ed25519", bytes(31)), "cut off"),
        ('command="rm -rf /" ' + ED25519, "not a type"),
    ],
)
def test_bad_ssh_keys(tmp_path: Path, key: str, message: str) -> None:
    text = HEAD + ONE + f"admins:\n  - name: Ana\n    ssh_keys:\n      - '{key}'\n"
    (problem,) = problems_of(write(tmp_path, text))
    assert (problem.line, problem.field) == (6, "admins[0].ssh_keys[0]")
    assert message in problem.message


@pytest.mark.parametrize("kind", [("ed25519",), ("ecdsa", "-b", "384"), ("rsa", "-b", "2048")])
def test_keys_that_ssh_keygen_makes_are_good(tmp_path: Path, kind: tuple[str, ...]) -> None:
    path = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-N", "", "-t", *kind, "-f", path], check=True, stdin=subprocess.DEVNULL)
    key = path.with_suffix(".pub").read_text().strip()
    tenant = load_tenant(write(tmp_path, HEAD + ONE + f"admins: [{{name: Ana, ssh_keys: ['{key}']}}]\n"))
    assert tenant.admins[0].ssh_keys == (key,)


def test_names_of_all_scripts_are_fine(tmp_path: Path) -> None:
    names = ["Ñandú Ibáñez", "李小龍", "Ελένη", "עברית", "😀", "O'Neil \\ <x>; [y]", "${EXTEN} => 1"]
    lines = "".join(f"  - number: {200 + i}\n    name: >-\n      {name}\n" for i, name in enumerate(names))
    tenant = load_tenant(write(tmp_path, HEAD + "extensions:\n" + lines))
    assert [extension.name for extension in tenant.extensions] == names


def test_two_hundred_extensions_are_quick(tmp_path: Path) -> None:
    lines = "".join(
        f"  - {{number: {n}, name: 'Ñame {n}', voicemail: {{email: a{n}@example.com}}}}\n" for n in range(1000, 1200)
    )
    path = write(tmp_path, HEAD + "extensions:\n" + lines)
    started = time.monotonic()
    assert len(load_tenant(path).extensions) == 200
    assert time.monotonic() - started < 2


def test_the_countries_are_those_of_the_golden_image() -> None:
    text = (repo_root() / "elements/asterisk/asterisk.files/etc/asterisk/indications.conf").read_text()
    zones = [line[1:-1] for line in text.splitlines() if line.startswith("[") and line != "[general]"]
    assert sorted(COUNTRIES) == sorted(zones)
