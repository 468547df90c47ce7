"""Publishes a release: all new files first, then the other clients' indexes, and last the one file that counts."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from centralita.depot.client import PUBLIC_KEY, verified_index, verified_record
from centralita.depot.compose import Composed, declared_now, entry_for, entry_of, short, written
from centralita.depot.index import INDEX, LIMIT, Delta, Entry, Index, Listed, now, numbered, read_index
from centralita.depot.indexes import GENERATORS, Alias, Site
from centralita.depot.keys import Keys
from centralita.depot.place import Place, Upload
from centralita.depot.record import Release
from centralita.ground.errors import CentralitaError
from centralita.ground.report import get_reporter

OPENPGP_KEY = "keys/openpgp.asc"
JOURNAL = "next"
SIGNATURES = (".minisig", ".asc")
VALID_DAYS = 30


@dataclass(frozen=True)
class State:
    """What a depot has: its index (None: nothing yet), and the record of each release that it lists.

    ``left`` are the other clients' indexes that publishes which were killed have, or may have, written.
    """

    index: Index | None
    releases: tuple[Release, ...]
    left: frozenset[str] = frozenset()

    def release(self, appliance: str, version: str) -> Release | None:
        """One of the releases."""
        return next((r for r in self.releases if (r.appliance, r.version) == (appliance, version)), None)


@dataclass(frozen=True)
class Plan:
    """What a publish will do: put files in this order, then remove what nothing names any more.

    ``journal`` is the coming index, signed, where only `depot.verify` reads it: by it the files of a publish that was
    killed are known. ``numbered`` is the same index in its place, with its signatures.
    """

    index: Index
    journal: tuple[Upload, ...]
    numbered: tuple[Upload, ...]
    files: tuple[Upload, ...]
    others: tuple[Upload, ...]
    top: Upload
    kept: frozenset[str]
    # What is named by the index that is served until now, itself included.
    served: frozenset[str]
    # The indexes of other clients until now, those of publishes that were killed included.
    before: frozenset[str]


def read_state(place: Place, keys: Keys) -> State:
    """What is published at a place, verified. Raises CentralitaError where it is not all signed by our own keys."""
    data = place.read(INDEX, LIMIT)
    left = _left(place, keys)
    if data is None:
        return State(None, (), left)
    claimed = read_index(data)
    try:
        index = verified_index(data, place.read(f"{claimed.path}.minisig", LIMIT), keys.minisign)
        releases = []
        for listed in index.releases:
            record = place.read(listed.record.path, LIMIT)
            if record is None:
                raise CentralitaError(f"the record of {listed.label} is missing")
            signature = place.read(f"{listed.record.path}.minisig", LIMIT)
            releases.append(verified_record(record, signature, keys.minisign, listed))
    except CentralitaError as error:
        raise CentralitaError(
            f"{place.name} is not a depot that these keys may change: {error.message}",
            hint="look into it with `invoke depot.verify`; or publish to another place",
        ) from error
    return State(index, tuple(releases), left)


def _left(place: Place, keys: Keys) -> frozenset[str]:
    """What the journals of publishes that were killed name outside the folders that are ours alone."""
    found: set[str] = set()
    for path in place.listing():
        if not path.startswith(f"{JOURNAL}/") or not path.endswith(".json"):
            continue
        data, signature = place.read(path, LIMIT), place.read(f"{path}.minisig", LIMIT)
        # One that is not ours names nothing: what lies beside it is for its owner to look at.
        with contextlib.suppress(CentralitaError):
            index = verified_index(data or b"", signature, keys.minisign, path)
            found |= {entry.path for entry in index.others}
    return frozenset(found)


def entries_of(listed: Listed, release: Release) -> list[Entry]:
    """Every file of a release."""
    inner = [entry_for(file) for file in release.files]
    inner += [entry_for(document) for document in release.documents]
    # The record first: by it the others are known, and belong to somebody.
    return [listed.record, *listed.signatures, *inner, *(entry_for(delta) for delta in listed.deltas)]


def signed(keys: Keys, staging: Path, path: str, data: bytes, moment: datetime) -> tuple[Upload, ...]:
    """A file and its two signatures beside it, waiting in *staging*."""
    return (
        written(staging, path, data),
        written(staging, f"{path}.minisig", keys.sign_minisign(data, path, moment)),
        written(staging, f"{path}.asc", keys.sign_openpgp(data, moment)),
    )


def list_release(
    composed: Composed, deltas: Sequence[tuple[Delta, Path | None]], keys: Keys, staging: Path
) -> tuple[Listed, tuple[Upload, ...]]:
    """The release's line of the index, and its files. A delta without a file is one that the depot has."""
    release = composed.release
    data = release.as_bytes()
    path = f"{release.folder}/release-{short(data)}.json"
    uploads = [*composed.uploads, *(Upload(entry_for(delta), source) for delta, source in deltas)]
    record = signed(keys, staging, path, data, release.created)
    listed = Listed(
        appliance=release.appliance,
        version=release.version,
        golden_digest=release.golden_digest,
        untested=release.untested,
        published=release.created,
        record=record[0].entry,
        signatures=tuple(upload.entry for upload in record[1:]),
        deltas=tuple(delta for delta, _source in deltas),
    )
    # Signatures and record first: by the record, what follows is known for what it is.
    return listed, (*reversed(record), *uploads)


