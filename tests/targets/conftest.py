"""The Xen host, and a clone of the one golden image on each of its targets, in turn."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import get_args

import pytest

from centralita.clone.identity import IdentityStore
from centralita.image.build import Golden
from centralita.lab.guest import Prepared, prepare
from centralita.lab.sip import SipAnswer
from centralita.lab.xen.config import XenTarget
from centralita.lab.xen.lab import XenGuest, XenLab, xen_lab
from centralita.spec.tenant import Tenant
from tests.matrix import ABOUT, TARGET

BOOT_S = 420.0
# One loader for each kind of guest that boots in a minute or two; the others by --target.
QUICK: tuple[XenTarget, ...] = ("xen-pv", "xen-pvh")
Record = Callable[[str, object], None]


def selected(config: pytest.Config) -> tuple[XenTarget, ...]:
    """The Xen targets that are asked for."""
    wanted = [word for word in str(config.getoption("--target")).split(",") if word]
    if not wanted:
        return QUICK
    return tuple(target for target in get_args(XenTarget) if target in wanted)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test of a Xen guest runs once for each target."""
    if "xen_target" in metafunc.fixturenames:
        metafunc.parametrize("xen_target", selected(metafunc.config), scope="session")


@pytest.fixture(scope="session")
def prepared(golden: Golden, duo: Tenant, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """A clone for the tenant duo, with the lab's kernel options: a Xen host is emulated here."""
    workdir = tmp_path_factory.mktemp("xen")
    return prepare(golden, duo, workdir, IdentityStore(workdir / "identities"), lab_options=True)


@pytest.fixture(scope="session")
def lab(prepared: Prepared, pytestconfig: pytest.Config) -> Iterator[XenLab]:
    """The Xen host."""
    targets = dict.fromkeys((*selected(pytestconfig), "xen-pv"))
    with xen_lab(prepared, list(targets), prepared.workdir / "host") as ready:
        yield ready


@pytest.fixture(scope="session")
def booted(lab: XenLab, xen_target: XenTarget) -> Iterator[tuple[XenGuest, SipAnswer]]:
    """The clone on one target, when it has answered its first SIP request."""
    with lab.powered_on(xen_target) as guest:
        yield guest, guest.machine.wait_sip(guest.address, timeout_s=BOOT_S)


@pytest.fixture
def guest(booted: tuple[XenGuest, SipAnswer]) -> XenGuest:
    """The running clone."""
    return booted[0]


@pytest.fixture(autouse=True)
def in_the_matrix(request: pytest.FixtureRequest, record_property: Record) -> None:
    """A test that has a target is a cell of the matrix."""
    callspec = getattr(request.node, "callspec", None)
    if callspec is not None and "xen_target" in callspec.params:
        record_property(TARGET, callspec.params["xen_target"])


@pytest.fixture
def about(lab: XenLab, record_property: Record) -> None:
    """What is true of the whole matrix."""
    record = lab.prepared.golden.record
    info = dict(line.split(":", 1) for line in lab.host.xl("info").stdout.splitlines() if ":" in line)
    info = {name.strip(): value.strip() for name, value in info.items()}
    qemu = lab.host.qmp("query-version")
    assert isinstance(qemu, dict)
    record_property(f"{ABOUT}_image", f"{record.appliance} {record.full_version}")
    record_property(f"{ABOUT}_golden_digest", f"sha256:{record.golden_digest}")
    record_property(f"{ABOUT}_xen", f"{info['xen_major']}.{info['xen_minor']}{info['xen_extra']}")
    record_property(f"{ABOUT}_dom0", info["release"])
    record_property(f"{ABOUT}_qemu", f"{json.dumps(qemu['package'])} ({lab.host.accelerator.name})")
    record_property(f"{ABOUT}_host_ready_s", round(lab.ready_s, 1))
