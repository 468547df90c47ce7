"""A changed tenant applied to an Asterisk that runs: what is exchanged, what is undone, and what a cut leaves."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from ipaddress import IPv4Interface
from pathlib import Path

import pytest

from centralita.clone.files import GuestFile
from centralita.clone.identity import Identity, IdentityStore
from centralita.clone.render import render
from centralita.ground.errors import CentralitaError
from centralita.ground.paths import repo_root
from centralita.ground.run import environment, run
from centralita.hosts.apply import SCRIPT, Proposal, bundle, carry_out, dialplan_of, propose
from centralita.hosts.apply_plan import accounts
from centralita.hosts.shell import Shell
from centralita.image.build import ostree_of
from centralita.lab.bare import BareAsterisk
from centralita.lab.net import LabNetwork
from centralita.lab.phones import Phones
from centralita.spec.tenant import load_tenant
from tests.conftest import TESTS
from tests.office.company import until
from tests.office.provider import PHONE, PHONE_SECRET, provider_files, static_files

pytestmark = [pytest.mark.calls, pytest.mark.xdist_group("apply")]

CUTS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.8)


class Inside(Shell):
    """Runs commands in the tree of an Asterisk without a machine."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def argv(self, argv: Sequence[str]) -> list[str]:
        return ["chroot", str(self.root), *argv]


@dataclass(frozen=True)
class Shop:
    """The shop's PBX, its tenant before and later."""

    pbx: BareAsterisk
    shell: Inside
    store: IdentityStore
    identity: Identity
    before: list[GuestFile]
    later: list[GuestFile]

    def apply(self, files: Sequence[GuestFile]) -> Proposal:
        proposal = propose(self.shell, files, self.identity)
        assert not proposal.plan.refusals
        carry_out(self.shell, proposal)
        return proposal

    def state(self) -> tuple[str, str]:
        """Digests of all that apply may touch: of Asterisk's folder, and of what is exchanged just before it."""
        return self.digest("etc/asterisk"), self.digest("etc/centralita")

    def digest(self, folder: str) -> str:
        """A digest of a folder's files."""
        found = []
        for path in sorted((self.pbx.root / folder).rglob("*")):
            info = path.stat()
            data = path.read_bytes() if path.is_file() else b""
            if path.name == "extensions.conf" and b",1,Goto(10001)" in data:
                # For the moment of its loading it holds what calls that are up need, too.
                data = next(file.content for file in self.later if file.path.endswith("/extensions.conf"))
            found.append((str(path), info.st_mode, info.st_uid, info.st_gid, data))
        return hashlib.sha256(repr(found).encode()).hexdigest()

    def left(self) -> list[str]:
        """What apply has left beside its places."""
        return [path.name for path in (self.pbx.root / "etc").glob(".centralita*")]


@pytest.fixture(scope="module")
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    before, later = (load_tenant(TESTS / f"data/{name}.yaml") for name in ("shop", "shop-later"))
    folder = tmp_path_factory.mktemp("shop")
    store = IdentityStore(folder / "identities")
    identity = store.get_or_create(before)
    appliance = request.config.getoption("--appliance")
    files = render(before, identity)
    identity = store.get_or_create(later)
    interface = before.network.address
    assert interface is not None
    with (
        LabNetwork(interface.network, host_address=before.network.gateway) as network,
        BareAsterisk(ostree_of(appliance).tar, network, interface, [*static_files(appliance), *files]) as pbx,
    ):
        yield Shop(pbx, Inside(pbx.root), store, identity, files, render(later, identity))


@pytest.fixture(autouse=True)
def as_before(shop: Shop) -> None:
    """Each test begins with the shop as it was, loaded without a complaint."""
    if not propose(shop.shell, shop.before, shop.identity).nothing:
        shop.apply(shop.before)


def uptime(shop: Shop) -> int:
    """For how many seconds its Asterisk has run."""
    return int(shop.pbx.cli("core show uptime seconds").split(":")[1].split()[0])


def with_content(files: Sequence[GuestFile], path: str, change: bytes) -> list[GuestFile]:
    """The files, with something added to one of them."""
    return [replace(file, content=file.content + change) if file.path == path else file for file in files]


