"""What a tenant's machine gets written into it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

import pytest

from centralita.clone.files import GuestFile
from centralita.clone.identity import Identity
from centralita.clone.keypairs import HostKey
from centralita.clone.render import load_manifest, render
from centralita.ground.errors import SpecError
from centralita.ground.paths import repo_root
from centralita.spec.tenant import Tenant, load_tenant
from tests.unit.asterisk_config import Section, parse

pytestmark = pytest.mark.unit

SECRET, PIN = "Kx7-Zp2q9", "947261"
IDENTITY = Identity(
    tenant="duo",
    machine_id="0123456789abcdef0123456789abcdef",
    uuid="5ee2e5a3-76a7-4a3c-a9f5-36cd9a3f6d02",
    mac="52:54:00:00:00:01",
    host_keys=(HostKey("ed25519", "PRIVATE\n", "ssh-ed25519 AAAA"),),
    sip_secrets={"101": SECRET, "102": "another-s3cret"},
    voicemail_pins={"101": PIN, "102": "482915"},
)


@pytest.fixture(scope="module")
def duo() -> Tenant:
    return load_tenant(repo_root() / "tests" / "data" / "duo.yaml")


def files_of(tenant: Tenant) -> dict[str, GuestFile]:
    return {file.path: file for file in render(tenant, IDENTITY)}


def text_of(tenant: Tenant, path: str) -> str:
    return files_of(tenant)[path].content.decode()


def find(sections: list[Section], name: str, kind: str) -> dict[str, list[str]]:
    (found,) = [s for s in sections if s.name == name and s.options["type"][-1] == kind and not s.template]
    return found.options


def made(**values: object) -> Tenant:
    extensions = ({"number": "101", "name": "Ana"}, {"number": "102", "name": "Luis", "voicemail": False})
    return Tenant.model_validate({"name": "acme", "extensions": extensions, **values})


def test_who_the_machine_is(duo: Tenant) -> None:
    files = files_of(duo)
    assert files["/etc/machine-id"].content == b"0123456789abcdef0123456789abcdef\n"
    assert files["/etc/hostname"].content == b"duo\n"
    assert files["/etc/localtime"].symlink == "/usr/share/zoneinfo/Europe/Madrid"
    assert "10.77.0.10 duo\n" in files["/etc/hosts"].content.decode()
    assert files["/etc/ssh/ssh_host_ed25519_key"].content == b"PRIVATE\n"
    assert files["/etc/ssh/ssh_host_ed25519_key"].mode == 0o600
    assert files["/etc/ssh/ssh_host_ed25519_key.pub"].mode == 0o644
    assert list(files)[-1] == "/etc/centralita/tenant.json"  # what lets services start comes last


def test_owners_and_modes_of_what_holds_secrets(duo: Tenant) -> None:
    files = files_of(duo)
    for path in ("/etc/asterisk/pjsip.conf", "/etc/asterisk/voicemail.conf"):
        assert (files[path].owner, files[path].group, files[path].mode) == ("root", "asterisk", 0o640)
        assert files[path].secret
    open_to_all = [file for file in files.values() if file.mode & 0o004 and not file.symlink]
    assert "/etc/hosts" in {file.path for file in open_to_all}
    for file in open_to_all:
        for secret in (SECRET, PIN, "another-s3cret", "PRIVATE", "4719"):
            assert secret.encode() not in file.content, file.path
        assert not file.secret


def test_static_network(duo: Tenant) -> None:
    text = text_of(duo, "/etc/systemd/network/10-tenant.network")
    assert "[Match]\nName=eth0\n" in text
    assert "Address=10.77.0.10/24\nGateway=10.77.0.1\n" in text
    assert "DHCP" not in text
    # No name server: the file is there and names none, so that nothing waits for one on this machine.
    assert "nameserver" not in text_of(duo, "/etc/resolv.conf")


def test_dhcp_and_name_servers() -> None:
    network = {"method": "dhcp", "dns": ("192.0.2.53", "2001:db8::53"), "domain": "example.com"}
    tenant = made(network=network, hostname="pbx")
    text = text_of(tenant, "/etc/systemd/network/10-tenant.network")
    assert "DHCP=ipv4\n" in text and "Address=" not in text
    assert text_of(tenant, "/etc/resolv.conf").splitlines()[1:4] == [
        "search example.com",
        "nameserver 192.0.2.53",
        "nameserver 2001:db8::53",
    ]
    assert text_of(tenant, "/etc/hosts").splitlines()[2] == "127.0.1.1 pbx.example.com pbx"
    assert "/etc/resolv.conf" not in files_of(made())


def test_admins_and_console() -> None:
    blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + bytes(32)
    key = f"ssh-ed25519 {base64.b64encode(blob).decode()} ana@laptop"
    tenant = made(admins=({"name": "Ana", "ssh_keys": (key,)},), console="autologin")
    files = files_of(tenant)
    assert files["/root/.ssh/authorized_keys"].content.decode() == f"# Ana\n{key}\n"
    assert files["/root/.ssh/authorized_keys"].mode == 0o600
    assert files["/root/.ssh"].directory and files["/root/.ssh"].mode == 0o700
    assert files["/etc/centralita/console-autologin"].content == b""
    bare = files_of(made())
    assert not any(path.startswith("/root") or path.endswith("autologin") for path in bare)


def test_accounts_are_hashed_with_one_realm_and_one_list_of_algorithms(duo: Tenant) -> None:
    sections = parse(text_of(duo, "/etc/asterisk/pjsip.conf"))
    general = find(sections, "global", "global")
    assert general["default_auth_algorithms_uas"] == ["MD5,SHA-256"]
    for number, secret in IDENTITY.sip_secrets.items():
        auth = find(sections, number, "auth")
        assert auth["supported_algorithms_uas"] == general["default_auth_algorithms_uas"]
        assert auth["realm"] == general["default_realm"] == ["duo"]
        known = f"{number}:duo:{secret}".encode()
        assert auth["password_digest"] == [
            "MD5:" + hashlib.md5(known, usedforsecurity=False).hexdigest(),
            "SHA-256:" + hashlib.sha256(known).hexdigest(),
        ]
        assert auth["username"] == [number]
    assert SECRET not in text_of(duo, "/etc/asterisk/pjsip.conf")


def test_endpoints(duo: Tenant) -> None:
    sections = parse(text_of(duo, "/etc/asterisk/pjsip.conf"))
    endpoint = find(sections, "101", "endpoint")
    for key, value in {
        "context": "internal",
        "direct_media": "no",
        "rtp_symmetric": "yes",
        "force_rport": "yes",
        "rewrite_contact": "yes",
        "allow": "!all,ulaw,alaw,g722",
        "callerid": '"Begoña Muñoz" <101>',
        "tone_zone": "es",
        "mailboxes": "101@default",
        "identify_by": "username",
    }.items():
        assert endpoint[key] == [value], key
    assert endpoint["set_var"] == ["EXT=101", "MAILBOX=101@default"]
    aor = find(sections, "101", "aor")
    assert (aor["max_contacts"], aor["remove_existing"]) == (["5"], ["yes"])
    assert not [s for s in sections if s.name == "anonymous"]


def test_voicemail_only_where_it_is_wanted() -> None:
    tenant = made()
    boxes = {s.name: s.options for s in parse(text_of(tenant, "/etc/asterisk/voicemail.conf"))}
    assert boxes["default"] == {"101": [f"{PIN},Ana,"]}
    endpoint = find(parse(text_of(tenant, "/etc/asterisk/pjsip.conf")), "102", "endpoint")
    assert endpoint["set_var"] == ["EXT=102"] and "mailboxes" not in endpoint
    dialplan = text_of(tenant, "/etc/asterisk/extensions.conf")
    assert "exten => 101,1,Gosub(ring,s,1(101,20,101,internal,any))\n" in dialplan
    assert " same => n,VoiceMail(101@default,u)\n" in dialplan and "VoiceMail(102" not in dialplan


@pytest.mark.parametrize("name", ["duo", "office"])
def test_nothing_that_a_caller_sends_is_dialled(name: str) -> None:
    """Where a caller's string (EXTEN, a caller ID, a contact) stands in the dial plan, and where it must not."""
    tenant = load_tenant(repo_root() / "tests" / "data" / f"{name}.yaml")
    identity = Identity("t", "0" * 32, "u", "52:54:00:00:00:01", sip_secrets=Always(), voicemail_pins=Always(),
                        tls_key="QUJD\n", tls_certificate="QUJD\n")  # fmt: skip
    files = {file.path: file for file in render(tenant, identity)}
    lines = [line.split(";")[0] for line in files["/etc/asterisk/extensions.conf"].content.decode().splitlines()]
    for index, code in enumerate(lines):
        if re.search(r"\$\{(EXTEN\b|CALLERID)", code):
            compared = "GotoIf($[${LEN(${EXTEN})} " in code
            assert "FILTER(" in code or compared or "Set(called=${EXTEN})" in code or "CALLERID(name)=" in code, code
            assert not any(f"{app}(" in code for app in ("Dial", "Log", "System", "Goto", "Playback", "Queue")), code
        if "Set(digits=${FILTER(0-9*#+,${EXTEN})})" in code:
            # What is no number is refused before anything else happens.
            later = lines[index + 1] + lines[index + 2]
            assert "${LEN(${EXTEN})}" in later and "refuse,forged,1" in later, code
        if "Dial(" in code and "PJSIP_DIAL" not in code:
            used = set(re.findall(r"\$\{(\w+)", code))
            assert used <= {"contacts", "forward", "ARG1", "ARG2", "ARG4", "ARG7"}, code


