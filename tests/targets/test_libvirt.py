"""Clones brought by `invoke deploy` onto a real libvirt daemon, here and over SSH, and called there."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from centralita.clone.definitions import Hardware, domain_xml
from centralita.clone.identity import IdentityStore
from centralita.clone.make import Clone, make_clones
from centralita.clone.registry import Claim, Registry
from centralita.ground import accel, ledger, paths
from centralita.ground.run import Completed, run
from centralita.hosts.records import DEPLOYED
from centralita.image.build import Golden
from centralita.lab.audio import read_wav, strongest_tone
from centralita.lab.libvirtd import Libvirtd
from centralita.lab.net import BRIDGE, LabNetwork
from centralita.lab.options import lab_cfg
from centralita.lab.phones import Phones
from centralita.spec.tenant import Tenant, load_tenant
from tests.conftest import TESTS

pytestmark = [pytest.mark.targets, pytest.mark.xdist_group("libvirt")]

DEPLOY_S = 420.0
DATA_MIB = 64
NOTHING = "nothing was changed"


@dataclass(frozen=True)
class Host:
    """A libvirt host in the lab, the folder that deployments go to, and clones that are not deployed yet."""

    daemon: Libvirtd
    folder: Path
    to: Path
    clones: dict[str, Clone]

    def invoke(self, *words: str | Path, check: bool = True) -> Completed:
        """Run a task in the lab's network, where the host's domains can be reached."""
        argv = [sys.executable, "-m", "invoke", "--search-root", paths.repo_root(), *words]
        # What libvirt says of KVM need not be true; here a kernel was booted to find out.
        env = {
            "CENTRALITA_ACCEL": accel.probe().name,
            "XDG_STATE_HOME": str(self.folder / "state"),
            "PYTHONPATH": str(paths.repo_root()),
        }
        return run(self.daemon.network.argv(argv), env=env, cwd=paths.repo_root(), check=check, timeout_s=DEPLOY_S)

    def deploy(self, name: str, *words: str | Path, host: str = "", to: Path | None = None) -> str:
        """Deploy a clone and return what was said."""
        flags = ("--host", host or self.daemon.uri, "--to", to or self.to)
        return self.invoke("deploy", self.clones[name].folder, *flags, *words).stdout

    def virsh(self, *words: str) -> str:
        """Ask libvirt itself."""
        return run(["virsh", "--quiet", "--connect", self.daemon.uri, *words]).stdout.strip()


def make(golden: Golden, tenants: list[Tenant], folder: Path, into: Path) -> dict[str, Clone]:
    """Make clones for KVM with data disks, which boot quickly where they are emulated."""
    hardware = Hardware(golden.record.memory_mib, golden.record.vcpus, bridge=BRIDGE)
    wanted = [(tenant, into / tenant.name, (lab_cfg(golden.record.kernel_cmdline),)) for tenant in tenants]
    made, _times = make_clones(
        golden,
        wanted,
        IdentityStore(folder / "state/centralita/identities"),
        data_mib=DATA_MIB,
        define=lambda clone: {"domain.xml": domain_xml(clone, hardware)},
    )
    return {clone.name: clone for clone in made}


@pytest.fixture(scope="module")
def host(golden: Golden, duo: Tenant) -> Iterator[Host]:
    """The host, with clones of duo and trio made and not deployed."""
    assert duo.network.address is not None
    trio = load_tenant(TESTS / "data/trio.yaml")
    # The folder's name is short: the daemon's socket is in it.
    with ledger.default().tempdir("ctl-virt-", Path("/var/tmp")) as folder:
        registry = Registry(folder / "state/centralita/clones")
        clones = make(golden, [duo, trio], folder, folder)
        with registry.claimed([Claim(c.name, str(c.folder), c.mac, c.address) for c in clones.values()]):
            pass
        with LabNetwork(duo.network.address.network) as network, Libvirtd(network, folder / "virt") as daemon:
            yield Host(daemon, folder, folder / "host", clones)


def test_a_dry_run_says_all_and_does_nothing(host: Host) -> None:
    said = host.deploy("duo", "--dry-run")
    for what in ("the golden image", "the system disk", "the data disk", "define duo", "start duo"):
        assert f"{what}" in said
    assert not host.to.exists()
    assert host.virsh("list", "--all", "--name") == ""


@pytest.fixture(scope="module")
def deployed(host: Host) -> str:
    """What the first deployment of duo said."""
    return host.deploy("duo")


def test_a_deployed_clone_answers_and_takes_a_call(
    host: Host, deployed: str, duo: Tenant, tmp_path: Path, record_property: pytest.FixtureRequest
) -> None:
    assert "duo answers" in deployed
    assert host.virsh("domstate", "duo") == "running"
    assert host.virsh("domuuid", "duo") == host.clones["duo"].uuid
    assert duo.network.address is not None
    address = duo.network.address.ip
    identity = IdentityStore(host.folder / "state/centralita/identities").get("duo")
    assert identity is not None
    with Phones(host.daemon.network, workdir=tmp_path / "phones") as agent:
        anna, ben = (agent.add(n, registrar=address, secret=identity.sip_secrets[n]) for n in ("101", "102"))
        for phone in (anna, ben):
            assert phone.wait_registered().code == 200
        ben.when_called(200, tone_hz=1085.0, record=tmp_path / "ben.wav")
        call = anna.call("102", tone_hz=525.0, record=tmp_path / "anna.wav")
        call.wait_answered()
        other = ben.wait_incoming()
        call.wait_heard(3)
        call.hangup()
        other.wait_ended()
        for heard, hz in ((call, 1085.0), (other, 525.0)):
            tone = strongest_tone(read_wav(heard.recorded()))
            assert tone is not None and abs(tone.hz - hz) <= 2


def test_a_second_deployment_changes_nothing(host: Host, deployed: str) -> None:
    # The running machine writes to its disks: those are the same files.
    disks = [path for path in host.to.rglob("*") if path.name in ("system.qcow2", "data.raw")]
    files = {path: path.stat().st_ino for path in disks}
    before = {path: path.stat().st_mtime_ns for path in host.to.rglob("*") if path not in disks}
    number = host.virsh("domid", "duo")
    said = host.deploy("duo")
    assert NOTHING in said
    assert host.virsh("domid", "duo") == number
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert {path: path.stat().st_ino for path in files} == files and len(files) >= 2


def test_the_golden_image_is_there_once_read_only_by_its_digest(host: Host, deployed: str) -> None:
    host.deploy("trio", "--no-start")
    (image,) = (host.to / "golden").iterdir()
    assert image.name.startswith(host.clones["duo"].golden_digest)
    assert image.stat().st_mode & 0o777 == 0o444
    info = run(["qemu-img", "info", "--output=json", host.to / "clones/trio/system.qcow2"]).stdout
    assert json.loads(info)["full-backing-filename"] == str(image)
    assert (host.to / "clones/trio/data.raw").stat().st_blocks * 512 < DATA_MIB * 2**20 / 2  # as sparse as it was


def test_status_tells_clones_hosts_and_states(host: Host, deployed: str) -> None:
    rows = {row["name"]: row for row in json.loads(host.invoke("status", "--json").stdout)}
    assert (rows["duo"]["state"], rows["duo"]["sip"], rows["duo"]["host"]) == ("running", True, host.daemon.uri)
    assert rows["trio"]["state"] in ("off", "not deployed")
    assert "duo    running" in host.invoke("status").stdout


def test_over_ssh_all_is_as_it_is_here(host: Host, deployed: str) -> None:
    """The same host by another way: what is there is found, what is not is copied, the clone is asked from there."""
    with host.daemon.ssh_server() as way:
        uri = f"qemu+ssh://{way}"
        refused = host.invoke("deploy", host.clones["duo"].folder, "--host", uri, "--to", host.to, check=False)
        assert refused.returncode == 1 and "is deployed on" in refused.stdout + refused.stderr
        (host.clones["duo"].folder / DEPLOYED).unlink()
        said = host.deploy("duo", host=uri)
        assert NOTHING in said and "duo answers" in said
        elsewhere = host.folder / "elsewhere"
        host.invoke("undeploy", host.clones["trio"].folder, "--purge")
        assert "start" not in host.deploy("trio", "--no-start", host=uri, to=elsewhere)
        assert NOTHING in host.deploy("trio", "--no-start", host=uri, to=elsewhere)
        assert (elsewhere / "clones/trio/data.raw").stat().st_blocks * 512 < DATA_MIB * 2**20 / 2
        rows = {row["name"]: row for row in json.loads(host.invoke("status", "--json").stdout)}
        assert (rows["duo"]["state"], rows["duo"]["sip"]) == ("running", True)
        assert rows["trio"]["state"] == "off"
        host.invoke("undeploy", host.clones["trio"].folder, "--purge")
        assert not (elsewhere / "clones/trio").exists()
    (host.clones["duo"].folder / DEPLOYED).unlink()
    host.deploy("duo")


def test_a_damaged_golden_image_is_refused(host: Host, deployed: str) -> None:
    (image,) = (host.to / "golden").iterdir()
    good = image.read_bytes()
    image.chmod(0o644)
    try:
        with image.open("r+b") as stream:
            stream.seek(len(good) // 2)
            stream.write(b"damage")
        done = host.invoke(
            "deploy", host.clones["trio"].folder, "--host", host.daemon.uri, "--to", host.to, check=False
        )
        assert done.returncode == 1
        assert "is damaged" in done.stdout + done.stderr
    finally:
        with image.open("r+b") as stream:
            stream.write(good)
        image.chmod(0o444)


def test_a_new_clone_takes_the_old_one_s_data(host: Host, deployed: str, golden: Golden, duo: Tenant) -> None:
    """An upgrade: a system disk is replaced only when that is said, and a data disk never."""
    data = host.to / "clones/duo/data.raw"
    host.virsh("destroy", "duo")
    with data.open("r+b") as stream:
        stream.write(b"the tenant's")
    again = make(golden, [duo], host.folder, host.folder / "again")["duo"]
    flags = ("--host", host.daemon.uri, "--to", host.to, "--no-start")
    refused = host.invoke("deploy", again.folder, *flags, check=False)
    assert refused.returncode == 1 and "--replace" in refused.stdout + refused.stderr
    said = host.invoke("deploy", again.folder, *flags, "--replace").stdout
    assert "copy the system disk" in said and "data disk" not in said
    assert (host.to / "clones/duo/system.qcow2.old").exists()
    host.invoke("undeploy", again.folder)
    assert "duo" not in host.virsh("list", "--all", "--name")
    host.invoke("deploy", again.folder, *flags)
    assert data.read_bytes().startswith(b"the tenant's")


def test_the_definitions_are_valid_for_libvirt(host: Host) -> None:
    for clone in host.clones.values():
        run(["virt-xml-validate", clone.folder / "domain.xml", "domain"])