def test_a_change_is_shown_without_secrets_made_and_then_there_is_none(shop: Shop) -> None:
    proposal = propose(shop.shell, shop.later, shop.identity)
    shown = "\n".join(proposal.lines)
    for secret in ("4719", "5821", "6930", "7158", "9371", "2648"):
        assert secret not in shown
    digests = re.findall(rb"password_digest = \S+:(\S+)", b"".join(file.content for file in shop.later))
    assert len(digests) == 6 and not any(digest.decode() in shown for digest in digests)
    for line in ("+[103](extension)", "-102 => (secret 1),Berta,", "+102 => (secret 2),Berta,", "-strategy = ringall"):
        assert line in shown.splitlines()
    started = uptime(shop)
    carry_out(shop.shell, proposal)
    assert propose(shop.shell, shop.later, shop.identity).nothing
    assert shop.left() == []
    assert "jazz" in shop.pbx.cli("moh show classes")
    assert "PJSIP/103" in shop.pbx.cli("core show hints")
    assert "rrmemory" in shop.pbx.cli("queue show 700")
    assert uptime(shop) >= started
    # What nobody asks for any more is gone with the way back.
    shop.apply(shop.before)
    assert not (shop.pbx.root / "etc/centralita/music/jazz/00.wav").exists()
    assert "PJSIP/103" not in shop.pbx.cli("core show hints")


@pytest.mark.parametrize(
    ("path", "change", "said"),
    [
        ("/etc/asterisk/pjsip.conf", b"\n[104](extension)\nno_such_option = yes\n", "no_such_option"),
        ("/etc/asterisk/extensions.conf", b'\n[more]\nexten => 1\n#include "nowhere.conf"\n', "nowhere.conf"),
        ("/etc/asterisk/confbridge.conf", b"\n[room]\ntype = bridge\nmax_membres = 3\n", "max_membres"),
        ("/etc/asterisk/queues.conf", b"\n[701]\nstrategy = nonesuch\n", "nonesuch"),
    ],
)
def test_what_asterisk_complains_of_is_undone(shop: Shop, path: str, change: bytes, said: str) -> None:
    before = shop.state()
    proposal = propose(shop.shell, with_content(shop.later, path, change), shop.identity)
    with pytest.raises(CentralitaError, match=said):
        carry_out(shop.shell, proposal)
    assert shop.state() == before
    assert shop.left() == []
    assert "PJSIP/103" not in shop.pbx.cli("core show hints")
    assert "101" in shop.pbx.cli("pjsip list endpoints") and "103" not in shop.pbx.cli("pjsip list endpoints")


