"""Debian's security tracker: its data, from the tracker or a file, and when they are of.

The format is what the tracker's service writes: bin/tracker_service.py, `_get_json`, in
salsa.debian.org/security-tracker-team/security-tracker. Source package → issue → `releases` → codename → `status`
(open, resolved, undetermined), `fixed_version` where resolved ("0": never affected), `urgency`, `nodsa` (words) and
`nodsa_reason` ("", ignored, postponed) where the security team means to issue no advisory.
"""

from __future__ import annotations

import email.utils
import gzip
import hashlib
import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, ValidationError

from centralita.depot.index import now
from centralita.depot.record import Frozen, Moment, Sha256
from centralita.ground import cache, paths
from centralita.ground.errors import CentralitaError
from centralita.ground.report import get_reporter

TRACKER = "https://security-tracker.debian.org/tracker/data/json"
#: How old the data may be before that is said aloud.
MAX_AGE_DAYS = 7
# The tracker renews its data several times a day.
_FRESH = timedelta(hours=6)
_TIMEOUT_S = 60.0
_LIMIT = 1 << 30
_BLOCK = 1 << 20
_FIX = f"where it can be reached: curl -o tracker.json {TRACKER}; then name that file (--data, --cve-data)"


class Suite(Frozen):
    """What the tracker says of an issue in one release of Debian."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    status: str
    fixed_version: str = ""
    urgency: str = ""
    nodsa: str | None = None
    nodsa_reason: str | None = None
    next_point_update: bool = False


class Issue(Frozen):
    """An issue of one source package; its name is a CVE's or a TEMP-… of the tracker's own."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    description: str = ""
    scope: str = ""
    debianbug: int | None = None
    releases: dict[str, Suite] = Field(min_length=1)


@dataclass(frozen=True)
class TrackerData:
    """The data: ``date`` is when the tracker last changed them, or when the file was written; ``source`` names them."""

    source: str
    date: datetime
    sha256: str
    packages: Mapping[str, Any]

    def issues(self, source: str) -> dict[str, Issue]:
        """The issues of a source package. Raises CentralitaError where they are not in the tracker's format."""
        try:
            return {name: Issue.model_validate(issue) for name, issue in self.packages.get(source, {}).items()}
        except (AttributeError, ValidationError) as error:
            raise CentralitaError(
                f"{self.source} is not in the format of Debian's security tracker: {source}: {_first(error)}", hint=_FIX
            ) from error

    def suites(self) -> set[str]:
        """The releases of Debian that the data speak of."""
        return {
            name for issues in self.packages.values() for issue in issues.values() for name in issue.get("releases", {})
        }

    def age_days(self, moment: datetime | None = None) -> int:
        """Whole days since ``date``."""
        return ((moment or now()) - self.date).days


class _Cached(Frozen):
    """What is known of a download: the tracker's own time of it, and when it was last asked for."""

    url: str
    file: str
    sha256: Sha256
    date: Moment
    last_modified: str
    asked: Moment


def _first(error: Exception) -> str:
    if isinstance(error, ValidationError):
        found = error.errors()[0]
        return f"{'.'.join(str(part) for part in found['loc'])}: {found['msg']}"
    return str(error)


def load_data(where: str = "", *, max_age_days: int = MAX_AGE_DAYS) -> TrackerData:
    """The data from a file (gzip or not), another address, or without *where* from the tracker itself.

    A download is kept in the cache and asked for again after six hours; where the tracker cannot be reached, the kept
    one is used. Says when the data are of, and warns of those older than *max_age_days*. Raises CentralitaError.
    """
    data = _from_file(Path(where)) if where and "://" not in where else _from_web(where or TRACKER)
    reporter = get_reporter()
    age = data.age_days()
    reporter.info(f"vulnerabilities as of {data.date:%Y-%m-%d %H:%M} UTC ({data.source})")
    if age > max_age_days:
        reporter.warn(
            f"these data are {age} days old: what was found since is not in them; fetch them again, or name newer ones"
        )
    return data