class Always(dict[str, str]):
    """A secret for everybody."""

    def __missing__(self, key: str) -> str:
        return "947261"


def test_the_record_in_the_guest_holds_no_secret(duo: Tenant) -> None:
    record = json.loads(text_of(duo, "/etc/centralita/tenant.json"))
    assert record["name"] == "duo" and record["extensions"] == ["101", "102"]
    assert set(record) == {"schema", "name", "company", "hostname", "uuid", "mac", "language", "extensions"}


def test_rendering_twice_gives_the_same(duo: Tenant) -> None:
    assert render(duo, IDENTITY) == render(duo, IDENTITY)


def test_the_shipped_manifest_is_whole() -> None:
    folder = repo_root() / "hooks"
    manifest = load_manifest(folder)
    named = {file.template for file in manifest.files if file.template}
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    partial = {name for name in there if name.startswith("etc/asterisk/dialplan/")}
    phones = {name for name in there if name.startswith("phones/")}
    assert there - named - partial - phones == {"manifest.yaml", "README.md"}
    text = "".join((folder / name).read_text() for name in there if name.endswith("extensions.conf") or name in partial)
    assert all(f'include "{name}"' in text for name in partial)
    assert len({file.path for file in manifest.files}) == len(manifest.files)


def test_a_bad_manifest_is_a_spec_error(tmp_path: Path) -> None:
    (tmp_path / "manifest.yaml").write_text(
        'schema: 1\nfiles:\n  - {path: etc/x, text: ""}\n  - {path: /etc/y}\n  - {path: /z, text: "", mode: "644"}\n'
    )
    with pytest.raises(SpecError) as caught:
        load_manifest(tmp_path)
    assert [(p.line, p.field) for p in caught.value.problems] == [
        (3, "files[0].path"),
        (5, "files[2].mode"),
        (4, "files[1]"),
    ]


@pytest.mark.parametrize("path", ["etc/x", "/", "/etc/../x", "/etc//x", "/etc/"])
def test_a_guest_path_is_absolute_and_plain(path: str) -> None:
    with pytest.raises(ValueError):
        GuestFile(path)
