"""Identities: random, kept, stable, extended, and derivable from nothing."""

from __future__ import annotations

import json
import multiprocessing
import re
from pathlib import Path

import pytest

from centralita.clone import identity as module
from centralita.clone.identity import Identity, IdentityStore
from centralita.ground.errors import CentralitaError
from centralita.ground.run import run
from centralita.spec.rules import weak_pin, weak_secret
from centralita.spec.tenant import Tenant

pytestmark = pytest.mark.unit


def tenant(name: str = "acme", numbers: tuple[str, ...] = ("101", "102")) -> Tenant:
    return Tenant.model_validate(
        {"name": name, "extensions": tuple({"number": number, "name": "Ana"} for number in numbers)}
    )


def secrets_of(identity: Identity) -> set[str]:
    return {
        identity.machine_id,
        identity.uuid,
        identity.mac,
        *(key.private for key in identity.host_keys),
        *(key.public for key in identity.host_keys),
        *identity.sip_secrets.values(),
        *identity.voicemail_pins.values(),
    }


def test_an_identity_is_whole_and_well_formed(tmp_path: Path) -> None:
    made = IdentityStore(tmp_path / "ids").get_or_create(tenant())
    assert re.fullmatch(r"[0-9a-f]{32}", made.machine_id)
    assert re.fullmatch(r"52:54:00(:[0-9a-f]{2}){3}", made.mac)
    assert int(made.mac[:2], 16) & 0b11 == 0b10  # unicast, locally administered
    assert [key.kind for key in made.host_keys] == ["ed25519", "ecdsa"]
    for key in made.host_keys:
        assert key.private.startswith("-----BEGIN OPENSSH PRIVATE KEY-----")
        assert "\n" not in key.public and "@" not in key.public  # no comment: it would name the build host
    for number in ("101", "102"):
        assert weak_secret(made.sip_secrets[number], number) is None
        assert weak_pin(made.voicemail_pins[number], number) is None


def test_it_is_the_same_again_and_another_without_the_store(tmp_path: Path) -> None:
    first = IdentityStore(tmp_path / "ids").get_or_create(tenant())
    assert IdentityStore(tmp_path / "ids").get_or_create(tenant()) == first
    other = IdentityStore(tmp_path / "others").get_or_create(tenant())
    assert not secrets_of(first) & secrets_of(other)


def test_a_new_extension_changes_nothing_else(tmp_path: Path) -> None:
    store = IdentityStore(tmp_path)
    first = store.get_or_create(tenant())
    more = store.get_or_create(tenant(numbers=("101", "102", "103")))
    assert set(more.sip_secrets) == {"101", "102", "103"}
    assert {n: more.sip_secrets[n] for n in first.sip_secrets} == first.sip_secrets
    assert (more.machine_id, more.host_keys, more.mac) == (first.machine_id, first.host_keys, first.mac)
    assert store.get_or_create(tenant(numbers=("101",))) == more  # one that comes back has its secret again


def test_a_secret_of_the_file_is_not_stored(tmp_path: Path) -> None:
    given = Tenant.model_validate(
        {
            "name": "acme",
            "extensions": ({"number": "101", "name": "A", "secret": "Kx7-Zp2q9", "voicemail": {"pin": "4719"}},),
        }
    )
    made = IdentityStore(tmp_path).get_or_create(given)
    assert made.sip_secrets == {} and made.voicemail_pins == {}
    assert "Kx7-Zp2q9" not in (tmp_path / "acme.json").read_text()


def test_modes_are_tight_whatever_the_umask(tmp_path: Path) -> None:
    root = tmp_path / "ids"
    root.mkdir(mode=0o755)
    IdentityStore(root).get_or_create(tenant())
    assert root.stat().st_mode & 0o777 == 0o700
    for path in root.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
    assert not list(root.glob("*.new"))


def test_a_damaged_file_is_an_error_and_stays(tmp_path: Path) -> None:
    store = IdentityStore(tmp_path)
    store.get_or_create(tenant())
    path = tmp_path / "acme.json"
    path.write_text(path.read_text()[:40])
    with pytest.raises(CentralitaError, match="cannot be read") as caught:
        store.get_or_create(tenant())
    assert "backup" in str(caught.value.hint)
    assert len(path.read_text()) == 40


def test_no_two_tenants_share_anything(tmp_path: Path) -> None:
    store = IdentityStore(tmp_path)
    made = [store.get_or_create(tenant(f"t{i}")) for i in range(30)]
    for kind in ("machine_id", "uuid", "mac"):
        assert len({getattr(identity, kind) for identity in made}) == 30
    assert len({secret for identity in made for secret in identity.sip_secrets.values()}) == 60
    assert store.all() == sorted(made, key=lambda identity: identity.tenant)


