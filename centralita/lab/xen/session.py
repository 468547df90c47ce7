"""`invoke run --target xen-…`: a throw-away clone as a domain on the lab's Xen host, while somebody looks at it."""

from __future__ import annotations

import sys
import threading
from contextlib import ExitStack
from typing import get_args

from centralita.clone.identity import IdentityStore
from centralita.clone.xl import XenTarget
from centralita.ground import ledger as ledgers
from centralita.ground.errors import CentralitaError
from centralita.ground.report import get_reporter
from centralita.image.build import build
from centralita.lab import terminal
from centralita.lab.guest import prepare
from centralita.lab.session import POWERDOWN_TIMEOUT_S, access_rows, log_kept
from centralita.lab.xen.lab import XenGuest, XenLab, xen_lab
from centralita.spec.tenant import load_tenant

BOOT_TIMEOUT_S = 600.0


def run_xen_session(
    appliance: str, tenant_file: str, target: str, *, console: bool = False, lab_options: bool = True
) -> None:
    """Boot a throw-away clone as a Xen guest, tell how to reach it, and stay until Ctrl-C.

    Raises:
        SpecError, CentralitaError: a file is wrong, or the host or the clone does not come up.
    """
    known = {name: name for name in get_args(XenTarget)}
    if target not in known:
        raise CentralitaError(f"unknown target {target!r}", hint=f"kvm, {', '.join(known)}")
    if console and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise CentralitaError("--console needs a terminal", hint="without it, the console is in the log that is shown")
    tenant = load_tenant(tenant_file)
    if console:
        # This clone is thrown away: a shell on its console opens nothing that lasts.
        tenant = tenant.model_copy(update={"console": "autologin"})
    reporter = get_reporter()
    golden = build(appliance)
    with ledgers.default().tempdir(f"centralita-run-{tenant.name}-") as workdir, ExitStack() as stack:
        with reporter.step(f"clone for {tenant.name}"):
            prepared = prepare(golden, tenant, workdir, IdentityStore(), lab_options=lab_options)
        stack.enter_context(log_kept(prepared))
        with reporter.step("Xen host") as step:
            step.note("Xen and dom0 in emulation")
            lab = stack.enter_context(xen_lab(prepared, [known[target]], workdir / "host"))
        guest = stack.enter_context(lab.powered_on(known[target]))
        if console:
            terminal.attach(guest.machine)
        with reporter.step("boot") as step:
            step.note(target)
            answer = guest.machine.wait_sip(guest.address, timeout_s=BOOT_TIMEOUT_S)
        rows = access_rows(prepared, guest.network, guest.ssh)
        rows["xl.cfg"] = guest.machine.config_path + " in dom0"
        rows["console"] = str(guest.machine.console_log)
        rows["Xen and dom0"] = f"{lab.host.console_log} (up after {lab.ready_s:.1f} s)"
        rows["first answer"] = f"{answer.status} {answer.reason}, {answer.seconds:.1f} s after xl create"
        reporter.summary(f"{tenant.name} is up as {target}", rows)
        _stay(lab, guest)


def _stay(lab: XenLab, guest: XenGuest) -> None:
    reporter = get_reporter()
    try:
        # Whoever reads it may press it at once.
        reporter.info("Ctrl-C powers it down and removes it")
        guest.machine.wait_end(timeout_s=threading.TIMEOUT_MAX / 2)
        reporter.info("the guest has powered itself off")
    except KeyboardInterrupt:
        with reporter.step("power down"):
            try:
                guest.machine.powerdown(timeout_s=POWERDOWN_TIMEOUT_S)
            except CentralitaError:
                reporter.warn(f"it did not shut down within {POWERDOWN_TIMEOUT_S:g} s, and was destroyed")
