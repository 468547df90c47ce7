"""The keys that sign releases, test results and indexes: OpenPGP by GnuPG, Ed25519 by minisign. Never in git.

Both programs make deterministic Ed25519 signatures: the same bytes at the same (given) time have the same signature.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from centralita.ground import cache, ledger, paths
from centralita.ground.errors import CentralitaError
from centralita.ground.run import run

MINISIGN_KEY, MINISIGN_PUB, GNUPG, OPENPGP_PUB = "minisign.key", "minisign.pub", "gnupg", "openpgp.asc"
USER_ID = "Centralita depot"
#: The longest path below which a Unix socket (unix(7): 108 bytes) for GnuPG's agent still fits.
_SOCKET_PATH = 80


@dataclass(frozen=True)
class Keys:
    """A pair of signing keys in a folder of the state folder (0700)."""

    folder: Path
    minisign: str
    openpgp: str
    openpgp_created: datetime

    @property
    def key_id(self) -> str:
        """minisign's number of the key."""
        return key_id(self.minisign)

    def public_minisign(self) -> bytes:
        """The public key as minisign's file."""
        return (self.folder / MINISIGN_PUB).read_bytes()

    def public_openpgp(self) -> bytes:
        """The public key, armoured."""
        return (self.folder / OPENPGP_PUB).read_bytes()

    def _moment(self, moment: datetime) -> datetime:
        """No signature may be older than its key: what is declared older is signed at the key's first second."""
        return max(moment, self.openpgp_created)

    def sign_minisign(self, data: bytes, name: str, moment: datetime) -> bytes:
        """A minisign signature of *data*; *name* and *moment* stand in its trusted comment."""
        with ledger.default().tempdir("sign-", paths.state_dir()) as folder:
            (folder / "data").write_bytes(data)
            trusted = f"timestamp:{int(self._moment(moment).timestamp())}\tfile:{name}\thashed"
            untrusted = f"signature from Centralita's key {self.key_id}"
            secret = self.folder / MINISIGN_KEY
            run(["minisign", "-S", "-s", secret, "-m", folder / "data", "-x", folder / "sig", "-t", trusted,
                 "-c", untrusted])  # fmt: skip
            return (folder / "sig").read_bytes()

    def sign_openpgp(self, data: bytes, moment: datetime, *, clear: bool = False) -> bytes:
        """An armoured detached signature of *data*, or with *clear* the text with its signature."""
        when = f"{self._moment(moment):%Y%m%dT%H%M%S}!"
        how = "--clear-sign" if clear else "--detach-sign"
        with _gnupg(self.folder / GNUPG) as home, ledger.default().tempdir("sign-", paths.state_dir()) as folder:
            (folder / "data").write_bytes(data)
            run(["gpg", "--homedir", home, "--batch", "--quiet", "--no-options", "--no-emit-version",
                 "--faked-system-time", when, "--local-user", self.openpgp, "--digest-algo", "SHA512", "--armor",
                 how, "--output", folder / "sig", folder / "data"])  # fmt: skip
            return (folder / "sig").read_bytes()


def default_folder() -> Path:
    """`state_dir()/keys`."""
    return paths.state_dir() / "keys"


def load_keys(folder: Path | None = None) -> Keys | None:
    """The keys, None where none were made. Raises CentralitaError for half a pair, or a folder that others can read."""
    folder = folder or default_folder()
    if not folder.exists():
        return None
    if folder.stat().st_mode & 0o077:
        raise CentralitaError(f"{folder} can be read by others", hint=f"chmod 700 '{folder}', or make new keys")
    try:
        public = read_minisign_key((folder / MINISIGN_PUB).read_text())
        found = (folder / "openpgp.id").read_text().split()
        return Keys(folder, public, found[0], datetime.fromtimestamp(int(found[1]), UTC))
    except (OSError, ValueError, IndexError) as error:
        raise CentralitaError(
            f"{folder} does not hold a whole pair of keys: {error}", hint="put it back from a copy, or move it away"
        ) from error


def make_keys(folder: Path | None = None, user_id: str = USER_ID) -> Keys:
    """Make both keys, or return those that are there. They come into their place together, or not at all."""
    folder = folder or default_folder()
    with cache.lock("signing-keys"):
        found = load_keys(folder)
        if found is not None:
            return found
        folder.parent.mkdir(parents=True, exist_ok=True)
        with ledger.default().tempdir(".keys-", folder.parent) as draft:
            run(["minisign", "-G", "-W", "-p", draft / MINISIGN_PUB, "-s", draft / MINISIGN_KEY])
            (draft / GNUPG).mkdir(mode=0o700)
            with _gnupg(draft / GNUPG, locked=False) as home:
                base: list[str | Path] = ["gpg", "--homedir", home, "--batch", "--quiet", "--no-options"]
                # An hour old at once: what is signed in this very second is then not older than its key.
                born = f"{datetime.now(UTC) - timedelta(hours=1):%Y%m%dT%H%M%S}!"
                make = ["--passphrase", "", "--faked-system-time", born, "--quick-generate-key"]
                run([*base, *make, user_id, "ed25519", "sign", "never"])
                listed = run([*base, "--with-colons", "--list-keys"]).stdout
                fields = [line.split(":") for line in listed.splitlines()]
                created = next(f[5] for f in fields if f[0] == "pub")
                fingerprint = next(f[9] for f in fields if f[0] == "fpr")
                run([*base, "--armor", "--output", draft / OPENPGP_PUB, "--export", fingerprint])
            (draft / "openpgp.id").write_text(f"{fingerprint} {created}\n")
            draft.rename(folder)
        made = load_keys(folder)
        assert made is not None
        return made


