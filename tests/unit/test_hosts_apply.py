"""What `invoke apply` would do and show: plans, refusals, and differences without secrets."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from centralita.clone.files import GuestFile
from centralita.clone.identity import Identity, IdentityStore
from centralita.clone.render import render
from centralita.ground.errors import CentralitaError
from centralita.hosts.access import Access, known_host, target_of
from centralita.hosts.address import SshTarget
from centralita.hosts.apply import bundle
from centralita.hosts.apply_diff import Mask, differences
from centralita.hosts.apply_plan import accounts, check_machine, make_plan
from centralita.hosts.apply_state import Machine, Present, parse
from centralita.hosts.shell import host_argv
from centralita.spec.tenant import Tenant, load_tenant

DATA = Path(__file__).parents[1] / "data"


def machine_of(files: Sequence[GuestFile]) -> Machine:
    """A machine that has these files."""
    found = {}
    for file in files:
        kind = "l" if file.symlink is not None else "d" if file.directory else "f"
        digest = hashlib.sha256(file.content).hexdigest() if kind == "f" else ""
        mode = 0o777 if kind == "l" else file.mode
        found[file.path] = Present(kind, file.owner, file.group, mode, file.symlink or "", digest, file.content)
    return Machine(found, "fingerprint", cut=False, calls=0)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> IdentityStore:
    """Identities of these tests."""
    return IdentityStore(tmp_path_factory.mktemp("identities"))


def rendered(store: IdentityStore, name: str, **changes: object) -> tuple[Tenant, Identity, list[GuestFile]]:
    """A tenant of tests/data with changes, its identity and files."""
    tenant = load_tenant(DATA / f"{name}.yaml")
    changed = tenant.model_copy(update=changes)
    identity = store.get_or_create(changed)
    return changed, identity, render(changed, identity)


def test_the_same_file_is_nothing_to_do(store: IdentityStore) -> None:
    _tenant, _identity, files = rendered(store, "office")
    plan = make_plan(files, machine_of(files))
    assert plan.nothing and plan.reload == ()


def test_only_what_changed_is_written_and_reloaded(store: IdentityStore) -> None:
    tenant, _identity, files = rendered(store, "office")
    queue = tenant.queues[0].model_copy(update={"strategy": "random"})
    _tenant, _identity, later = rendered(store, "office", queues=(queue,))
    plan = make_plan(later, machine_of(files))
    assert [file.path for file in plan.write] == ["/etc/asterisk/queues.conf"]
    assert plan.reload == ("queue reload all",)
    assert not plan.refusals


def test_an_extension_is_in_all_that_knows_it_and_the_dial_plan_is_there_before_its_account(
    store: IdentityStore,
) -> None:
    _tenant, _identity, files = rendered(store, "shop")
    _tenant, _identity, later = rendered(store, "shop-later")
    plan = make_plan(later, machine_of(files))
    assert not plan.refusals
    assert plan.reload[-2:] == ("dialplan reload", "module reload res_pjsip.so")
    assert accounts(later) == ["101", "102", "103"]
    assert "/etc/centralita/sounds/menu-900.wav" in [file.path for file in plan.write]


def test_what_is_no_longer_asked_for_goes_and_prompts_go_last(store: IdentityStore) -> None:
    _tenant, _identity, files = rendered(store, "office")
    _tenant, _identity, later = rendered(store, "office", mail=None, faxes=(), menus=())
    plan = make_plan(later, machine_of(files))
    assert set(plan.remove) == {"/etc/asterisk/msmtprc", "/etc/centralita/faxes"}
    assert plan.later == ("/etc/centralita/sounds/menu-900.wav",)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hostname": "other"}, "host name"),
        ({"timezone": "Asia/Tokyo"}, "time zone"),
        ({"network": {"method": "dhcp"}}, "its network"),
        ({"console": "autologin"}, "console"),
    ],
)
def test_what_a_running_machine_cannot_be_given_is_refused_with_all_reasons(
    store: IdentityStore, changes: dict[str, object], said: str
) -> None:
    tenant, _identity, files = rendered(store, "office")
    if "network" in changes:
        changes = {"network": tenant.network.model_copy(update={"method": "dhcp", "address": None, "gateway": None})}
    _tenant, _identity, later = rendered(store, "office", **changes)
    assert any(said in reason for reason in make_plan(later, machine_of(files)).refusals)


def test_the_first_tls_phone_needs_no_new_clone_but_another_certificate_does(store: IdentityStore) -> None:
    tenant, _identity, files = rendered(store, "shop")
    first = tenant.extensions[0].model_copy(update={"transport": "tls"})
    _tenant, identity, later = rendered(store, "shop", extensions=(first, *tenant.extensions[1:]))
    plan = make_plan(later, machine_of(files))
    assert not plan.refusals
    assert "/etc/asterisk/keys/tls.key" in [file.path for file in plan.write]
    changed = render(load_tenant(DATA / "shop.yaml").model_copy(update={"extensions": (first,)}), replace(
        identity, tls_certificate="-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))  # fmt: skip
    assert "its TLS key and certificate" in make_plan(changed, machine_of(later)).refusals


def test_another_transport_is_refused_and_one_that_is_gone_is_told(store: IdentityStore) -> None:
    tenant, _identity, files = rendered(store, "shop")
    first = tenant.extensions[0].model_copy(update={"transport": "webrtc"})
    _tenant, _identity, later = rendered(store, "shop", extensions=(first, *tenant.extensions[1:]))
    plan = make_plan(later, machine_of(files))
    assert plan.reload == ("module reload http", "module reload res_pjsip.so") and not plan.refusals
    back = make_plan(files, machine_of(later))
    assert not back.refusals and len(back.notes) == 2 and "wss" in "".join(back.notes)
    assert b"tlsbindaddr" not in next(file.content for file in back.write if file.path.endswith("/http.conf"))
    moved = [
        replace(file, content=file.content.replace(b"bind = 0.0.0.0:5060", b"bind = 0.0.0.0:5062"))
        if file.path == "/etc/asterisk/pjsip.conf"
        else file
        for file in files
    ]
    refusals = make_plan(moved, machine_of(files)).refusals
    assert [reason.split()[0] for reason in refusals] == ["[tcp]", "[udp]"]


def test_the_last_admin_is_not_locked_out(store: IdentityStore) -> None:
    _tenant, _identity, files = rendered(store, "shop")
    keys = GuestFile("/root/.ssh/authorized_keys", b"ssh-ed25519 AAAA ana\n", 0o600)
    plan = make_plan(files, machine_of([*files, keys]))
    assert any("last admin" in reason for reason in plan.refusals)
    plan = make_plan([*files, keys], machine_of(files))
    assert plan.keys == keys and not plan.refusals


def test_the_difference_has_no_secret(store: IdentityStore) -> None:
    tenant, identity, files = rendered(store, "office")
    trunk = tenant.trunks[0].model_copy(update={"password": "an0ther-secret"})
    assert tenant.mail is not None
    mail = tenant.mail.model_copy(update={"password": "m4il-secret"})
    room = tenant.conferences[0].model_copy(update={"pin": "555123"})
    box = tenant.extensions[0].voicemail
    assert box is not None
    first = tenant.extensions[0].model_copy(update={"voicemail": box.model_copy(update={"pin": "909172"})})
    changes = {"trunks": (trunk, *tenant.trunks[1:]), "mail": mail, "conferences": (room, *tenant.conferences[1:])}
    _tenant, _identity, later = rendered(store, "office", extensions=(first, *tenant.extensions[1:]), **changes)
    mask = Mask()
    machine = machine_of(files)
    shown = "\n".join(differences(make_plan(later, machine), machine, mask))
    assert tenant.trunks[0].password is not None and tenant.mail.password is not None
    secrets = {"Tr\\;unk-secret", "an0ther-secret", "m4il-secret", "p w; x", "555123", "909172", "4826", "4719"}
    secrets |= {tenant.trunks[0].password, *identity.sip_secrets.values(), identity.tls_key}
    assert not [secret for secret in secrets if secret in shown]
    for path in ("pjsip_trunks.conf", "msmtprc", "confbridge.conf", "voicemail.conf"):
        assert f"+++ /etc/asterisk/{path}" in shown
    assert "+101 => (secret 2),Begoña Muñoz,begona@example.com" in shown
    # What Asterisk says of a file may quote it.
    assert "an0ther-secret" not in mask.text("config_options.c: Error parsing password=an0ther-secret at line 3")


def test_what_a_terminal_would_obey_is_not_shown() -> None:
    (line,) = Mask().lines("/etc/asterisk/extensions.conf", "exten => 1,1,NoOp(\033]0;x\007)")
    assert "\033" not in line and "\007" not in line


def test_another_machine_is_not_touched(store: IdentityStore) -> None:
    _tenant, identity, files = rendered(store, "shop")
    check_machine(machine_of(files), identity)
    _tenant, other, theirs = rendered(store, "trio")
    with pytest.raises(CentralitaError, match="trio"):
        check_machine(machine_of(theirs), identity)
    with pytest.raises(CentralitaError, match="nobody"):
        check_machine(Machine({}, "", cut=False, calls=0), other)


def test_what_the_machine_tells_is_read_and_half_of_it_is_not() -> None:
    said = "\n".join(
        [
            "state\tcut",
            "place\t/etc/.centralita-apply/asterisk\t/etc/asterisk",
            "place\t/etc/centralita\t/etc/centralita",
            "calls\t3",
            "file\tf\troot\tasterisk\t640\t/etc/.centralita-apply/asterisk/queues.conf\t",
            "file\tl\troot\troot\t777\t/etc/localtime\t/usr/share/zoneinfo/Etc/UTC",
            "sum\tabc  /etc/.centralita-apply/asterisk/queues.conf",
            "text\t/etc/.centralita-apply/asterisk/queues.conf\tW2Fd",
            "fingerprint\tdef",
            "end",
        ]
    )
    machine = parse(said)
    assert (machine.cut, machine.calls, machine.fingerprint) == (True, 3, "def")
    assert machine.files["/etc/asterisk/queues.conf"] == Present("f", "root", "asterisk", 0o640, "", "abc", b"[a]")
    assert machine.files["/etc/localtime"].link == "/usr/share/zoneinfo/Etc/UTC"
    with pytest.raises(CentralitaError, match="its end is missing"):
        parse(said.removesuffix("\nend"))


def test_the_bundle_holds_files_with_owners_by_name_and_lists(store: IdentityStore) -> None:
    _tenant, _identity, files = rendered(store, "shop")
    _tenant, _identity, later = rendered(store, "shop-later")
    plan = make_plan(later, machine_of(files))
    with tarfile.open(fileobj=io.BytesIO(bundle(plan, plan.reload, ["101"]))) as tar:
        entry = tar.getmember("asterisk/pjsip.conf")
        assert (entry.uname, entry.gname, entry.mode) == ("root", "asterisk", 0o640)
        lines = tar.extractfile("plan/reload")
        assert lines is not None and lines.read().decode().splitlines() == list(plan.reload)
        assert tar.getmember("centralita/sounds").isdir()


def test_ssh_knows_the_clone_by_its_identity_and_by_nothing_else(store: IdentityStore, tmp_path: Path) -> None:
    _tenant, identity, _files = rendered(store, "shop")
    access = Access("192.0.2.7", Path("/keys/ana"), Path("/x/config"), SshTarget("pbx1", user="root", port=2222))
    argv = host_argv(target_of(access, identity, tmp_path / "hosts"))
    for option in ("HostKeyAlias=shop", "StrictHostKeyChecking=yes", "GlobalKnownHostsFile=/dev/null", "BatchMode=yes"):
        assert option in argv
    assert f'UserKnownHostsFile="{tmp_path / "hosts"}"' in argv
    assert argv[1:3] == ["-F", "/x/config"]
    proxy = next(word for word in argv if word.startswith("ProxyCommand="))
    assert "-p 2222 -l root -W %h:%p -- pbx1" in proxy
    assert known_host(identity).startswith("shop ssh-ed25519 ")
    assert "PRIVATE" not in known_host(identity)
