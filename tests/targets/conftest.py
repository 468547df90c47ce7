"""A clone of the one golden image on each target, in turn: by KVM's machine, and on the lab's Xen host."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from centralita.clone.identity import IdentityStore
from centralita.ground.run import run
from centralita.image.build import Golden
from centralita.lab.guest import Guest, Prepared, powered_on, prepare
from centralita.lab.sip import SipAnswer
from centralita.lab.xen.config import XEN_TARGETS
from centralita.lab.xen.domain import XenDomain
from centralita.lab.xen.lab import XenGuest, XenLab, xen_lab
from centralita.spec.tenant import Tenant
from tests.matrix import ABOUT, TARGET

BOOT_S = 420.0
# One loader for each kind of guest that boots in a minute or two; the others by --target.
QUICK = ("xen-pv", "xen-pvh")
TARGETS = ("kvm", *XEN_TARGETS)
AnyGuest = Guest | XenGuest
Record = Callable[[str, object], None]


def selected(config: pytest.Config) -> tuple[str, ...]:
    """The targets that are asked for."""
    wanted = [word for word in str(config.getoption("--target")).split(",") if word]
    return tuple(target for target in TARGETS if target in wanted) if wanted else QUICK


def rows(config: pytest.Config) -> tuple[str, ...]:
    """Of these, the ones that boot: test_xen_failures.py says why the other one does not."""
    return tuple(target for target in selected(config) if target != "xen-pvgrub")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test of a guest runs once for each target."""
    if "target" in metafunc.fixturenames:
        metafunc.parametrize("target", rows(metafunc.config), scope="session")


@pytest.fixture(scope="session")
def prepared(golden: Golden, duo: Tenant, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """A clone for the tenant duo, with the lab's kernel options: a Xen host is emulated here."""
    workdir = tmp_path_factory.mktemp("xen")
    return prepare(golden, duo, workdir, IdentityStore(workdir / "identities"), lab_options=True)


@pytest.fixture(scope="session")
def lab(prepared: Prepared, pytestconfig: pytest.Config) -> Iterator[XenLab]:
    """The Xen host."""
    wanted = selected(pytestconfig)
    # Tests of what goes wrong need these, whichever are asked for.
    targets = [target for target in XEN_TARGETS if target in wanted or target in ("xen-pv", "xen-pvgrub")]
    with xen_lab(prepared, targets, prepared.workdir / "host") as ready:
        yield ready


@pytest.fixture(scope="session")
def booted(request: pytest.FixtureRequest, prepared: Prepared, target: str) -> Iterator[tuple[AnyGuest, SipAnswer]]:
    """The clone on one target, when it has answered its first SIP request."""
    if target == "kvm":
        # The clone's disk is the Xen overlays' backing file: this machine has an overlay of its own, too.
        overlay = prepared.workdir / "kvm.qcow2"
        run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", prepared.clone.disk, overlay])
        overlay.chmod(0o600)
        with powered_on(replace(prepared, clone=replace(prepared.clone, disk=overlay))) as machine:
            yield machine, machine.machine.wait_sip(machine.address, timeout_s=BOOT_S)
        return
    lab: XenLab = request.getfixturevalue("lab")
    with lab.powered_on(next(name for name in XEN_TARGETS if name == target)) as domain:
        yield domain, domain.machine.wait_sip(domain.address, timeout_s=BOOT_S)


@pytest.fixture
def guest(booted: tuple[AnyGuest, SipAnswer]) -> AnyGuest:
    """The running clone."""
    return booted[0]


@pytest.fixture(autouse=True)
def in_the_matrix(request: pytest.FixtureRequest, record_property: Record) -> None:
    """A test that has a target is a cell of the matrix."""
    callspec = getattr(request.node, "callspec", None)
    if callspec is not None and "target" in callspec.params:
        record_property(TARGET, callspec.params["target"])


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
    version = emulator.qmp("query-version")
    assert isinstance(version, dict)
    record_property("qemu", version["package"] or ".".join(map(str, version["qemu"].values())))
    if target != "kvm":
        lab: XenLab = request.getfixturevalue("lab")
        info = dict(line.split(":", 1) for line in lab.host.xl("info").stdout.splitlines() if ":" in line)
        info = {name.strip(): value.strip() for name, value in info.items()}
        record_property(f"{ABOUT}_xen", f"{info['xen_major']}.{info['xen_minor']}{info['xen_extra']}")
        record_property(f"{ABOUT}_dom0", info["release"])
        record_property(f"{ABOUT}_xen_host_ready_s", round(lab.ready_s, 1))
