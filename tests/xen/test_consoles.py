"""A tenant with `console: autologin` works at each console that a kind of guest has."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from centralita.clone.identity import IdentityStore
from centralita.clone.xl import XenTarget
from centralita.image.build import Golden
from centralita.lab.guest import prepare
from centralita.lab.machine import MachineError
from centralita.lab.xen.lab import XenLab, xen_lab
from centralita.spec.tenant import Tenant
from tests.xen.conftest import DOWN_S, boot_s

pytestmark = pytest.mark.xdist_group("xen")

KINDS: tuple[XenTarget, ...] = ("xen-pv", "xen-pvh", "xen-hvm")
TYPED_S, TRIES = 30.0, 5


@pytest.fixture(scope="module")
def lab(golden: Golden, duo: Tenant, tmp_path_factory: pytest.TempPathFactory) -> Iterator[XenLab]:
    """A Xen host for a clone whose consoles have shells."""
    workdir = tmp_path_factory.mktemp("consoles")
    tenant = duo.model_copy(update={"console": "autologin"})
    prepared = prepare(golden, tenant, workdir, IdentityStore(workdir / "identities"), lab_options=True)
    with xen_lab(prepared, KINDS, workdir / "host") as ready:
        yield ready


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_typed_on_each_console_is_done(lab: XenLab, kind: XenTarget, tmp_path: Path) -> None:
    with lab.powered_on(kind) as guest:
        domain = guest.machine
        domain.wait_sip(guest.address, timeout_s=boot_s(kind))
        consoles: dict[str, Callable[[str], None]] = {"hvc0": domain.send}
        if kind == "xen-hvm":  # the others have no serial port
            consoles["ttyS0"] = domain.send_serial
        for device, send in consoles.items():
            for attempt in range(TRIES):
                # A shell that is just being started may throw away what was typed before it.
                send(f"echo $(tty) $((6*7)) attempt {attempt}\n")
                with contextlib.suppress(MachineError):
                    domain.wait_console(rf"^/dev/{device} 42 attempt \d$", timeout_s=TYPED_S)
                    break
            else:
                pytest.fail(f"{device} did not answer: {domain.console.last_lines()}")
        domain.powerdown(timeout_s=DOWN_S)
