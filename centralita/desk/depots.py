"""`invoke keys`, `publish`, `pull` and `depot.*`: what they do and show."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from centralita.depot.client import Depot, read_key
from centralita.depot.compose import compose, declared_now, read_golden
from centralita.depot.deltas import DELTAS, publish_deltas
from centralita.depot.diff import difference
from centralita.depot.documents import Paper
from centralita.depot.keys import MINISIGN_PUB, OPENPGP_PUB, make_keys, needed_keys
from centralita.depot.places import PlaceReader, open_place, open_source
from centralita.depot.prune import plan_pruning
from centralita.depot.publish import VALID_DAYS, carry_out, list_release, make_plan, read_state
from centralita.depot.pull import pull as pull_release
from centralita.depot.reader import FolderReader, open_reader
from centralita.depot.record import Release, newest
from centralita.depot.results import gate
from centralita.depot.verify import own_key, verify_far, verify_folder
from centralita.ground import ledger
from centralita.ground.errors import CentralitaError
from centralita.ground.report import get_reporter, make_reporter, set_reporter
from centralita.image.build import Golden, latest

Examine = Callable[[Release], tuple[Paper, ...]]


def show_keys(export: str) -> None:
    """Make the keys where there are none; tell which they are, and with *export* write the public ones to a folder."""
    keys = make_keys()
    if export:
        folder = Path(export)
        folder.mkdir(parents=True, exist_ok=True)
        for name in (MINISIGN_PUB, OPENPGP_PUB):
            shutil.copyfile(keys.folder / name, folder / name)
    rows = {
        "minisign": keys.minisign,
        "OpenPGP": keys.openpgp,
        "kept in": f"{keys.folder} (keep a copy: who loses it can renew no depot)",
    }
    if export:
        rows["exported"] = f"{export}/{MINISIGN_PUB}, {export}/{OPENPGP_PUB}"
    get_reporter().summary("signing keys", rows)


def publish(
    appliance: str,
    *,
    to: str,
    untested: bool,
    dry_run: bool,
    name: str,
    url: str,
    valid_days: int = VALID_DAYS,
    deltas: int = DELTAS,
    examine: Examine | None = None,
) -> None:
    """Release the last built image of an appliance into a depot."""
    publish_golden(
        latest(appliance),
        to=to,
        untested=untested,
        dry_run=dry_run,
        name=name,
        url=url,
        valid_days=valid_days,
        deltas=deltas,
        examine=examine,
    )


def publish_golden(
    golden: Golden,
    *,
    to: str,
    untested: bool,
    dry_run: bool,
    name: str,
    url: str,
    valid_days: int = VALID_DAYS,
    deltas: int = DELTAS,
    examine: Examine | None = None,
) -> None:
    """Release an image into a depot, with deltas from releases before it; *examine* may refuse it, or add documents."""
    keys = needed_keys()
    place = open_place(to)
    proof = None if untested else gate(golden.record, keys)
    with place.locked(), ledger.default().tempdir("publish-") as staging:
        with get_reporter().step("read the depot"):
            state = read_state(place, keys)
        record = golden.record
        before = state.release(record.appliance, record.full_version)
        if before is not None and before.golden_digest != record.golden_digest:
            raise CentralitaError(f"the depot has another {before.label}", hint="raise the appliance's version")
        older = [r for r in state.releases if r is not before]
        previous = newest(older, record.appliance)
        with get_reporter().step("compose"):
            composed = compose(
                golden,
                staging,
                created=before.created if before else declared_now(),
                proof=proof,
                previous=previous,
                previous_golden=read_golden(place, previous) if previous else None,
                examine=examine,
            )
        release = composed.release
        lines = state.index.releases if state.index else ()
        old = next((line for line in lines if line.label == release.label), None)
        made = publish_deltas(golden, release, state.releases, old, place, deltas)
        listed, files = list_release(composed, made, keys, staging)
        pairs = [(line, r) for line, r in zip(lines, state.releases, strict=True) if line is not old]
        position = lines.index(old) if old is not None else len(pairs)
        pairs.insert(position, (listed, release))
        plan = make_plan(
            state,
            [line for line, _release in pairs],
            [r for _line, r in pairs],
            files,
            keys,
            staging,
            name=name or (state.index.depot if state.index else "centralita"),
            url=url or (state.index.url if state.index else ""),
            valid_days=valid_days,
        )
        rows = carry_out(plan, place, dry_run=dry_run)
    title = f"{release.label} in {place.name}"
    get_reporter().summary(title, {"index": f"number {plan.index.serial}, until {plan.index.expires:%Y-%m-%d}", **rows})


def prune(to: str, *, keep: int | None, appliance: str, valid_days: int, dry_run: bool) -> None:
    """Remove older releases from a depot (*keep* None: none), and sign its index anew."""
    keys = needed_keys()
    place = open_place(to)
    with place.locked(), ledger.default().tempdir("prune-") as staging:
        with get_reporter().step("read the depot"):
            state = read_state(place, keys)
        found = plan_pruning(state, keys, staging, keep=keep, appliance=appliance, valid_days=valid_days)
        rows = carry_out(found.plan, place, dry_run=dry_run)
    index = found.plan.index
    get_reporter().summary(
        place.name,
        {
            "kept": ", ".join(found.kept),
            "removed releases": ", ".join(found.gone) or "none",
            "index": f"number {index.serial}, until {index.expires:%Y-%m-%d}",
            **rows,
        },
    )


def pull(appliance: str, *, url: str, version: str, formats: str, key: str, dry_run: bool = False) -> Golden:
    """Bring a release from a depot into output/ and tell where it is.

    ``dry_run`` refuses to: what would be made of an image cannot be said before it is here.
    """
    if dry_run:
        hint = f"invoke pull {appliance} --from {url}; then `invoke clone … --dry-run` without --from"
        raise CentralitaError(f"a dry run does not bring the image from {url}", hint=hint)
    names = tuple(name for name in formats.split(",") if name)
    golden = pull_release(appliance, url, version=version, formats=names, key=read_key(key) if key else None)
    rows = {"image": str(golden.folder), "golden digest": f"sha256:{golden.record.golden_digest}"}
    for form in golden.record.formats:
        rows[form.format] = f"{form.size_bytes / 1e6:.1f} MB"
    get_reporter().summary(f"{golden.record.appliance} {golden.record.full_version}", rows)
    return golden


def diff(folder: str, old: str, new: str, *, appliance: str, files: bool, as_json: bool) -> None:
    """Tell what differs between two releases of a depot."""
    if as_json:
        set_reporter(make_reporter("plain", sys.stderr))
    reader = open_reader(folder)
    depot = Depot.open(reader, own_key(reader))
    found = difference(depot, old, new, appliance=appliance, files=files)
    if as_json:
        print(json.dumps(found.model_dump(mode="json", exclude={"text"}), indent=1, ensure_ascii=False))
        return
    print(f"{found.appliance}: {found.old} → {found.new}")
    for title, lines in found.text:
        print(f"\n{title}\n" + "\n".join(f"    {line.removeprefix('- ')}" for line in lines or ("no change",)))
    if found.delta_bytes is not None:
        print(f"\nAn upgrade downloads a delta of {found.delta_bytes / 1e6:.1f} MB.")


def verify(depot: str, key: str) -> None:
    """Check every byte of a depot, wherever it is."""
    public = read_key(key) if key else None
    with open_source(depot) as reader:
        if isinstance(reader, FolderReader):
            found = verify_folder(reader.folder, public)
        else:
            listing = reader.place.listing() if isinstance(reader, PlaceReader) else None
            if listing is None:
                get_reporter().info(
                    "a web server does not tell of files that nobody signed for; all others are checked"
                )
            found = verify_far(reader, listing, public)
    rows = {
        "depot": f"{found.index.depot}, index number {found.index.serial}, until {found.index.expires:%Y-%m-%d %H:%M}",
        "releases": ", ".join(r.label + (" (UNTESTED)" if r.untested else "") for r in found.releases),
        "files": f"{found.files}, {found.size_bytes / 1e6:.1f} MB, all as signed",
    }
    get_reporter().summary(depot, rows)
