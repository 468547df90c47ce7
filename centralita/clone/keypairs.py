"""Key pairs of a clone, made in this process: no program is started, and nothing secret is written to a file.

With a program a key (ssh-keygen, openssl) a hundred clones would start three hundred of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

_TLS_DAYS = 3650
_COMMON_NAME_MAX = 64  # RFC 5280, ub-common-name


@dataclass(frozen=True)
class HostKey:
    """An SSH host key pair as OpenSSH keeps it."""

    kind: str
    private: str = field(repr=False)
    public: str = ""


def new_host_keys() -> tuple[HostKey, ...]:
    """Make SSH host keys, Ed25519 and ECDSA (P-256), as ``ssh-keygen -N '' -C ''`` would."""
    made: dict[str, ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey] = {
        "ed25519": ed25519.Ed25519PrivateKey.generate(),
        "ecdsa": ec.generate_private_key(ec.SECP256R1()),
    }
    keys = []
    for kind, key in made.items():
        private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        keys.append(HostKey(kind, private.decode("ascii"), public.decode("ascii")))
    return tuple(keys)


def new_tls_pair(host: str) -> tuple[str, str]:
    """Make a key (P-256) and a certificate for a host name, signed by itself, for ten years; both as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:_COMMON_NAME_MAX])])
    # A phone's clock may be behind.
    start = datetime.now(UTC) - timedelta(days=1)
    public = key.public_key()
    identifier = x509.SubjectKeyIdentifier.from_public_key(public)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=_TLS_DAYS))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private.decode("ascii"), certificate.public_bytes(Encoding.PEM).decode("ascii")
