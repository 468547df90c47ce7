"""`invoke run`: a throw-away clone of an appliance for a tenant, as long as somebody looks at it."""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

from centralita.clone.identity import IdentityStore
from centralita.ground import accel, paths
from centralita.ground import ledger as ledgers
from centralita.ground.errors import CentralitaError
from centralita.ground.report import get_reporter
from centralita.image.build import build
from centralita.lab import sip, terminal
from centralita.lab.firmware import Firmware
from centralita.lab.guest import Guest, Hardware, Prepared, powered_on, prepare
from centralita.lab.machine import MachineError
from centralita.lab.net import LabNetwork
from centralita.lab.netns import enter_argv
from centralita.lab.ssh import SshAccess
from centralita.spec.tenant import load_tenant

# A crowded host that emulates is slow; whoever waits sees how long it has been, and can stop.
BOOT_TIMEOUT_S = 300.0
POWERDOWN_TIMEOUT_S = 90.0


def run_session(
    appliance: str, tenant_file: str, *, console: bool = False, firmware: str = "bios", lab_options: bool = True
) -> None:
    """Boot a throw-away clone, tell how to reach it, and stay until Ctrl-C; then power it down and remove it all.

    `console` attaches the terminal to the serial console, with a root shell on it. `lab_options` adds the lab's
    kernel options where the machine is emulated; without them it boots exactly as a published image does.

    Raises:
        SpecError, CentralitaError: a file is wrong, the image cannot be built, or the clone does not come up.
    """
    if firmware not in get_args(Firmware):
        raise CentralitaError(f"unknown firmware {firmware!r}", hint=f"one of {', '.join(get_args(Firmware))}")
    if console and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise CentralitaError("--console needs a terminal", hint="without it, the console is in the log that is shown")
    tenant = load_tenant(tenant_file)
    if console:
        # This clone is thrown away: a shell on its console opens nothing that lasts.
        tenant = tenant.model_copy(update={"console": "autologin"})
    reporter = get_reporter()
    golden = build(appliance)
    with ledgers.default().tempdir(f"centralita-run-{tenant.name}-") as workdir:
        with reporter.step(f"clone for {tenant.name}"):
            options = lab_options and accel.probe().name == "tcg"
            prepared = prepare(golden, tenant, workdir, IdentityStore(), lab_options=options)
        hardware = Hardware(firmware=firmware)  # type: ignore[arg-type] # checked above
        with log_kept(prepared), powered_on(prepared, hardware) as guest:
            if console:
                terminal.attach(guest.machine)
                if guest.machine.running:
                    _show(guest)
                    if sip.ping(guest.network, guest.address) is None:
                        reporter.warn("it does not answer SIP (yet)")
            else:
                _await_answer(guest)
            _stay(guest)


def _await_answer(guest: Guest) -> None:
    reporter = get_reporter()
    with reporter.step("boot") as step:
        step.note(f"{guest.machine.accelerator.name}: {guest.machine.accelerator.reason}")
        answer = guest.machine.wait_sip(guest.address, timeout_s=BOOT_TIMEOUT_S)
    _show(guest, answer)


def _show(guest: Guest, answer: sip.SipAnswer | None = None) -> None:
    prepared = guest.prepared
    rows = access_rows(prepared, guest.network, guest.ssh)
    rows["hvc0"] = f"socat -,raw,echo=0,escape=0x1d unix-connect:{shlex.quote(str(guest.machine.hvc0_socket))}"
    rows["console"] = str(guest.machine.console_log)
    rows["clone"] = str(prepared.clone.disk)
    if answer is not None:
        rows["first answer"] = f"{answer.status} {answer.reason}, {answer.seconds:.1f} s after power on"
    get_reporter().summary(f"{prepared.tenant.name} is up", rows)


def access_rows(prepared: Prepared, network: LabNetwork, ssh: SshAccess) -> dict[str, str]:
    """Return how a running clone is reached, for the closing table."""
    namespace = network.name
    shell = enter_argv(namespace, [])
    numbers = ", ".join(extension.number for extension in prepared.tenant.extensions[:8])
    more = len(prepared.tenant.extensions) - 8
    return {
        "SIP": f"sip:NUMBER@{prepared.address} (UDP and TCP 5060); extensions {numbers}" + (" …" if more > 0 else ""),
        "secrets": f"{IdentityStore().root / (prepared.tenant.name + '.json')} (where the tenant's file has none)",
        "SSH": shlex.join(ssh.argv()),
        "network": f"{namespace}: {network.subnet}, this side is {network.host_address}; "
        f"commands in it: {shlex.join(shell)} …",
    }


def _stay(guest: Guest) -> None:
    """Wait until the user or the guest itself ends it."""
    reporter = get_reporter()
    try:
        if guest.machine.running:
            # Whoever reads it may press it at once.
            reporter.info("Ctrl-C powers it down and removes it")
        guest.machine.wait_exit(timeout_s=float("inf"))
        reporter.info("the guest has powered itself off")
    except KeyboardInterrupt:
        with reporter.step("power down"):
            try:
                guest.machine.powerdown(timeout_s=POWERDOWN_TIMEOUT_S)
            except MachineError:
                reporter.warn(f"it did not shut down within {POWERDOWN_TIMEOUT_S:g} s, and was switched off")


@contextmanager
def log_kept(prepared: Prepared) -> Iterator[None]:
    """Keep the console's log of a machine that failed: its folder is about to be removed."""
    try:
        yield
    except MachineError as error:
        kept = paths.logs_dir() / f"run-{prepared.tenant.name}-{time.strftime('%Y%m%d-%H%M%S')}-console.log"
        if error.log is not None and Path(error.log).exists():
            shutil.copyfile(error.log, kept)
            raise MachineError(error.message, hint=error.hint, log=kept) from error
        raise
