"""How `invoke apply` finds the machine, asks, and remembers what it has applied."""

from __future__ import annotations

import json
import sys
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from centralita.clone.identity import IdentityStore
from centralita.desk import applying
from centralita.ground.errors import CentralitaError
from centralita.hosts.records import ClonedFolder, Deployed, read_clone, read_deployed, write_deployed
from centralita.spec.tenant import Tenant, load_tenant

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture
def shop() -> Tenant:
    """A tenant with a static address."""
    return load_tenant(DATA / "shop.yaml")


@pytest.fixture
def clone(tmp_path: Path) -> ClonedFolder:
    """Its clone's folder."""
    record = {
        "schema": 1, "name": "shop", "uuid": "u", "mac": "52:54:00:00:00:01", "address": "10.77.0.10", "data": None,
        "golden_digest": "d", "appliance": "pbx-small", "version": "1", "disk": "system.qcow2", "backing": None,
    }  # fmt: skip
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/clone.json").write_text(json.dumps(record))
    return read_clone(tmp_path / "shop")


def test_what_was_given_counts_then_the_file_and_the_way_leads_through_the_host(
    shop: Tenant, clone: ClonedFolder, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.touch()
    given = applying._access(shop, clone, "pbx.example.com", str(key), "")
    assert (given.address, given.key, given.via) == ("pbx.example.com", key, None)
    assert applying._access(shop, clone, "", "", "").address == str(IPv4Address("10.77.0.10"))
    write_deployed(clone.folder, Deployed("qemu+ssh://root@pbx1:2222/system", "/var/lib/centralita", "then"))
    access = applying._access(shop, clone, "", "", "")
    assert access.via is not None and (access.via.host, access.via.port) == ("pbx1", 2222)
    # Whoever has an ssh_config says there how the way is.
    assert applying._access(shop, clone, "", "", str(key)).via is None


def test_what_ssh_would_take_for_an_option_and_files_that_are_not_there_are_refused(shop: Tenant) -> None:
    with pytest.raises(CentralitaError, match="no address"):
        applying._access(shop, None, "-oProxyCommand=x", "", "")
    with pytest.raises(CentralitaError, match="no file"):
        applying._access(shop, None, "", "/no/such/key", "")
    dhcp = shop.model_copy(update={"network": shop.network.model_copy(update={"method": "dhcp", "address": None})})
    with pytest.raises(CentralitaError, match="is not known"):
        applying._access(dhcp, None, "", "", "")


def test_the_clone_s_folder_remembers_and_only_its_owner_reads_the_tenant(
    shop: Tenant, clone: ClonedFolder, tmp_path: Path
) -> None:
    identity = IdentityStore(tmp_path / "identities").get_or_create(shop)
    write_deployed(clone.folder, Deployed("qemu:///system", "/var/lib/centralita", "then"))
    applying._record(clone, DATA / "shop.yaml", identity)
    copy = clone.folder / "tenant.yaml"
    assert copy.read_bytes() == (DATA / "shop.yaml").read_bytes() and copy.stat().st_mode & 0o777 == 0o600
    deployed = read_deployed(clone.folder)
    assert deployed is not None and deployed.applied and deployed.host == "qemu:///system"
    first = (clone.folder / "applied.json").stat().st_mtime_ns
    applying._record(clone, DATA / "shop.yaml", identity)
    assert (clone.folder / "applied.json").stat().st_mtime_ns == first
    assert json.loads((clone.folder / "applied.json").read_text())["file"] == str(DATA / "shop.yaml")


@pytest.mark.parametrize(("answer", "goes_on"), [("y", True), ("YES", True), ("n", False), ("", False), (None, False)])
def test_who_sits_at_a_terminal_is_asked(monkeypatch: pytest.MonkeyPatch, answer: str | None, goes_on: bool) -> None:
    def said(_question: str) -> str:
        if answer is None:
            raise EOFError
        return answer

    monkeypatch.setattr("builtins.input", said)
    for stream in (sys.stdin, sys.stdout):
        monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    applying._confirm("shop", "3 files", yes=True)
    if goes_on:
        applying._confirm("shop", "3 files", yes=False)
        return
    with pytest.raises(CentralitaError, match="nothing was changed"):
        applying._confirm("shop", "3 files", yes=False)
