"""`invoke depot.cve` and `publish --fail-on-cve`: the known vulnerabilities of a release, for people and programs."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from centralita.depot.client import Depot, read_key
from centralita.depot.cve import LEVELS, Finding, Report, check, report, thresholds
from centralita.depot.cve_data import MAX_AGE_DAYS, load_data
from centralita.depot.documents import Paper, paper
from centralita.depot.reader import open_reader
from centralita.depot.record import Release
from centralita.desk.depots import Examine
from centralita.ground.report import get_reporter, make_reporter, set_reporter

WIDTH = 150


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def show_report(
    depot: str,
    release: str,
    *,
    data: str,
    fail_on: str,
    accept: str,
    suite: str,
    max_age_days: int,
    every: bool,
    as_json: bool,
    key: str,
) -> None:
    """Judge a release of a depot, verified, and show what is found. Raises CentralitaError beyond the threshold."""
    thresholds(fail_on)
    if as_json:  # what a program reads is alone on standard output
        set_reporter(make_reporter("plain", sys.stderr))
    opened = Depot.open(open_reader(depot), read_key(key) if key else None)
    name, _at, version = release.partition("@")
    found = report(
        opened.release(opened.find(name, version)),
        load_data(data, max_age_days=max_age_days),
        suite=suite,
        accept=_names(accept),
    )
    if as_json:
        print(found.as_bytes().decode(), end="")
    else:
        show(found, every=every)
    check(found, fail_on)


def examiner(fail_on: str, data: str, accept: str) -> Examine | None:
    """What a publish does about vulnerabilities: nothing, unless one of these was given. Raises CentralitaError."""
    thresholds(fail_on)
    if not (fail_on or data or accept):
        return None

    def examine(release: Release) -> tuple[Paper, ...]:
        found = report(release, load_data(data, max_age_days=MAX_AGE_DAYS), accept=_names(accept))
        tell(found)
        check(found, fail_on, "--fail-on-cve")
        return (paper("cve", ".json", "application/json", found.as_bytes()),)

    return examine


def counted(findings: Iterable[Finding]) -> str:
    """`2 high, 14 medium`, or `none`."""
    counts = Counter(finding.level for finding in findings)
    return ", ".join(f"{counts[level]} {level}" for level in LEVELS if counts[level]) or "none"


def tell(found: Report) -> None:
    """The report in a few lines, and what it cannot say."""
    mended = [finding for finding in found.findings if finding.state == "fix available"]
    accepted = [finding for finding in found.findings if finding.accepted]
    rows = {
        "by": f"{found.data_source}, as of {found.data_date:%Y-%m-%d %H:%M} UTC",
        "looked at": f"{found.packages} packages of {found.sources} sources, Debian {found.suite}",
        "vulnerabilities": counted(found.findings),
        "mended in Debian": counted(mended),
        "left behind": f"{found.resolved} issues are resolved in these versions",
    }
    if accepted:
        rows["accepted"] = ", ".join(sorted({finding.issue for finding in accepted}))
    reporter = get_reporter()
    reporter.summary(f"vulnerabilities of {found.appliance} {found.version}", rows)
    if found.unknown:
        reporter.warn(
            f"{len(found.unknown)} packages were not looked at, their source package is not recorded: "
            + ", ".join(found.unknown)
        )
    if found.unwatched:
        reporter.warn(f"Debian has these sources in no suite any more, nobody watches them: {_joined(found.unwatched)}")


def _joined(names: Iterable[str]) -> str:
    return ", ".join(names)


def show(found: Report, *, every: bool) -> None:
    """A table by source package, then the issues: those that are grave or mended, or with *every* all."""
    tell(found)
    if not found.findings:
        return
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    console.print(_sources(found))
    chosen = [f for f in found.findings if every or f.level == "high" or f.state == "fix available"]
    if chosen:
        console.print()
        console.print(_issues(chosen))
    if len(chosen) < len(found.findings):
        console.print(f"\n{len(found.findings) - len(chosen)} more that are not grave and not mended: --all, or --json")


def _sources(found: Report) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("source", "version", *LEVELS, "mended by"):
        table.add_column(heading, justify="right" if heading in LEVELS else "left", overflow="fold")
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in found.findings:
        groups.setdefault((finding.source, finding.version), []).append(finding)
    for (source, version), findings in groups.items():
        counts = Counter(finding.level for finding in findings)
        mended = sorted({f"{f.fixed_version} ({f.fixed_in})" for f in findings if f.state == "fix available"})
        table.add_row(source, version, *(str(counts[level] or "") for level in LEVELS), ", ".join(mended))
    return table


def _issues(findings: Iterable[Finding]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("issue", "source", "level", "state", "safe from", "what"):
        table.add_column(heading, overflow="fold" if heading != "what" else "ellipsis", no_wrap=heading != "safe from")
    for f in findings:
        safe = f"{f.fixed_version} ({f.fixed_in})" if f.fixed_version else ""
        state = f.state + (", accepted" if f.accepted else "")
        table.add_row(f.issue, f.source, f.level, state, safe, f.reason or f.description)
    return table
