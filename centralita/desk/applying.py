"""`invoke apply`: the difference between a tenant's file and its running clone is shown, and then made none."""

from __future__ import annotations

import json
import os
import shutil
import sys
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from centralita.clone.files import GuestFile
from centralita.clone.identity import Identity, IdentityStore
from centralita.clone.render import render
from centralita.ground.errors import CentralitaError
from centralita.ground.report import RichReporter, get_reporter
from centralita.hosts.access import Access, Reached, reach
from centralita.hosts.address import parse_host
from centralita.hosts.apply import Proposal, carry_out, propose, refuse, write_keys
from centralita.hosts.apply_plan import KEYS
from centralita.hosts.deploy import reached
from centralita.hosts.records import APPLIED, TENANT, ClonedFolder, find_clone, read_deployed, write_deployed
from centralita.spec.tenant import Tenant, load_tenant


def apply(
    file: str,
    *,
    address: str = "",
    key: str = "",
    ssh_config: str = "",
    from_: str = "",
    dry_run: bool = False,
    yes: bool = False,
) -> None:
    """Apply a tenant's file to its running clone; raises CentralitaError, and then all is as it was."""
    tenant = load_tenant(file)
    store = IdentityStore()
    if store.get(tenant.name) is None:
        raise CentralitaError(f"{tenant.name} has no identity here", hint="run this on the build host that cloned it")
    clone = _clone_of(tenant, from_, required=not address)
    identity = store.get_or_create(tenant)
    files = render(tenant, identity)
    reporter = get_reporter()
    with reach(_access(tenant, clone, address, key, ssh_config), identity) as machine:
        with reporter.step(f"read {tenant.name}"):
            proposal = propose(machine.shell, files, identity)
        for line in proposal.lines:
            _show(line)
        for note in proposal.plan.notes:
            reporter.info(note)
        refuse(proposal, tenant.name)
        if proposal.nothing:
            reporter.info(f"{tenant.name} is as {file} says: nothing to change")
        elif dry_run:
            reporter.info(
                f"would change {_counted(proposal)}, and then: {'; '.join(proposal.plan.reload) or 'nothing'}"
            )
        else:
            _confirm(tenant.name, _counted(proposal), yes=yes)
            _carry_out(machine, proposal, tenant)
    if clone is not None and not dry_run:
        _record(clone, Path(file), identity)


def _clone_of(tenant: Tenant, from_: str, *, required: bool) -> ClonedFolder | None:
    with suppress(CentralitaError):
        clone = find_clone(tenant.name, from_)
        if clone.name == tenant.name:
            return clone
    if required and tenant.network.address is None:
        raise CentralitaError(f"there is no clone {tenant.name} here", hint="--address says where it runs")
    return None


def _access(tenant: Tenant, clone: ClonedFolder | None, address: str, key: str, ssh_config: str) -> Access:
    """Return the way to the clone: what was given, else its static address, else what its host knows of it."""
    for given in filter(None, (key, ssh_config)):
        if not Path(given).is_file():
            raise CentralitaError(f"there is no file {given}")
    if address.startswith("-"):
        raise CentralitaError(f"--address {address} is no address")
    keyfile, config = (Path(given).absolute() if given else None for given in (key, ssh_config))
    if address:
        return Access(address, keyfile, config)
    deployed = read_deployed(clone.folder) if clone is not None else None
    host = parse_host(deployed.host) if deployed is not None else None
    via = host.ssh if host is not None and not config else None
    if tenant.network.address is not None:
        return Access(str(tenant.network.address.ip), keyfile, config, via)
    found = None
    if clone is not None and host is not None:
        with reached(host) as (_shell, driver):
            found = driver.find_address(clone.name, clone.mac)
    if found is None:
        raise CentralitaError(f"the address of {tenant.name} is not known", hint="--address says where it runs")
    return Access(str(found), keyfile, config, via)


def _carry_out(machine: Reached, proposal: Proposal, tenant: Tenant) -> None:
    reporter = get_reporter()
    plan = proposal.plan
    if plan.write or plan.remove or plan.later or proposal.machine.cut:
        with reporter.step(f"apply to {tenant.name}") as step:
            done = carry_out(machine.shell, proposal)
            step.note(f"calls before and after: {done.calls_before}, {done.calls_after}")
        reporter.info(f"{tenant.name}: applied; calls up before {done.calls_before}, after {done.calls_after}")
    if plan.keys is not None:
        with reporter.step("exchange the admins' keys"):
            _exchange_keys(machine, plan.keys, proposal)
        reporter.info(f"{tenant.name}: the admins' keys are the new ones")


def _exchange_keys(machine: Reached, keys: GuestFile, proposal: Proposal) -> None:
    """Give the machine the new keys; they stay only if who applies them can still get in."""
    old = proposal.machine.files.get(KEYS)
    write_keys(machine.shell, keys.content)
    if machine.still_lets_in():
        return
    write_keys(machine.shell, (old.text if old is not None else None) or b"")
    raise CentralitaError(
        "with the new admins' keys you could not get in any more: the old ones are back (all else is applied)",
        hint="keep your own key among the admins of the file, or apply as one of the new ones: --key",
    )


def _confirm(name: str, what: str, *, yes: bool) -> None:
    """Ask who sits at a terminal; a script has asked already (--dry-run)."""
    if yes or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return
    try:
        answer = input(f"Change {what} of {name}? [y/N] ")
    except EOFError:
        answer = ""
    if answer.strip().lower() not in ("y", "yes"):
        raise CentralitaError("nothing was changed", hint="--yes does not ask")


def _counted(proposal: Proposal) -> str:
    plan = proposal.plan
    count = len([f for f in plan.write if not f.directory]) + len(plan.remove) + len(plan.later) + bool(plan.keys)
    if not count and proposal.machine.cut:
        return "nothing but what an apply left that was cut short"
    return f"{count} file{'' if count == 1 else 's'}"


def _record(clone: ClonedFolder, file: Path, identity: Identity) -> None:
    """Enter in the clone's folder what its machine has now: the tenant's file, and when."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    copy = clone.folder / TENANT
    if not copy.is_file() or copy.read_bytes() != file.read_bytes():
        draft = copy.with_name(f".{TENANT}.new")
        draft.unlink(missing_ok=True)
        # It may hold passwords.
        with (
            os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream,
            file.open("rb") as s,
        ):
            shutil.copyfileobj(s, stream)
        draft.replace(copy)
    elif (clone.folder / APPLIED).is_file():
        return
    record = {"schema": 1, "tenant": identity.tenant, "applied": now, "file": str(file.absolute())}
    draft = clone.folder / f".{APPLIED}.new"
    draft.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    draft.replace(clone.folder / APPLIED)
    deployed = read_deployed(clone.folder)
    if deployed is not None:
        write_deployed(clone.folder, replace(deployed, applied=now))


def _show(line: str) -> None:
    """Show a line of a difference: in colour at a terminal, as any other line elsewhere."""
    reporter = get_reporter()
    if not isinstance(reporter, RichReporter):
        reporter.info(line)
        return
    colour = "1" if line.startswith(("---", "+++")) else {"+": "32", "-": "31", "@": "36"}.get(line[:1])
    # Not by the reporter, which would break long lines.
    print(f"\033[{colour}m{line}\033[0m" if colour else line)
