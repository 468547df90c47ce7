"""What makes a clone itself: machine-id, UUID, MAC address, SSH host keys, SIP secrets and voicemail PINs.

All of it comes from the kernel's random source and is kept in the identity store; nothing follows from a name or from
a tenant's file, so whoever knows both knows nothing. Cloning a tenant again gives the same identity.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from centralita.ground import ledger
from centralita.ground.errors import CentralitaError
from centralita.ground.paths import state_dir
from centralita.ground.run import run
from centralita.spec.rules import weak_pin
from centralita.spec.tenant import Tenant

# 52:54:00 has the "locally administered" bit (IEEE 802c): nobody's assignment is used up, QEMU and libvirt use it for
# their guests, and Xen takes any unicast address. (Xen's own 00:16:3e is a vendor's and would look foreign under KVM.)
MAC_PREFIX = "52:54:00"

# Readable over the telephone and typed on a desk phone: no 0/O, 1/l/I. 56 symbols ** 20 are 116 bits.
_SECRET_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnpqrstuvwxyz23456789"
_SECRET_LENGTH = 20
_PIN_LENGTH = 6

_KEY_TYPES = ("ed25519", "ecdsa")


@dataclass(frozen=True)
class HostKey:
    """An SSH host key pair as OpenSSH keeps it."""

    kind: str
    private: str = field(repr=False)
    public: str = ""


@dataclass(frozen=True)
class Identity:
    """A tenant's identity. ``sip_secrets`` and ``voicemail_pins`` are by extension number."""

    tenant: str
    machine_id: str
    uuid: str
    mac: str
    host_keys: tuple[HostKey, ...] = ()
    sip_secrets: dict[str, str] = field(default_factory=dict, repr=False)
    voicemail_pins: dict[str, str] = field(default_factory=dict, repr=False)
    tls_key: str = field(default="", repr=False)
    tls_certificate: str = ""


class IdentityStore:
    """A folder (0700) with one file (0600) a tenant; written beside its place and renamed; locked across processes."""

    def __init__(self, root: Path | None = None) -> None:
        """Use ``root``; by default ``identities`` in the state folder."""
        self.root = root if root is not None else state_dir() / "identities"

    def get_or_create(self, tenant: Tenant) -> Identity:
        """Return the tenant's identity; make it, or what a new extension lacks of it, where there is none.

        Raises CentralitaError where the stored file is damaged: a new identity must never take its place silently.
        """
        with self._locked():
            path = self._path(tenant.name)
            known = self._read(path)
            identity = known if known is not None else self._new(tenant.name)
            identity = _completed(identity, tenant)
            if identity != known:
                self._write(path, identity)
            return identity

    def get(self, name: str) -> Identity | None:
        """Return the identity of the tenant ``name``, or None where there is none."""
        with self._locked():
            return self._read(self._path(name))

    def forget(self, name: str) -> bool:
        """Remove the identity of the tenant ``name``; tell whether there was one."""
        with self._locked():
            path = self._path(name)
            there = path.exists()
            path.unlink(missing_ok=True)
            return there

    def all(self) -> list[Identity]:
        """Return all identities, sorted by tenant."""
        with self._locked():
            return self._all()

    def _all(self) -> list[Identity]:
        found = (self._read(path) for path in sorted(self.root.glob("*.json")))
        return [identity for identity in found if identity is not None]

    def _path(self, name: str) -> Path:
        return self.root / f"{name}.json"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.root.chmod(0o700)
        handle = os.open(self.root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _read(self, path: Path) -> Identity | None:
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            keys = tuple(HostKey(**key) for key in data.pop("host_keys"))
            return Identity(host_keys=keys, **data)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            raise CentralitaError(
                f"the identity in {path} cannot be read",
                hint="restore it from a backup; without the file the tenant gets a new identity, with new secrets",
            ) from None

    def _write(self, path: Path, identity: Identity) -> None:
        text = json.dumps(asdict(identity), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
        temporary.unlink(missing_ok=True)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)  # the rename too must survive a power cut: the clone will be running with this identity
        finally:
            os.close(folder)

    def _new(self, name: str) -> Identity:
        macs = {identity.mac for identity in self._all()}
        mac = _random_mac()
        while mac in macs:
            mac = _random_mac()
        # machine-id(5) wants 128 random bits; systemd makes its own the same way (a version 4 UUID without hyphens).
        return Identity(name, machine_id=uuid.uuid4().hex, uuid=str(uuid.uuid4()), mac=mac, host_keys=_host_keys())


def _completed(identity: Identity, tenant: Tenant) -> Identity:
    """Return the identity with a secret and a PIN for each extension of the tenant that lacks one."""
    sip, pins = dict(identity.sip_secrets), dict(identity.voicemail_pins)
    for extension in tenant.extensions:
        if extension.secret is None and extension.number not in sip:
            sip[extension.number] = random_secret()
        for device in extension.devices:
            account = f"{extension.number}-{device.name}"
            if device.secret is None and account not in sip:
                sip[account] = random_secret()
        if extension.voicemail is not None and extension.voicemail.pin is None and extension.number not in pins:
            pins[extension.number] = _random_pin(extension.number)
    key, certificate = identity.tls_key, identity.tls_certificate
    if not key and _needs_tls(tenant):
        key, certificate = _tls_pair(tenant.host)
    return replace(identity, sip_secrets=sip, voicemail_pins=pins, tls_key=key, tls_certificate=certificate)


def _needs_tls(tenant: Tenant) -> bool:
    wanted = {extension.transport for extension in tenant.extensions}
    wanted |= {device.transport for extension in tenant.extensions for device in extension.devices}
    wanted |= {trunk.transport for trunk in tenant.trunks}
    return bool(wanted & {"tls", "webrtc"})


def _tls_pair(host: str) -> tuple[str, str]:
    """Make a key (P-256) and a certificate signed by itself, for ten years, with openssl(1)."""
    with ledger.default().tempdir("centralita-tls-") as folder:
        folder.chmod(0o700)
        key, certificate = folder / "key.pem", folder / "certificate.pem"
        argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days"]
        run(
            [
                *argv,
                "3650",
                "-subj",
                f"/CN={host}",
                "-addext",
                f"subjectAltName=DNS:{host}",
                "-keyout",
                key,
                "-out",
                certificate,
            ]
        )
        return key.read_text(encoding="ascii"), certificate.read_text(encoding="ascii")


def random_secret() -> str:
    """Return a new SIP secret of 116 random bits."""
    return "".join(secrets.choice(_SECRET_ALPHABET) for _ in range(_SECRET_LENGTH))


def _random_pin(number: str) -> str:
    while True:
        pin = "".join(secrets.choice("0123456789") for _ in range(_PIN_LENGTH))
        if weak_pin(pin, number) is None:
            return pin


def _random_mac() -> str:
    return MAC_PREFIX + "".join(f":{byte:02x}" for byte in secrets.token_bytes(3))


def _host_keys() -> tuple[HostKey, ...]:
    """Make SSH host keys with ssh-keygen (empty passphrase, no comment) in a folder of their own, and read them."""
    keys = []
    with ledger.default().tempdir("centralita-hostkeys-") as folder:
        folder.chmod(0o700)
        for kind in _KEY_TYPES:
            path = folder / f"ssh_host_{kind}_key"
            run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "", "-f", path])
            public = path.with_suffix(".pub").read_text(encoding="ascii").strip()
            keys.append(HostKey(kind, path.read_text(encoding="ascii"), public))
    return tuple(keys)
