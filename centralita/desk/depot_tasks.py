"""The tasks of releases: keys, publish and pull, and `depot.…`."""

from __future__ import annotations

from invoke.collection import Collection
from invoke.context import Context

from centralita.desk.frame import APPLIANCE, task


@task(help={"export": "write the public keys into this folder"})
def keys(c: Context, export: str = "", progress: str = "auto") -> None:
    """Make the keys that sign releases, where there are none, and tell which they are."""
    from centralita.desk.depots import show_keys

    show_keys(export)


@task(
    first="appliance",
    help={
        "appliance": APPLIANCE,
        "to": "where the depot is: a folder, HOST:FOLDER, rsync+ssh://…, s3://BUCKET/…, oci://HOST/NAME",
        "untested": "release without test results; clients are told",
        "dry_run": "only say what would be written",
        "name": "the depot's name, when it is new",
        "url": "where it will be served, for indexes that need a whole address",
        "valid_days": "for how long clients believe its index",
        "deltas": "from how many releases before it an upgrade shall download little; 0 for none",
        "fail_on_cve": "refuse what has known vulnerabilities: high, medium, low, any, fixed (mended in Debian), none",
        "cve_data": "judge by this file (or address) of Debian's security tracker's data",
        "accept": "issues that are known and accepted, with commas",
    },
)
def publish(
    c: Context,
    appliance: str,
    to: str,
    untested: bool = False,
    dry_run: bool = False,
    name: str = "",
    url: str = "",
    valid_days: int = 30,
    deltas: int = 3,
    fail_on_cve: str = "",
    cve_data: str = "",
    accept: str = "",
    progress: str = "auto",
) -> None:
    """Release the last built image into a depot."""
    from centralita.desk.cves import examiner
    from centralita.desk.depots import publish as release

    release(
        appliance,
        to=to,
        untested=untested,
        dry_run=dry_run,
        name=name,
        url=url,
        valid_days=valid_days,
        deltas=deltas,
        examine=examiner(fail_on_cve, cve_data, accept),
    )


@task(
    first="appliance",
    help={
        "appliance": "the appliance's name in the depot",
        "from": "the depot: http(s)://…, a folder, or where it was published to",
        "version": "a version, with or without its build; the newest if empty",
        "format": "formats to bring, with commas",
        "key": "the publisher's minisign public key, or a file with it; else the key of the first visit holds",
    },
)
def pull(
    c: Context,
    appliance: str,
    from_: str,
    version: str = "",
    format: str = "qcow2",
    key: str = "",
    progress: str = "auto",
) -> None:
    """Bring a release from a depot into output/, verified."""
    from centralita.desk.depots import pull as bring

    bring(appliance, url=from_, version=version, formats=format, key=key)


@task(
    first="depot",
    also=("release",),
    shown_as="depot.cve",
    help={
        "depot": "the depot: http(s)://…, file://… or a folder",
        "release": "the appliance's name there, or NAME@VERSION",
        "data": "a file (or address) of Debian's security tracker's data; else the tracker is asked",
        "fail_on": "exit with status 1 on: high, medium, low, any, fixed (mended in Debian); one or more with commas",
        "accept": "issues that are known and accepted, with commas",
        "suite": "the suite of Debian, where the release does not say it",
        "max_age": "warn of data that are older than so many days",
        "all": "list every issue, not the grave and the mended only",
        "json": "as JSON, for programs",
        "key": "the publisher's minisign public key, or a file with it",
    },
)
def cve(
    c: Context,
    depot: str,
    release: str,
    data: str = "",
    fail_on: str = "",
    accept: str = "",
    suite: str = "",
    max_age: int = 7,
    all: bool = False,
    json: bool = False,
    key: str = "",
    progress: str = "auto",
) -> None:
    """Tell which known vulnerabilities are in a release, by Debian's security tracker."""
    from centralita.desk.cves import show_report

    show_report(
        depot, release, data=data, fail_on=fail_on, accept=accept, suite=suite, max_age_days=max_age, every=all,
        as_json=json, key=key,
    )  # fmt: skip


@task(
    first="depot",
    shown_as="depot.verify",
    help={"depot": "the depot: a folder, http(s)://…, or where it was published to", "key": "the minisign public key"},
)
def verify(c: Context, depot: str, key: str = "", progress: str = "auto") -> None:
    """Check every byte of a depot; what is not as signed is named, and the exit status is 1."""
    from centralita.desk.depots import verify as check_depot

    check_depot(depot, key)


@task(
    first="depot",
    also=("old", "new"),
    shown_as="depot.diff",
    help={
        "depot": "the depot: a folder, or with --no-files http(s)://…",
        "old": "the version that is compared with, with or without its build",
        "new": "the version that is looked at",
        "appliance": "the appliance, where several have these versions",
        "files": "also compare the files in the images, which takes seconds",
        "json": "as JSON, for programs",
    },
)
def diff(
    c: Context,
    depot: str,
    old: str,
    new: str,
    appliance: str = "",
    files: bool = True,
    json: bool = False,
    progress: str = "auto",
) -> None:
    """Tell what differs between two releases: packages, configuration, size, formats, files."""
    from centralita.desk.depots import diff as compare

    compare(depot, old, new, appliance=appliance, files=files, as_json=json)


DEPOT = "where the depot is, as publish takes it"
VALID = "for how long clients believe its index"


@task(
    first="depot",
    shown_as="depot.prune",
    help={
        "depot": DEPOT,
        "keep": "how many releases of each appliance stay: the newest",
        "appliance": "remove releases of this appliance only",
        "valid_days": VALID,
        "dry_run": "only say what would be removed",
    },
)
def prune(
    c: Context,
    depot: str,
    keep: int = 3,
    appliance: str = "",
    valid_days: int = 30,
    dry_run: bool = False,
    progress: str = "auto",
) -> None:
    """Remove older releases from a depot: first from its index, then their files."""
    from centralita.desk.depots import prune as remove_old

    remove_old(depot, keep=keep, appliance=appliance, valid_days=valid_days, dry_run=dry_run)


@task(first="depot", shown_as="depot.refresh", help={"depot": DEPOT, "valid_days": VALID})
def refresh(c: Context, depot: str, valid_days: int = 30, progress: str = "auto") -> None:
    """Sign a depot's index anew before it expires; nothing else changes."""
    from centralita.desk.depots import prune as renew

    renew(depot, keep=None, appliance="", valid_days=valid_days, dry_run=False)


depots = Collection("depot", verify, cve, diff, prune, refresh)