def needed_keys() -> Keys:
    """The keys. Raises CentralitaError where none were made."""
    keys = load_keys()
    if keys is None:
        raise CentralitaError("there are no keys to sign with", hint="invoke keys")
    return keys


@contextmanager
def _gnupg(home: Path, *, locked: bool = True) -> Iterator[Path]:
    """A home for gpg, whose agent is gone afterwards. One user at a time: each would end the other's agent."""
    with contextlib.ExitStack() as stack:
        if locked:
            stack.enter_context(cache.lock("signing-keys"))
        shown = home
        if len(str(home)) > _SOCKET_PATH:
            shown = stack.enter_context(ledger.default().tempdir("gpg-", Path("/tmp"))) / "h"
            shown.symlink_to(home)
        try:
            yield shown
        finally:
            run(["gpgconf", "--homedir", shown, "--kill", "gpg-agent"], check=False)


def read_minisign_key(text: str) -> str:
    """The one line that matters of a minisign public key's file, or of that line itself.

    Raises ValueError for what is no such key.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("untrusted comment:")]
    if len(lines) != 1 or not re.fullmatch(r"[A-Za-z0-9+/]{56}", lines[0]):
        raise ValueError("not a minisign public key")
    if base64.b64decode(lines[0])[:2] != b"Ed":
        raise ValueError("not an Ed25519 key of minisign")
    return lines[0]


def key_id(public: str) -> str:
    """The number by which minisign calls a key: 16 hexadecimal digits."""
    return base64.b64decode(public)[2:10][::-1].hex().upper()


def signer(signature: bytes) -> str:
    """The number of the key that a minisign signature says it was made with. Raises ValueError where it is none."""
    lines = signature.decode(errors="replace").splitlines()
    try:
        raw = base64.b64decode(lines[1], validate=True)
    except (IndexError, binascii.Error) as error:
        raise ValueError("not a minisign signature") from error
    if len(lines) < 4 or len(raw) != 74 or raw[:2] not in (b"Ed", b"ED"):
        raise ValueError("not a minisign signature")
    return raw[2:10][::-1].hex().upper()


def verify_minisign(data: bytes, signature: bytes, public: str, what: str) -> str:
    """Check a signature by minisign itself, and return its trusted comment.

    Raises CentralitaError, with other words for no signature at all, another key's, and one that is not of *data*.
    """
    try:
        by = signer(signature)
    except ValueError as error:
        raise CentralitaError(f"the signature of {what} is not one of minisign", hint=TELL) from error
    if by != key_id(public):
        raise CentralitaError(f"{what} is signed by another key: {by}, not {key_id(public)}", hint=TELL)
    with ledger.default().tempdir("verify-", paths.state_dir()) as folder:
        (folder / "data").write_bytes(data)
        (folder / "sig").write_bytes(signature)
        argv: list[str | Path] = ["minisign", "-V", "-q", "-P", public, "-m", folder / "data", "-x", folder / "sig"]
        if run(argv, check=False).returncode != 0:
            raise CentralitaError(f"{what} is not what was signed: its signature does not fit", hint=TELL)
    comment = signature.decode(errors="replace").splitlines()[2]
    return comment.removeprefix("trusted comment: ")


def verify_openpgp(data: bytes, signature: bytes, public: bytes, what: str) -> None:
    """Check a detached signature by gpgv against an armoured public key. Raises CentralitaError."""
    with ledger.default().tempdir("verify-", paths.state_dir()) as folder:
        (folder / "data").write_bytes(data)
        (folder / "sig").write_bytes(signature)
        (folder / "key").write_bytes(dearmoured(public))
        argv: list[str | Path] = [
            "gpgv",
            "--homedir",
            folder,
            "--keyring",
            folder / "key",
            folder / "sig",
            folder / "data",
        ]
        if run(argv, check=False).returncode != 0:
            raise CentralitaError(f"{what} is not what was signed: its OpenPGP signature does not fit", hint=TELL)


TELL = "do not use it; fetch it again, and if it stays so, tell whoever runs the depot"


def dearmoured(armoured: bytes) -> bytes:
    """The bytes of an ASCII-armoured key (RFC 9580, 6): gpgv of Debian 12 reads no armour."""
    body = armoured.decode(errors="replace").partition("\n\n")[2].partition("\n-----END")[0]
    lines = [line for line in body.splitlines() if line and not line.startswith("=")]
    try:
        return base64.b64decode("".join(lines), validate=True)
    except binascii.Error as error:
        raise CentralitaError("not an armoured OpenPGP key", hint=TELL) from error