def test_ten_calls_stay_up_and_are_heard(shop: Shop, tmp_path: Path) -> None:
    with ExitStack() as stack:
        agents = [stack.enter_context(Phones(shop.pbx.network, workdir=tmp_path / str(n))) for n in range(3)]
        secrets = shop.identity.sip_secrets
        phones = [a.add("101", registrar=shop.pbx.address, secret=secrets["101"], register=False) for a in agents]
        numbers = ["*43", "800", "900", "700", "*43", "*43", "700", "900", "*43", "*43"]
        calls = [phones[index // 4].call(number, tone_hz=400.0) for index, number in enumerate(numbers)]
        for call in calls:
            call.wait_answered(timeout_s=30)
        before = [call.stats().sent_packets for call in calls]
        shop.apply(shop.later)
        carla = agents[2].add("103", registrar=shop.pbx.address, secret=secrets["103"])
        assert carla.wait_registered().code == 200
        carla.when_called(200)
        mark = len(agents[2].events)
        fresh = phones[2].call("103", tone_hz=500.0)
        fresh.wait_answered()
        carla.wait_incoming(after=mark)
        fresh.hangup()
        for index, call in enumerate(calls):
            assert not call.over, numbers[index]
            if numbers[index] == "*43":
                heard = call.stats().received_packets
                call.go_on(1)
                assert call.stats().received_packets >= heard + 45
            assert call.stats().sent_packets > before[index]
        assert "10 active calls" in shop.pbx.cli("core show channels count")
        for call in calls:
            assert call.hangup().code == 200


def test_the_first_web_phone_and_the_first_trunk_need_no_restart(
    request: pytest.FixtureRequest, shop: Shop, tmp_path: Path
) -> None:
    text = (TESTS / "data/shop.yaml").read_text()
    text = text.replace("name: Berta,", "name: Berta, transport: webrtc,") + (
        "trunks: [{name: main, kind: registered, host: 10.77.0.20, user: shop, password: Tr0unk-secret}]\n"
        'outbound: [{name: land, class: national, patterns: ["[6-9]XXXXXXXX"], prepend: "+34", trunks: [main]}]\n'
        'inbound: [{number: "+34911000100", destination: "extension:101"}]\n'
    )
    file = tmp_path / "shop.yaml"
    file.write_text(text)
    tenant = load_tenant(file)
    identity = shop.store.get_or_create(tenant)
    provider = BareAsterisk(
        ostree_of(request.config.getoption("--appliance")).tar,
        shop.pbx.network,
        IPv4Interface("10.77.0.20/24"),
        provider_files(request.config.getoption("--appliance"), "shop", "Tr0unk-secret"),
        name="provider",
    )
    with provider, Phones(shop.pbx.network, workdir=tmp_path / "phones") as agent:
        shop.apply(render(tenant, identity))
        until(lambda: "Registered" in shop.pbx.cli("pjsip show registrations"), "the trunk to register")
        ana = agent.add("101", registrar=shop.pbx.address, secret=identity.sip_secrets["101"])
        assert ana.wait_registered().code == 200
        call = ana.call("600123123", tone_hz=400.0)
        call.wait_answered()
        call.hangup()
        assert "customer dialled +34600123123" in provider.log
        ana.when_called(200)
        world = agent.add(PHONE, registrar=provider.address, secret=PHONE_SECRET)
        assert world.wait_registered().code == 200
        call = world.call("34911000100", tone_hz=400.0)
        call.wait_answered()
        call.hangup()
        argv = [sys.executable, "-m", "centralita.lab.web_phone", str(shop.pbx.address), "102", "*43"]
        done = run(
            shop.pbx.network.argv(argv),
            stdin=identity.sip_secrets["102"].encode() + b"\n",
            env=environment({"PYTHONPATH": str(repo_root())}),
            timeout_s=120,
        )
        told = json.loads(done.stdout.splitlines()[-1])
        assert told["registered"] == told["answered"] == "SIP/2.0 200 OK" and told["tone_s"] > 1.5, told
    shop.apply(shop.before)
    assert "No objects found" in shop.pbx.cli("pjsip show registrations")
    assert (
        run(shop.pbx.network.argv(["bash", "-c", f"exec 3<>/dev/tcp/{shop.pbx.address}/8089"]), check=False).returncode
        != 0
    )


def test_a_cut_at_any_moment_leaves_the_old_files_or_the_new_and_the_next_apply_mends_it(shop: Shop) -> None:
    old = shop.state()
    started = time.monotonic()
    shop.apply(shop.later)
    whole_s = time.monotonic() - started
    new = shop.state()
    shop.apply(shop.before)
    assert shop.state() == old
    etc = shop.pbx.root / "etc"
    inode = (etc / "asterisk").stat().st_ino

    def after(part: float) -> Callable[[], bool]:
        return lambda: time.monotonic() - started > part * whole_s

    moments: dict[str, Callable[[], bool]] = {
        "its folder is made": lambda: (etc / ".centralita-apply.new").is_dir(),
        "the exchange": lambda: (etc / "asterisk").stat().st_ino != inode,
        **{f"{part} of its time": after(part) for part in CUTS},
    }
    seen = {}
    for moment, come in moments.items():
        proposal = propose(shop.shell, shop.later, shop.identity)
        inode = (etc / "asterisk").stat().st_ino
        started = time.monotonic()
        cut_at(shop, proposal, come)
        found = shop.state()
        # Each folder is whole; the new prompts may be there a moment before the dial plan that asks for them.
        assert found in (old, new, (old[0], new[1])), moment
        seen[moment] = found[0]
        proposal = propose(shop.shell, shop.later, shop.identity)
        assert not proposal.plan.refusals
        if not proposal.nothing:
            carry_out(shop.shell, proposal)
        assert shop.state() == new and shop.left() == []
        assert "PJSIP/103" in shop.pbx.cli("core show hints")
        shop.apply(shop.before)
    assert seen["its folder is made"] == old[0] and seen["the exchange"] == new[0]


def cut_at(shop: Shop, proposal: Proposal, come: Callable[[], bool]) -> None:
    """Kill the machine's side of an apply, with all that it has started, when a moment has come."""
    stream = bundle(proposal.plan, proposal.plan.reload, accounts(proposal.files), dialplan_of(proposal))
    words = ["apply", hashlib.sha256(stream).hexdigest(), proposal.machine.fingerprint]
    argv = shop.shell.argv(["sh", "-c", SCRIPT.read_text(), "apply", *words])
    with tempfile.TemporaryFile() as sent:
        sent.write(stream)
        sent.seek(0)
        done = subprocess.Popen(argv, stdin=sent, stdout=subprocess.DEVNULL, start_new_session=True)
        while done.poll() is None and not come():
            time.sleep(0.001)
        with suppress(ProcessLookupError):
            os.killpg(done.pid, signal.SIGKILL)
        done.wait()
        # What it has started ends a moment later: an exchange that waits for the disk is carried out before.
        with suppress(ProcessLookupError):
            while True:
                os.killpg(done.pid, 0)
                time.sleep(0.001)
