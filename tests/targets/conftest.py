"""A clone of the one golden image on each target, in turn: by KVM's machine, and on the lab's Xen host."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import testinfra
import testinfra.host

from centralita.clone.definitions import Hardware as Given
from centralita.clone.definitions import xl_config
from centralita.clone.identity import IdentityStore
from centralita.clone.make import Clone, make_clones
from centralita.clone.xl import XEN_TARGETS
from centralita.ground.run import run
from centralita.image.build import Golden
from centralita.lab.guest import Guest, Hardware, Prepared, powered_on, prepare
from centralita.lab.phones import Phone, Phones
from centralita.lab.sip import SipAnswer
from centralita.lab.xen.domain import XenDomain
from centralita.lab.xen.lab import XenGuest, XenLab, xen_lab
from centralita.lab.xen.qemu import GuestDisk
from centralita.spec.tenant import Tenant
from tests.calls.conftest import registered, wavs
from tests.conftest import Pbx, just_booted
from tests.disks import overlay
from tests.matrix import ABOUT, TARGET
from tests.results import target_of
from tests.seeded import judged, seeded
from tests.targets.spoiled import spoiled_disks

__all__ = ["judged", "seeded", "wavs"]

TESTS = Path(__file__).parent
# A deadline, not an expectation: whoever fails says so at once, and a crowded machine is slow.
BOOT_S = 1200.0
CONTAINER = "container"
# What boots in a minute or two, with one loader for each kind of guest; the others by --target.
QUICK = ("xen-pv", "xen-pvh", CONTAINER)
TARGETS = ("kvm", *XEN_TARGETS, CONTAINER)
KVM_ROWS = ("kvm-bios", "kvm-uefi")
# The rows of a second host, for the other processor.
SECOND = ("xen-pvh", "xen-hvm", "kvm-uefi")
# Where saved guests go: a block device, as an admin's logical volume would be.
SAVED = "/dev/centralita/saved"
# By so much the guests' disks are larger than the golden one, as a logical volume may be.
GROW_MIB = 256
AnyGuest = Guest | XenGuest
Record = Callable[[str, object], None]


def selected(config: pytest.Config) -> tuple[str, ...]:
    """The targets that are asked for."""
    wanted = [word for word in str(config.getoption("--target")).split(",") if word]
    return tuple(target for target in TARGETS if target in wanted) if wanted else QUICK


def rows(config: pytest.Config) -> tuple[str, ...]:
    """The rows of the matrix: KVM's machine has one for each firmware, the container has its own tests.

    PV through GRUB has none: docs/xen.md says why it does not boot, and tests/xen/test_variants.py tries. Who asks for
    it gets the test of its exact error (see `pytest_itemcollected`).
    """
    booting = [target for target in selected(config) if target not in (CONTAINER, "xen-pvgrub")]
    return tuple(row for target in booting for row in (KVM_ROWS if target == "kvm" else (target,)))


def pytest_itemcollected(item: pytest.Item) -> None:
    """Where PV through GRUB is asked for, what its loader says is a row's check, though in no column."""
    if item.name.startswith("test_an_older_grub_s_pv_loader") and "xen-pvgrub" in selected(item.config):
        item.add_marker("row")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the container's tests where it is not asked for, and where nothing else is, all others; and tests of a
    domain on KVM's machines, which are none.
    """
    wanted = selected(config)

    def asked_for(item: pytest.Item) -> bool:
        if TESTS not in item.path.parents and item.get_closest_marker("targets") is None:
            return True
        if target_of(item) in KVM_ROWS and "domain" in getattr(item, "fixturenames", ()):
            return False
        return CONTAINER in wanted if target_of(item) == CONTAINER else wanted != (CONTAINER,)

    left_out = [item for item in items if not asked_for(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if asked_for(item)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test of a guest runs once for each target."""
    if "target" in metafunc.fixturenames:
        # The same list for each test: pytest puts together by a parameter's place in it what has one machine.
        row = [] if metafunc.definition.get_closest_marker("second_boot") else [pytest.mark.row]
        second = pytest.mark.xdist_group("second host")
        each = [
            pytest.param(target, marks=[*row, second] if target in SECOND else row) for target in rows(metafunc.config)
        ]
        metafunc.parametrize("target", each, scope="session")