def _parsed(raw: bytes, source: str, date: datetime) -> TrackerData:
    digest = hashlib.sha256(raw).hexdigest()
    try:
        packages = json.loads(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)
    except (ValueError, OSError, EOFError) as error:
        raise CentralitaError(
            f"{source} holds no whole JSON: {error}", hint=f"was the download cut off? {_FIX}"
        ) from error
    if not isinstance(packages, dict) or not packages or not all(isinstance(p, dict) for p in packages.values()):
        raise CentralitaError(f"{source} does not hold the data of Debian's security tracker", hint=_FIX)
    return TrackerData(source, date.astimezone(UTC).replace(microsecond=0), digest, packages)


def _from_file(path: Path) -> TrackerData:
    try:
        raw = path.read_bytes()
        date = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except OSError as error:
        raise CentralitaError(f"cannot read {path}: {error.strerror}", hint=_FIX) from error
    return _parsed(raw, path.name, date)


def _folder() -> Path:
    folder = paths.cache_dir() / "cve"
    folder.mkdir(exist_ok=True)
    return folder


def _kept(url: str) -> _Cached | None:
    """The last download from an address, if it is whole."""
    try:
        found = _Cached.model_validate_json((_folder() / f"{_name(url)}.json").read_text())
        with (_folder() / found.file).open("rb") as stream:
            whole = hashlib.file_digest(stream, "sha256").hexdigest() == found.sha256
    except (OSError, ValidationError):
        return None
    return found if whole and found.url == url else None


def _name(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()[:16]


def _from_web(url: str) -> TrackerData:
    with cache.lock("cve-data"):
        kept = _kept(url)
        if kept is None or now() - kept.asked > _FRESH:
            try:
                kept = _download(url, kept)
            except (OSError, http.client.HTTPException, ValueError) as error:
                reason = getattr(error, "reason", None) or error
                if kept is None:
                    raise CentralitaError(f"{url} cannot be reached: {reason}", hint=_FIX) from error
                get_reporter().warn(f"{url} cannot be reached ({reason}): using what was fetched at an earlier time")
        return _parsed((_folder() / kept.file).read_bytes(), url, kept.date)


def _download(url: str, kept: _Cached | None) -> _Cached:
    """Ask for the data, and keep them; where they are still those that are kept, only that is noted."""
    headers = {"Accept-Encoding": "gzip", "User-Agent": "centralita"}
    if kept is not None and kept.last_modified:
        headers["If-Modified-Since"] = kept.last_modified
    request = urllib.request.Request(url, headers=headers)
    with get_reporter().step("download vulnerabilities") as step:
        try:
            answer = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
        except urllib.error.HTTPError as error:
            if error.code == 304 and kept is not None:
                step.cached()
                return _note(kept.model_copy(update={"asked": now()}))
            raise
        part = _folder() / f"{_name(url)}.{os.getpid()}.part"
        try:
            with answer, part.open("wb") as out:
                size, whole = 0, hashlib.sha256()
                while block := answer.read(_BLOCK):
                    size += len(block)
                    if size > _LIMIT:
                        raise ValueError(f"more than {_LIMIT} bytes")
                    out.write(block)
                    whole.update(block)
                    step.advance(len(block))
            said = answer.headers.get("Last-Modified", "")
            _parsed(part.read_bytes(), url, now())
            digest = whole.hexdigest()
            target = _folder() / f"{digest}.data"
            part.rename(target)
        finally:
            part.unlink(missing_ok=True)
    new = _Cached(
        url=url, file=target.name, sha256=digest, date=_moment(said), last_modified=said, asked=now()
    )  # fmt: skip
    if kept is not None and kept.file != new.file:
        (_folder() / kept.file).unlink(missing_ok=True)
    return _note(new)


def _moment(said: str) -> datetime:
    try:
        return email.utils.parsedate_to_datetime(said).astimezone(UTC)
    except ValueError:
        return now()


def _note(kept: _Cached) -> _Cached:
    path = _folder() / f"{_name(kept.url)}.json"
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_text(kept.model_dump_json(indent=1) + "\n")
    part.rename(path)
    return kept
