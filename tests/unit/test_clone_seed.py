"""A tenant's medium, and the script of the image that reads it: what it takes and what it refuses."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from centralita.clone.files import GuestFile
from centralita.clone.identity import IdentityStore
from centralita.clone.seed import ARCHIVE, CHECKSUM, seed_archive, seed_files
from centralita.ground.paths import repo_root
from centralita.spec.tenant import load_tenant

pytestmark = pytest.mark.unit

SCRIPT = repo_root() / "elements/seed/seed.files/usr/libexec/centralita/seed"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What is on a medium for the tenant duo."""
    tenant = load_tenant(repo_root() / "tests/data/duo.yaml")
    store = IdentityStore(tmp_path_factory.mktemp("seed") / "identities")
    return seed_files(tenant, store.get_or_create(tenant))


def checked(folder: Path, archive: bytes, checksum: str | None = None) -> str:
    """What the image's script says of a medium; empty where it would unpack it."""
    work = folder / "work"
    work.mkdir()
    (work / ARCHIVE).write_bytes(archive)
    (work / CHECKSUM).write_text(checksum or f"{hashlib.sha256(archive).hexdigest()}  {ARCHIVE}\n")
    (folder / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\nasterisk:x:100:101::/var/lib/asterisk:/bin/sh\n")
    (folder / "group").write_text("root:x:0:\nasterisk:x:101:\n")
    text = SCRIPT.read_text()
    # The functions alone, with the work folder and the tables of the test.
    functions = text[: text.index("\nmedium=\n")].replace("/run/centralita-seed", str(work))
    functions = functions.replace("/etc/passwd", str(folder / "passwd")).replace("/etc/group", str(folder / "group"))
    functions = functions.replace("/dev/$console", "/dev/null")
    done = subprocess.run(
        ["sh", "-c", f"{functions}\nmedium=/dev/sr0\ncheck\n"], capture_output=True, text=True, check=False
    )
    assert (done.returncode == 0) == (not done.stdout), done.stdout + done.stderr
    return done.stdout.strip()


def changed(archive: bytes, change: Callable[[tarfile.TarInfo], tarfile.TarInfo | None]) -> bytes:
    """The archive with each entry as `change` returns it, or without it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar, tarfile.open(fileobj=buffer, mode="w") as out:
        for member in tar:
            stream = tar.extractfile(member) if member.isreg() else None
            entry = change(member)
            if entry is not None:
                out.addfile(entry, stream if entry.isreg() else None)
    return buffer.getvalue()


def renamed(old: str, new: str) -> Callable[[tarfile.TarInfo], tarfile.TarInfo]:
    def change(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        if entry.name == old:
            entry.name = new
        return entry

    return change


def with_fields(name: str, **fields: object) -> Callable[[tarfile.TarInfo], tarfile.TarInfo]:
    def change(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        if entry.name == name:
            for field, value in fields.items():
                setattr(entry, field, value)
        return entry

    return change


def test_what_seed_makes_is_taken(files: dict[str, bytes], tmp_path: Path) -> None:
    assert checked(tmp_path, files[ARCHIVE], files[CHECKSUM].decode()) == ""


def test_the_example_office_is_taken(tmp_path: Path) -> None:
    tenant = load_tenant(repo_root() / "examples/super-awesome.yaml")
    made = seed_files(tenant, IdentityStore(tmp_path / "identities").get_or_create(tenant))
    assert checked(tmp_path, made[ARCHIVE]) == ""


def test_the_same_tenant_gives_the_same_bytes_and_tenant_json_is_last() -> None:
    some = [GuestFile("/etc/centralita/tenant.json", b"{}"), GuestFile("/etc/hostname", b"duo\n", group="asterisk")]
    assert seed_archive(some) == seed_archive(some[::-1])
    with tarfile.open(fileobj=io.BytesIO(seed_archive(some))) as tar:
        assert [(m.name, m.gname) for m in tar][-1] == ("etc/centralita/tenant.json", "root")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (renamed("etc/hosts", "etc/shadow"), "etc/shadow is no path of a tenant"),
        (renamed("etc/hosts", "/etc/hosts"), "/etc/hosts is no path of a tenant"),
        (renamed("etc/hosts", "etc/asterisk/../shadow"), "is no path of a tenant"),
        (renamed("etc/hosts", "etc/asterisk/a /../../shadow"), "is no path of a tenant"),
        (renamed("etc/hosts", "etc/systemd/system/evil.service"), "is no path of a tenant"),
        (with_fields("etc/hosts", type=tarfile.SYMTYPE, linkname="/etc/shadow", size=0), "etc/hosts is a link to"),
        (with_fields("etc/localtime", linkname="/usr/share/zoneinfo/../../../etc/shadow"), "etc/localtime is a link"),
        (with_fields("etc/hosts", type=tarfile.LNKTYPE, linkname="etc/hostname", size=0), "etc/hosts is no file"),
        (with_fields("etc/hosts", type=tarfile.CHRTYPE, size=0), "etc/hosts is no file"),
        (with_fields("etc/hosts", mode=0o4755), "etc/hosts has a special mode"),
        (with_fields("etc/hosts", uname="nobody"), "belongs to a user that is not here"),
        (with_fields("etc/hosts", gname="adm"), "belongs to a group that is not here"),
        (lambda e: None if e.name == "etc/asterisk/pjsip.conf" else e, "etc/asterisk/pjsip.conf is missing"),
        (lambda e: None if e.name.endswith("tenant.json") else e, "does not end with"),
    ],
)
def test_what_no_tenant_has_is_refused(
    files: dict[str, bytes],
    tmp_path: Path,
    change: Callable[[tarfile.TarInfo], tarfile.TarInfo | None],
    reason: str,
) -> None:
    said = checked(tmp_path, changed(files[ARCHIVE], change))
    assert said.startswith("seed: the tenant on /dev/sr0 is refused: ")
    assert reason in said


def test_damage_is_seen(files: dict[str, bytes], tmp_path: Path) -> None:
    damaged = bytearray(files[ARCHIVE])
    damaged[700] ^= 1
    assert "its checksum is wrong" in checked(tmp_path, bytes(damaged), files[CHECKSUM].decode())