@pytest.fixture(scope="session")
def prepared(golden: Golden, duo: Tenant, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """A clone for the tenant duo, with the lab's kernel options: a Xen host is emulated here."""
    workdir = tmp_path_factory.mktemp("xen")
    return prepare(golden, duo, workdir, IdentityStore(workdir / "identities"), lab_options=True)


@pytest.fixture(scope="session")
def for_xen(prepared: Prepared) -> Clone:
    """What `invoke clone --target xen-pvh` makes of the same tenant: whole disks, and an xl.cfg that names them."""
    record = prepared.golden.record
    given = Given(record.memory_mib, record.vcpus)

    def define(clone: Clone) -> dict[str, str]:
        return {"xl.cfg": xl_config(clone, "xen-pvh", given).text()}

    store = IdentityStore(prepared.workdir / "identities")
    wanted = [(prepared.tenant, prepared.workdir / "clones" / prepared.tenant.name, ())]
    return make_clones(prepared.golden, wanted, store, data_mib=64, define=define, target="xen-pvh")[0][0]


def disks_of(clone: Clone, folder: Path) -> list[GuestDisk]:
    """A clone's two disks, by overlays and under the names in its xl.cfg."""
    disks = []
    for kind, disk in (("system", clone.disk), ("data", clone.data)):
        assert disk is not None
        own = folder / f"for-xen-{kind}.qcow2"
        run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", disk, own])
        disks.append(GuestDisk(f"pbx-{kind}", own, f"/dev/pbx/{clone.name}-{kind}"))
    return disks


def saved_disk(prepared: Prepared, host: str) -> GuestDisk:
    """Room for a saved guest of a host."""
    saved = prepared.workdir / f"saved-{host}.qcow2"
    run(["qemu-img", "create", "-q", "-f", "qcow2", saved, f"{2 * prepared.golden.record.memory_mib}M"])
    return GuestDisk("saved", saved, SAVED)


@pytest.fixture(scope="session")
def second_lab(prepared: Prepared, pytestconfig: pytest.Config) -> Iterator[XenLab]:
    """The host of the rows that the other processor has."""
    targets = [target for target in XEN_TARGETS if target in selected(pytestconfig) and target in SECOND]
    disks = [saved_disk(prepared, "second")]
    with xen_lab(prepared, targets, prepared.workdir / "second", more_disks=disks, grow_mib=GROW_MIB) as ready:
        yield ready


def lab_of(request: pytest.FixtureRequest, target: str) -> XenLab:
    """The Xen host of a row."""
    found: XenLab = request.getfixturevalue("second_lab" if target in SECOND else "lab")
    return found


@pytest.fixture(scope="session")
def lab(prepared: Prepared, request: pytest.FixtureRequest) -> Iterator[XenLab]:
    """The Xen host, with the disks of those tests that run."""
    wanted, running = selected(request.config), {item.path.name for item in request.session.items}
    # Tests of what goes wrong need these, whichever are asked for.
    targets = [target for target in XEN_TARGETS if target in wanted or target in ("xen-pv", "xen-pvgrub")]
    disks = [saved_disk(prepared, "first")]
    if "test_xen_failures.py" in running:
        disks += spoiled_disks(prepared, prepared.workdir)
    if "test_xen_clone.py" in running:
        disks += disks_of(request.getfixturevalue("for_xen"), prepared.workdir)
    with xen_lab(prepared, targets, prepared.workdir / "host", more_disks=disks, grow_mib=GROW_MIB) as ready:
        yield ready


@pytest.fixture(scope="session")
def booted(request: pytest.FixtureRequest, prepared: Prepared, target: str) -> Iterator[tuple[AnyGuest, SipAnswer]]:
    """The clone on one target, when it has answered its first SIP request."""
    if target in KVM_ROWS:
        # The clone's disk is the Xen overlays' backing file: this machine has an overlay of its own, too.
        disk = overlay(prepared, prepared.workdir / f"{target}.qcow2")
        own = replace(prepared, clone=replace(prepared.clone, disk=disk))
        hardware = Hardware(firmware="uefi" if target == "kvm-uefi" else "bios")
        with powered_on(own, hardware, name=target) as machine:
            yield machine, machine.machine.wait_sip(machine.address, timeout_s=BOOT_S)
        return
    with lab_of(request, target).powered_on(next(name for name in XEN_TARGETS if name == target)) as domain:
        yield domain, domain.machine.wait_sip(domain.address, timeout_s=BOOT_S)


@pytest.fixture
def guest(booted: tuple[AnyGuest, SipAnswer]) -> AnyGuest:
    """The running clone."""
    return booted[0]


@pytest.fixture(scope="session")
def pbx(booted: tuple[AnyGuest, SipAnswer]) -> Pbx:
    """The same, for the checks that are made of every clone."""
    return just_booted(*booted)


@pytest.fixture(scope="session")
def host(pbx: Pbx) -> testinfra.host.Host:
    """The clone as testinfra sees it."""
    return testinfra.get_host(f"ssh://{pbx.guest.ssh.host}", ssh_config=str(pbx.guest.ssh.config), timeout=180)


@pytest.fixture(scope="session")
def phones(pbx: Pbx, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Phones]:
    """The phone agent beside the clone."""
    with Phones(pbx.guest.network, workdir=tmp_path_factory.mktemp("phones")) as agent:
        yield agent


@pytest.fixture(scope="session")
def anna(pbx: Pbx, phones: Phones) -> Phone:
    """The phone of extension 101, registered."""
    return registered(pbx, phones, "101")


@pytest.fixture(scope="session")
def ben(pbx: Pbx, phones: Phones) -> Phone:
    """The phone of extension 102, registered."""
    return registered(pbx, phones, "102")


@pytest.fixture(autouse=True)
def in_the_matrix(request: pytest.FixtureRequest, record_property: Record) -> None:
    """A test that has a target is a cell of the matrix."""
    target = target_of(request.node)
    if target:
        record_property(TARGET, target)


@pytest.fixture
def about(
    request: pytest.FixtureRequest, booted: tuple[AnyGuest, SipAnswer], target: str, record_property: Record
) -> None:
    """What is true of the whole matrix, and under which accelerator and QEMU the target runs."""
    record = booted[0].prepared.golden.record
    record_property(f"{ABOUT}_image", f"{record.appliance} {record.full_version}")
    record_property(f"{ABOUT}_golden_digest", f"sha256:{record.golden_digest}")
    machine = booted[0].machine
    emulator = machine.host if isinstance(machine, XenDomain) else machine
    record_property("accelerator", emulator.accelerator.name)
    record_property("golden_digest", record.golden_digest[:12])
    version = emulator.qmp("query-version")
    assert isinstance(version, dict)
    record_property("qemu", version["package"] or ".".join(map(str, version["qemu"].values())))
    if target not in KVM_ROWS:
        lab = lab_of(request, target)
        info = dict(line.split(":", 1) for line in lab.host.xl("info").stdout.splitlines() if ":" in line)
        info = {name.strip(): value.strip() for name, value in info.items()}
        record_property(f"{ABOUT}_xen", f"{info['xen_major']}.{info['xen_minor']}{info['xen_extra']}")
        record_property(f"{ABOUT}_dom0", info["release"])
        record_property(f"{ABOUT}_xen_host_ready_s", round(lab.ready_s, 1))