def others(
    releases: Sequence[Release], files: Sequence[Upload], site: Site, keys: Keys, staging: Path, moment: datetime
) -> list[Upload]:
    """The public keys and the other clients' indexes; first those of the latter that are aliases of releases' files."""
    sources = {upload.path: upload.source for upload in files}
    made = [
        written(staging, PUBLIC_KEY, keys.public_minisign()),
        written(staging, OPENPGP_KEY, keys.public_openpgp()),
    ]
    aliases = []
    entries = {file.path: file for release in releases for file in release.files}
    for render in GENERATORS:
        for path, content in render(releases, site).items():
            if isinstance(content, Alias):
                file = entries[content.path]
                entry = Entry(path=path, size_bytes=file.size_bytes, sha256=file.sha256)
                aliases.append(Upload(entry, sources.get(file.path), alias=file.path))
                continue
            if path.endswith((".asc", ".sjson")):
                content = keys.sign_openpgp(content, moment, clear=True)
            made.append(written(staging, path, content))
    return [*aliases, *made]


def expiry(days: int) -> datetime:
    """The end of a day, so that what is published twice on one day is the same."""
    return now().replace(hour=0, minute=0, second=0) + timedelta(days=days + 1)


def make_plan(
    state: State,
    listed: Sequence[Listed],
    releases: Sequence[Release],
    files: Sequence[Upload],
    keys: Keys,
    staging: Path,
    *,
    name: str,
    url: str,
    valid_days: int,
) -> Plan:
    """Plan how a depot comes to list these releases. Where it does so in the same words, its index stays."""
    moment = declared_now()
    # Other clients' indexes bear the time of their last change, not that of their last writing.
    updated = max((release.created for release in releases), default=moment)
    site = Site(name, url, updated, keys.openpgp, keys.minisign)
    rendered = others(releases, files, site, keys, staging, updated)
    entries = tuple(sorted((upload.entry for upload in rendered), key=lambda entry: entry.path))
    old = state.index
    index = Index(
        depot=name,
        url=url,
        serial=old.serial + 1 if old else 1,
        created=moment,
        expires=expiry(valid_days),
        releases=tuple(listed),
        others=entries,
    )
    if old is not None and old == index.model_copy(update={"serial": old.serial, "created": old.created}):
        index = old
    data = index.as_bytes()
    trio = signed(keys, staging, index.path, data, index.created)
    # The signature first: a journal that is there is one that can be believed.
    coming = f"{JOURNAL}/{short(data)}.json"
    journal = [Upload(entry_of(coming + s, _bytes(u)), u.source) for u, s in ((trio[1], ".minisig"), (trio[0], ""))]
    kept = _named(index, releases) | _trio(index.serial - 1)
    top = Upload(entry_of(INDEX, data), trio[0].source)
    before = state.left | (frozenset(entry.path for entry in old.others) if old else frozenset())
    served = _named(old, state.releases) if old else frozenset()
    return Plan(index, tuple(journal), trio, tuple(files), tuple(rendered), top, kept, served, before)


