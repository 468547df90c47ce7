"""Mirrors, locks and the package store, without a network: a small mirror in a folder, signed by nobody."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from centralita.ground.errors import CentralitaError, SpecError
from centralita.packages.apt import essential_closure, parse_stanzas, stub_stanza
from centralita.packages.fetch import deb_path, fetch_packages
from centralita.packages.lockfile import Lock, LockedPackage, diff_locks, load_lock
from centralita.packages.mirror import check_expiry, host_mirror, read_release
from centralita.packages.source import Request, current_lock, write_lock

RELEASE = """\
Origin: Debian
Codename: forky
Date: Fri, 30 Oct 2026 08:08:01 UTC
Valid-Until: Fri, 06 Nov 2026 08:08:01 UTC
"""
NOW = datetime(2026, 11, 25, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def package(name: str, data: bytes = b"deb", version: str = "1.0-1") -> LockedPackage:
    """A locked package whose file has the given bytes."""
    digest = hashlib.sha256(data).hexdigest()
    return LockedPackage(name, version, "amd64", len(data), digest, f"pool/{name}.deb", essential=name == "dpkg")


def lock_of(*packages: LockedPackage) -> Lock:
    """A lock for a request that nothing else makes."""
    return Lock("forky", ("main",), datetime(2026, 10, 30, 8, 8, 1, tzinfo=UTC), "f" * 64, packages)


def test_host_mirror_reads_both_styles(tmp_path: Path) -> None:
    """A deb822 file and a one-line file both name the mirror; other archives and disabled entries do not count."""
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text("# none\ndeb https://packages.example.org/sdk sdk-bookworm main\n")
    deb822 = tmp_path / "sources.list.d/debian.sources"
    deb822.write_text(
        "Types: deb\nURIs: http://old.example/debian\nSuites: bookworm\nEnabled: no\n\n"
        "Types: deb deb-src\n# a comment\nURIs: http://mirror.example/debian/\nSuites: bookworm bookworm-updates\n"
    )
    assert host_mirror(tmp_path) == "http://mirror.example/debian"
    deb822.unlink()
    (tmp_path / "sources.list").write_text("deb [signed-by=/k.gpg arch=amd64] http://one.example/debian trixie main\n")
    assert host_mirror(tmp_path) == "http://one.example/debian"
    (tmp_path / "sources.list").write_text("# none\n")
    with pytest.raises(CentralitaError, match="names no mirror"):
        host_mirror(tmp_path)


def test_expired_release_needs_the_key_that_the_error_names() -> None:
    """An expired Release is refused with the name of the key that accepts it, and accepted with that key."""
    release = read_release(RELEASE, "http://mirror.example/debian", "forky", NOW)
    assert release.expired
    assert release.age_days == pytest.approx(25.66, abs=0.01)
    with pytest.raises(CentralitaError) as caught:
        check_expiry(release, accept_expired=False)
    assert "accept_expired: true" in (caught.value.hint or "")
    assert "2026-10-30" in caught.value.message
    check_expiry(release, accept_expired=True)
    assert not read_release(RELEASE, "m", "forky", datetime(2026, 11, 1, tzinfo=UTC)).expired


def test_lock_is_read_back_as_written(tmp_path: Path) -> None:
    """Dump and load are inverse, and a request that changed makes the lock stale."""
    request = Request(("asterisk",), "forky")
    lock = Lock("forky", ("main",), datetime(2026, 10, 30, 8, 8, 1, tzinfo=UTC), request.digest, (package("dpkg"),))
    path = tmp_path / "pbx.lock"
    write_lock(path, lock, "invoke lock pbx")
    assert load_lock(path) == lock
    assert current_lock(path, request) == lock
    assert current_lock(path, Request(("asterisk", "sox"), "forky")) is None
    assert current_lock(path, Request(("asterisk",), "forky", mirror="http://other.example/debian")) == lock


def test_broken_lock_names_each_bad_line(tmp_path: Path) -> None:
    """Every bad line is reported at once, with its number; a path may not leave the mirror."""
    path = tmp_path / "pbx.lock"
    text = lock_of(package("dpkg"), package("sox")).dump("invoke lock pbx")
    text = text.replace("pool/sox.deb", "../../etc/passwd") + "rubbish\n"
    path.write_text(text.replace("suite forky\n", ""))
    with pytest.raises(SpecError) as caught:
        load_lock(path)
    problems = caught.value.problems
    assert [p.field for p in problems] == ["sox", "rubbish", "suite"]
    assert all("invoke lock pbx" in p.fix for p in problems)
    assert problems[0].line == 7


def test_diff_shows_added_removed_and_changed() -> None:
    """The difference of two locks is by name; a rebuilt file of the same version counts."""
    before = [package("a"), package("b"), package("c", b"1")]
    after = [package("b", version="2.0"), package("c", b"2"), package("d")]
    assert [str(c) for c in diff_locks(before, after)] == [
        "- a 1.0-1",
        "~ b 1.0-1 -> 2.0",
        "~ c 1.0-1 -> 1.0-1",
        "+ d 1.0-1",
    ]


def test_store_takes_only_what_has_the_locked_digest(tmp_path: Path) -> None:
    """A file is taken from the first mirror that has it as locked; another's bytes under its name are refused."""
    bad, good = tmp_path / "bad mirror/pool", tmp_path / "good/pool"
    for folder in (bad, good):
        folder.mkdir(parents=True)
    (bad / "a.deb").write_bytes(b"somebody else's")
    (good / "a.deb").write_bytes(b"deb a")
    (bad / "b.deb").write_bytes(b"deb b")
    wanted = [package("a", b"deb a"), package("b", b"deb b"), package("c", b"deb c")]
    fetched = fetch_packages(wanted, [f"file://{bad.parent}".replace(" ", "%20"), f"file://{good.parent}"])
    assert [p.name for p in fetched.missing] == ["c"]
    assert fetched.downloaded_bytes == 10
    assert deb_path(wanted[0]).read_bytes() == b"deb a"
    assert not deb_path(wanted[2]).exists()
    again = fetch_packages(wanted[:2], ["file:///nowhere"])
    assert again.missing == ()
    assert again.downloaded_bytes == 0


def test_essential_closure_follows_alternatives_and_providers() -> None:
    """Essential packages bring what they depend on, through real alternatives first and providers next."""
    text = (
        "Package: dpkg\nEssential: yes\nDepends: tar (>= 1.28), libz1 | zlib\nPre-Depends: libc6:any\n\n"
        "Package: tar\n\nPackage: zlib\nProvides: libz1 (= 1)\n\nPackage: libc6\nDescription: a\n continued: line\n\n"
        "Package: asterisk\nDepends: libc6\n"
    )
    assert essential_closure(list(parse_stanzas(text))) == {"dpkg", "tar", "zlib", "libc6"}


def test_stub_stands_for_what_the_build_makes() -> None:
    """The stub is an installed package that provides the named ones."""
    (stanza,) = parse_stanzas(stub_stanza(["linux-initramfs-tool", "asterisk-config-custom"]))
    assert stanza["Status"] == "install ok installed"
    assert stanza["Provides"] == "linux-initramfs-tool, asterisk-config-custom"
