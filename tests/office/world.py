"""The world outside an office: one Asterisk that is the provider of each of its trunks, and a phone there.

Each trunk's host is an address of its own, so that a call shows over which trunk it came and went.
"""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

from centralita.clone.files import GuestFile
from centralita.ground.run import run
from centralita.spec.tenant import Tenant
from centralita.spec.trunks import Trunk
from tests.office.provider import PHONE, PHONE_SECRET, static_files

_PHONE = f"""
[{PHONE}]
type = endpoint
transport = phones
context = world
allow = !all,ulaw,alaw
auth = {PHONE}
aors = {PHONE}
direct_media = no
[{PHONE}]
type = auth
auth_type = userpass
username = {PHONE}
password = {PHONE_SECRET}
[{PHONE}]
type = aor
max_contacts = 4

[phones]
type = transport
protocol = udp
bind = %s:5060
"""

# Dialled: the trunk's place in the file, the caller's number, the called number, with * between them.
_WORLD = """
[world]
exten => _X*.,1,Set(CALLERID(all)=<${CUT(EXTEN,*,2)}>)
 same => n,Dial(PJSIP/${CUT(EXTEN,*,3)}@${TRUNK_${CUT(EXTEN,*,1)}},60)
 same => n,Hangup(${HANGUPCAUSE})
"""


def world_files(
    tenant: Tenant, appliance: str, pbx: IPv4Address, home: IPv4Address, *, refusing: Collection[str], folder: Path
) -> list[GuestFile]:
    """Return the world's configuration; trunks in ``refusing`` are full. ``home`` is where its phone registers."""
    pjsip = ["[global]\ntype = global\nendpoint_identifier_order = header,username\n", _PHONE % home]
    dialplan = ["[globals]", *(f"TRUNK_{index} = {trunk.name}" for index, trunk in enumerate(tenant.trunks)), _WORLD]
    for trunk in tenant.trunks:
        pjsip.append(_trunk(trunk, pbx))
        # A number that is wrong: no provider knows it.
        wrong = "exten => _+9999.,1,Hangup(1)\n"
        taken = f"Log(NOTICE,{trunk.name} took ${{EXTEN}} as ${{CALLERID(num)}})"
        dialplan.append(
            f"[from-{trunk.name}]\n{wrong}exten => _[0-9+*#].,1,{taken}\n"
            + (" same => n,Hangup(34)\n" if trunk.name in refusing else " same => n,Answer()\n same => n,Echo()\n")
        )
    key, certificate = folder / "world.key", folder / "world.crt"
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-noenc", "-days", "2", "-subj", "/CN=world"]
    run([*argv, "-keyout", key, "-out", certificate])
    files = {
        "pjsip.conf": "\n".join(pjsip).encode(),
        "extensions.conf": "\n".join(dialplan).encode(),
        "voicemail.conf": b"[general]\n",
        "world.key": key.read_bytes(),
        "world.crt": certificate.read_bytes(),
    }
    own = [GuestFile(f"/etc/asterisk/{name}", data, 0o644) for name, data in files.items()]
    return [*static_files(appliance), *own]


def addresses(tenant: Tenant, network: IPv4Network, dead: Collection[str]) -> list[IPv4Interface]:
    """Return the providers' addresses; those of dead trunks are nowhere."""
    hosts = dict.fromkeys(trunk.host for trunk in tenant.trunks if trunk.name not in dead)
    return [IPv4Interface(f"{host}/{network.prefixlen}") for host in hosts]


def _trunk(trunk: Trunk, pbx: IPv4Address) -> str:
    tls = trunk.transport == "tls"
    port = trunk.port or (5061 if tls else 5060)
    name, aor = trunk.name, trunk.user if trunk.kind == "registered" else trunk.name
    lines = [
        f"[t-{name}]\ntype = transport\nprotocol = {trunk.transport}\nbind = {trunk.host}:{port}",
        "cert_file = /etc/asterisk/world.crt\npriv_key_file = /etc/asterisk/world.key\nmethod = sslv23" if tls else "",
        f"[{name}]\ntype = endpoint\ntransport = t-{name}\ncontext = from-{name}\nallow = !all,alaw,ulaw\naors = {aor}",
        "direct_media = no\ntrust_id_inbound = yes\ntrust_id_outbound = yes",
        "media_encryption = sdes" if trunk.srtp else "",
    ]
    if trunk.user:
        lines += [f"auth = {name}", f"[{name}]\ntype = auth\nauth_type = digest\nusername = {trunk.user}"]
        lines += [f"password = {(trunk.password or '').replace(';', chr(92) + ';')}"]
        lines += [f"supported_algorithms_uas = {','.join(trunk.digest)}"]
    lines += [f"[{aor}]\ntype = aor\nmax_contacts = 1\nremove_existing = yes"]
    if trunk.kind == "ip":
        pbx_port = 5061 if tls else 5060
        suffix = "" if trunk.transport == "udp" else f"\\;transport={trunk.transport}"
        lines += [f"contact = sip:{pbx}:{pbx_port}{suffix}"]
    pattern = trunk.host.replace(".", r"\.")
    lines += [f"[{name}]\ntype = identify\nendpoint = {name}\nmatch_header = To: /[@:]{pattern}/"]
    return "\n".join(line for line in lines if line) + "\n"