def _trio(serial: int) -> frozenset[str]:
    """An index under its number, and its signatures."""
    return frozenset(numbered(serial) + suffix for suffix in ("", *SIGNATURES))


def _named(index: Index, releases: Sequence[Release]) -> frozenset[str]:
    """The paths of all files that an index names, its own included."""
    names = {INDEX, *_trio(index.serial), *(entry.path for entry in index.others)}
    for line, release in zip(index.releases, releases, strict=True):
        names |= {entry.path for entry in entries_of(line, release)}
    return frozenset(names)


def _bytes(upload: Upload) -> bytes:
    assert upload.source is not None
    return upload.source.read_bytes()


def carry_out(plan: Plan, place: Place, *, dry_run: bool = False) -> dict[str, str]:
    """Bring a depot into the planned state, and return what was done, in words.

    Killed at any moment, the old state stays served or the new one is; what is left then is taken over, or removed,
    by the next. At each moment every file is named by an index or a journal that is there, so that `depot.verify`
    knows it: hence records before their files, and removal the other way round.
    """
    reporter = get_reporter()
    with reporter.step("compare") as step:
        new = place.missing([*plan.files, *plan.numbered])
        changed = place.missing(plan.others)
        top = place.missing([plan.top])
        ours = (path for path in place.listing() if _ours(path) or path in plan.before)
        gone = sorted((path for path in ours if path not in plan.kept), key=_removal)
        step.note(f"{len(new)} of {len(plan.files) + len(plan.numbered)} files are new")
    if not (new or changed or top or gone):
        return {"published": "already, nothing has changed"}
    total = sum(upload.entry.size_bytes for upload in (*new, *changed))
    # Other names of a release's files cost nothing.
    sent = sum(upload.entry.size_bytes for upload in (*new, *changed, *top) if not upload.alias)
    rows = {
        "written": f"{len(new)} files and {len(changed)} indexes, {sent / 1e6:.1f} MB",
        "there already": f"{len(plan.files) + len(plan.numbered) - len(new)} files",
        "removed": f"{len(gone)} files",
    }
    if dry_run:
        for upload in (*new, *changed):
            size = f"as {upload.alias}" if upload.alias else f"{upload.entry.size_bytes} bytes"
            reporter.info(f"would write {upload.path} ({size})")
        for path in gone:
            reporter.info(f"would remove {path}")
        return {f"would be {key}": value for key, value in rows.items()}
    # What nobody is served any more, but journals: those tell of files that may be the new state's, too.
    stale = [path for path in gone if path not in plan.served and not path.startswith(f"{JOURNAL}/")]
    records = [upload for upload in new if _is_record(upload.path)]
    with reporter.step("upload", total=total) as step:
        place.put(plan.journal, step)
        place.put(records, step)
        place.delete(stale)
        place.put([upload for upload in new if upload not in records], step)
        place.put(changed, step)
    with reporter.step("switch") as step:
        place.put(top, step)
    late = [path for path in gone if path not in stale]
    place.delete([*late, *(upload.path for upload in reversed(plan.journal) if upload.path not in late)])
    return rows


def _removal(path: str) -> tuple[int, str]:
    """Sorts files in the order of their removal: first what records name, then these, then indexes and journals."""
    folder = path.split("/")[0]
    rank = {"index": 2, JOURNAL: 3}.get(folder, 1 if _is_record(path) else 0)
    return rank, path


def _is_record(path: str) -> bool:
    """Whether it is a release's record, or a signature of one."""
    folder, _, name = path.rpartition("/")
    return folder.startswith("releases/") and name.startswith("release-")


def _ours(path: str) -> bool:
    """Whether a file is where only a publish puts files: what it does not name there was left by a killed one."""
    return path.split("/")[0] in ("releases", "index", "keys", JOURNAL)
