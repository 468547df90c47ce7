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
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from centralita.clone.keypairs import HostKey, new_host_keys, new_tls_pair
from centralita.ground.errors import CentralitaError
from centralita.ground.paths import state_dir
from centralita.spec.rules import weak_pin
from centralita.spec.tenant import Tenant

# 52:54:00 has the "locally administered" bit (IEEE 802c): nobody's assignment is used up, QEMU and libvirt use it for
# their guests, and Xen takes any unicast address. (Xen's own 00:16:3e is a vendor's and would look foreign under KVM.)
MAC_PREFIX = "52:54:00"

# Readable over the telephone and typed on a desk phone: no 0/O, 1/l/I. 56 symbols ** 20 are 116 bits.
_SECRET_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnpqrstuvwxyz23456789"
_SECRET_LENGTH = 20
_PIN_LENGTH = 6


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
        return self.get_or_create_all([tenant])[0]

    def get_or_create_all(self, tenants: Sequence[Tenant]) -> list[Identity]:
        """As `get_or_create`, for many; the store is read once. Returns them in order.

        Raises CentralitaError too where two tenants of the store have something in common that is one's own.
        """
        with self._locked():
            known = {identity.tenant: identity for identity in self._all()}
            macs = {identity.mac for identity in known.values()}
            before = dict(known)
            for tenant in tenants:
                identity = known.get(tenant.name) or self._new(tenant.name, macs)
                known[tenant.name] = _completed(identity, tenant)
                macs.add(identity.mac)
            _refuse_shared(known.values(), {tenant.name for tenant in tenants}, self.root)
            changed = [identity for name, identity in known.items() if identity != before.get(name)]
            for identity in changed:
                self._write(self._path(identity.tenant), identity)
            if changed:
                self._sync()
            return [known[tenant.name] for tenant in tenants]

    def get(self, name: str) -> Identity | None:
        """Return the identity of the tenant ``name``, or None where there is none."""
        with self._locked():
            return self._read(self._path(name))

    def peek(self, name: str) -> Identity | None:
        """As `get`, and writes nothing: neither a folder nor a lock."""
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
            found = Identity(host_keys=keys, **data)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            raise CentralitaError(
                f"the identity in {path} cannot be read",
                hint="restore it from a backup; without the file the tenant gets a new identity, with new secrets",
            ) from None
        if found.tenant != path.stem:
            raise CentralitaError(
                f"the identity in {path} is that of {found.tenant}: an identity is never anybody else's",
                hint=f"remove {path}: {path.stem} then gets an identity of its own",
            )
        return found

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

    def _sync(self) -> None:
        folder = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)  # the rename too must survive a power cut: the clone will be running with this identity
        finally:
            os.close(folder)

    def _new(self, name: str, macs: set[str]) -> Identity:
        mac = _random_mac()
        while mac in macs:
            mac = _random_mac()
        # machine-id(5) wants 128 random bits; systemd makes its own the same way (a version 4 UUID without hyphens).
        return Identity(name, machine_id=uuid.uuid4().hex, uuid=str(uuid.uuid4()), mac=mac, host_keys=new_host_keys())


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
        key, certificate = new_tls_pair(tenant.host)
    return replace(identity, sip_secrets=sip, voicemail_pins=pins, tls_key=key, tls_certificate=certificate)


def _needs_tls(tenant: Tenant) -> bool:
    wanted = {extension.transport for extension in tenant.extensions}
    wanted |= {device.transport for extension in tenant.extensions for device in extension.devices}
    wanted |= {trunk.transport for trunk in tenant.trunks}
    return bool(wanted & {"tls", "webrtc"})


def _own(identity: Identity) -> Iterator[tuple[str, str]]:
    """What no two tenants may have in common, with the words for it."""
    yield "MAC address", identity.mac
    yield "UUID", identity.uuid
    yield "machine-id", identity.machine_id
    for key in identity.host_keys:
        yield f"SSH host key ({key.kind})", key.private
    if identity.tls_key:
        yield "TLS key", identity.tls_key
    for number, secret in identity.sip_secrets.items():
        yield f"SIP secret of {number}", secret


def _refuse_shared(everyone: Iterable[Identity], chosen: AbstractSet[str], root: Path) -> None:
    """Raise CentralitaError where one of the chosen tenants has what another one has."""
    first: dict[str, str] = {}
    shared = []
    for identity in everyone:
        for what, value in _own(identity):
            other = first.setdefault(value, identity.tenant)
            if other != identity.tenant and chosen & {other, identity.tenant}:
                shared.append(f"{identity.tenant} has the {what} of {other}")
    if shared:
        raise CentralitaError(
            f"identities in {root} are not each one's own: {'; '.join(shared)}",
            hint="remove the file of the one that was copied: it then gets an identity of its own",
        )


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
