"""A telephone company for tests: a second Asterisk, with which a trunk and the world's phones register."""

from __future__ import annotations

from pathlib import Path

from centralita.clone.files import GuestFile
from centralita.ground.paths import repo_root
from centralita.spec.appliance import load_appliance
from centralita.spec.asterisk_modules import render_modules_conf

PHONE, PHONE_SECRET = "world", "the-w0rlds-phone"

_PJSIP = """
[udp]
type = transport
protocol = udp
bind = 0.0.0.0:5060

[{user}]
type = endpoint
context = from-customer
allow = !all,ulaw
auth = {user}
aors = {user}
direct_media = no
trust_id_inbound = yes
[{user}]
type = auth
auth_type = userpass
username = {user}
password = {password}
[{user}]
type = aor
max_contacts = 1
remove_existing = yes

[{phone}]
type = endpoint
context = world
allow = !all,ulaw
auth = {phone}
aors = {phone}
direct_media = no
callerid = "A Customer" <3345550199>
[{phone}]
type = auth
auth_type = userpass
username = {phone}
password = {secret}
[{phone}]
type = aor
max_contacts = 4
"""

# What the customer dials is answered and logged; what the world dials goes to the customer.
_DIALPLAN = """
[from-customer]
exten => _[0-9+].,1,Log(NOTICE,customer dialled ${{EXTEN}} as ${{CALLERID(num)}})
 same => n,Answer()
 same => n,Echo()

[world]
exten => _X.,1,Dial(PJSIP/${{EXTEN}}@{user},60)
 same => n,Hangup(${{HANGUPCAUSE}})
"""


def provider_files(appliance: str, user: str, password: str) -> list[GuestFile]:
    """Return the provider's configuration; the trunk registers with ``user`` and ``password``."""
    values = {"user": user, "password": password, "phone": PHONE, "secret": PHONE_SECRET}
    files = [
        GuestFile("/etc/asterisk/pjsip.conf", _PJSIP.format(**values).encode(), 0o644),
        GuestFile("/etc/asterisk/extensions.conf", _DIALPLAN.format(**values).encode(), 0o644),
        GuestFile("/etc/asterisk/voicemail.conf", b"[general]\n", 0o644),
    ]
    return [*static_files(appliance), *files]


def static_files(appliance: str) -> list[GuestFile]:
    """Return the golden image's files of Asterisk, as the element has them."""
    folder = repo_root() / "elements/asterisk/asterisk.files"
    files = [
        GuestFile("/" + str(path.relative_to(folder)), path.read_bytes(), 0o644)
        for path in sorted(Path(folder / "etc/asterisk").glob("*.conf"))
    ]
    modules = render_modules_conf(load_appliance(appliance).asterisk.modules)
    return [*files, GuestFile("/etc/asterisk/modules.conf", modules.encode(), 0o644)]
