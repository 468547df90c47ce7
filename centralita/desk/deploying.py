"""`invoke deploy`, `invoke undeploy` and `invoke status`: clones on their hosts, and what is told of it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import PurePosixPath

from centralita.ground.errors import CentralitaError
from centralita.ground.report import get_reporter
from centralita.hosts.deploy import Options
from centralita.hosts.deploy import deploy as bring
from centralita.hosts.records import find_clone
from centralita.hosts.status import statuses
from centralita.hosts.undeploy import undeploy as take


def deploy(name: str, *, host: str, from_: str, to: str, dry_run: bool, start: bool, replace: bool) -> None:
    """Deploy a clone and tell what was done."""
    if not host:
        raise CentralitaError("no host is named", hint="--host qemu:///system, or qemu+ssh://USER@HOST/system")
    if not PurePosixPath(to).is_absolute():
        raise CentralitaError(f"--to {to} is no absolute path of the host")
    clone = find_clone(name, from_)
    outcome = bring(clone, Options(host, PurePosixPath(to), dry_run, start, replace))
    reporter = get_reporter()
    if dry_run:
        for change in outcome.changes:
            reporter.info(f"would {change}")
    if not outcome.changes:
        reporter.info(f"{clone.name} on {host} is as it should be: nothing was changed")
    if outcome.answer is not None:
        rows = {"host": host, "address": str(outcome.address), "MAC": clone.mac}
        rows["answer"] = f"{outcome.answer.status} {outcome.answer.reason} ({outcome.answer.server or 'no Server'})"
        reporter.summary(f"{clone.name} answers", rows)


def undeploy(name: str, *, from_: str, purge: bool) -> None:
    """Take a clone from its host."""
    for line in take(find_clone(name, from_).folder, purge=purge) or [f"{name} is on no host"]:
        get_reporter().info(line)


def show_status(as_json: bool) -> None:
    """Show all clones, as a table or as JSON."""
    found = statuses()
    if as_json:
        print(json.dumps([asdict(status) for status in found], indent=2, ensure_ascii=False))
        return
    if not found:
        print("no clones; invoke clone APPLIANCE --tenant FILE makes one")
        return
    rows = [("clone", "state", "SIP", "host", "address", "image")]
    sip = {True: "answers", False: "silent", None: "-"}
    for status in found:
        image = f"{status.appliance} {status.version} ({status.target})"
        rows.append((status.name, status.state, sip[status.sip], status.host or "-", status.address or "DHCP", image))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