def test_a_mac_in_the_store_is_not_given_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = IdentityStore(tmp_path)
    first = store.get_or_create(tenant("a"))
    drawn = iter([first.mac, first.mac, "52:54:00:00:00:07"])
    monkeypatch.setattr(module, "_random_mac", lambda: next(drawn))
    assert store.get_or_create(tenant("b")).mac == "52:54:00:00:00:07"


def _create(root: str, queue: multiprocessing.Queue[str]) -> None:
    queue.put(IdentityStore(Path(root)).get_or_create(tenant()).machine_id)


def test_processes_at_once_get_the_same(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    queue: multiprocessing.Queue[str] = context.Queue()
    workers = [context.Process(target=_create, args=(str(tmp_path), queue)) for _ in range(6)]
    for worker in workers:
        worker.start()
    found = {queue.get(timeout=30) for _ in workers}
    for worker in workers:
        worker.join()
    assert len(found) == 1


def test_nothing_secret_is_in_a_repr(tmp_path: Path) -> None:
    made = IdentityStore(tmp_path).get_or_create(tenant())
    shown = repr(made)
    for secret in (*made.sip_secrets.values(), *made.voicemail_pins.values(), made.host_keys[0].private):
        assert secret not in shown


def test_what_two_tenants_share_is_found_and_nothing_is_written(tmp_path: Path) -> None:
    store = IdentityStore(tmp_path)
    first = store.get_or_create(tenant("a"))
    copied = json.loads((tmp_path / "a.json").read_text())
    for what, changes in {
        "MAC address": {"mac": first.mac},
        "UUID": {"uuid": first.uuid},
        "machine-id": {"machine_id": first.machine_id},
        r"SSH host key \(ed25519\)": {"host_keys": copied["host_keys"]},
        "SIP secret of 101": {"sip_secrets": {"101": first.sip_secrets["102"]}},
    }.items():
        (tmp_path / "b.json").unlink(missing_ok=True)
        store.get_or_create(tenant("b"))
        planted = json.loads((tmp_path / "b.json").read_text()) | changes
        (tmp_path / "b.json").write_text(json.dumps(planted))
        with pytest.raises(CentralitaError, match=f"b has the {what} of a"):
            store.get_or_create_all([tenant("b"), tenant("c")])
        assert not (tmp_path / "c.json").exists()
    (tmp_path / "b.json").write_text(json.dumps(copied))
    with pytest.raises(CentralitaError, match="is that of a"):
        store.get_or_create(tenant("b"))


def test_keys_are_what_openssh_and_openssl_take(tmp_path: Path) -> None:
    people = ({"number": "101", "name": "Ana", "transport": "tls"},)
    made = IdentityStore(tmp_path / "ids").get_or_create(Tenant.model_validate({"name": "acme", "extensions": people}))
    for key in made.host_keys:
        path = tmp_path / key.kind
        path.touch(mode=0o600)
        path.write_text(key.private)
        assert run(["ssh-keygen", "-y", "-P", "", "-f", path]).stdout.strip() == key.public
    certificate, key_file = tmp_path / "tls.crt", tmp_path / "tls.key"
    certificate.write_text(made.tls_certificate)
    key_file.write_text(made.tls_key)
    public = run(["openssl", "x509", "-in", certificate, "-noout", "-pubkey"]).stdout
    assert run(["openssl", "pkey", "-in", key_file, "-pubout"]).stdout == public
    assert "acme: OK" in run(["openssl", "verify", "-CAfile", certificate, certificate]).stdout.replace(
        str(certificate), "acme"
    )
    assert "DNS:acme" in run(["openssl", "x509", "-in", certificate, "-noout", "-ext", "subjectAltName"]).stdout


def test_forgetting(tmp_path: Path) -> None:
    store = IdentityStore(tmp_path)
    store.get_or_create(tenant())
    assert json.loads((tmp_path / "acme.json").read_text())["tenant"] == "acme"
    assert store.forget("acme") and not store.forget("acme")
    assert store.get("acme") is None


def test_a_tls_key_is_made_once_where_a_phone_or_a_trunk_needs_one(tmp_path: Path) -> None:
    store = IdentityStore(tmp_path)
    plain = {"name": "acme", "extensions": ({"number": "101", "name": "Ana"},)}
    assert store.get_or_create(Tenant.model_validate(plain)).tls_key == ""
    people = ({"number": "101", "name": "Ana", "devices": ({"name": "soft", "transport": "tls"},)},)
    tenant = Tenant.model_validate({**plain, "extensions": people})
    first = store.get_or_create(tenant)
    assert first.tls_key.startswith("-----BEGIN PRIVATE KEY-----\n")
    assert first.tls_certificate.startswith("-----BEGIN CERTIFICATE-----\n")
    assert "101-soft" in first.sip_secrets and first.tls_key not in repr(first)
    assert store.get_or_create(tenant) == first
    other = store.get_or_create(tenant.model_copy(update={"name": "other"}))
    assert other.tls_key != first.tls_key
