"""Judges a release by Debian's security tracker: which known vulnerabilities are in it, and which Debian has mended.

A package is judged by its source package and that one's version, as the tracker names them, in the release of Debian
that it was taken from: a version that is at least the one in which an issue is resolved there (or in sid) is safe.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from debian.debian_support import NativeVersion

from centralita.depot.cve_data import Issue, Suite, TrackerData
from centralita.depot.record import Frozen, Moment, Release, ReleasePackage, Sha256, json_bytes
from centralita.depot.sbom import contents, source_of
from centralita.ground.errors import CentralitaError

SID = "sid"
#: How grave, gravest first; the order of a report.
Level = Literal["high", "medium", "low", "unimportant", "undetermined"]
LEVELS: tuple[Level, ...] = ("high", "medium", "low", "unimportant", "undetermined")
#: What a threshold may say. ``fixed``: what Debian has mended in the release's own suite, whatever its urgency.
THRESHOLDS = ("high", "medium", "low", "any", "fixed", "none")

State = Literal["open", "fix available", "no-dsa", "postponed", "ignored", "end-of-life", "undetermined"]
_SIGNED = re.compile(r"(linux|grub-efi|shim-helpers)(?:-[a-z0-9]+)*-signed(?:-[a-z0-9]+)?")
_SIGNED_SOURCES = {"grub-efi": "grub2", "shim-helpers": "shim"}


class Finding(Frozen):
    """A vulnerability that is in the release.

    ``suite`` is the release of Debian by which it was judged; ``fixed_version`` the first safe version in
    ``fixed_in``, empty where there is none. ``urgency`` is the tracker's word, ``level`` what it counts as.
    """

    issue: str
    source: str
    version: str
    packages: tuple[str, ...]
    suite: str
    state: State
    level: Level
    urgency: str
    fixed_version: str = ""
    fixed_in: str = ""
    reason: str = ""
    scope: str = ""
    bug: int | None = None
    description: str = ""
    accepted: bool = False


class Report(Frozen):
    """What the tracker knew of a release. ``resolved`` counts the issues that its versions have left behind.

    ``unknown`` are packages whose source package is not recorded, ``unwatched`` sources that Debian has neither
    in their suite nor in sid: of neither can be said that they are safe.
    """

    schema_version: Literal[1] = 1
    appliance: str
    version: str
    golden_digest: Sha256
    suite: str
    data_source: str
    data_date: Moment
    data_sha256: Sha256
    packages: int
    sources: int
    resolved: int
    unknown: tuple[str, ...]
    unwatched: tuple[str, ...]
    findings: tuple[Finding, ...]

    def as_bytes(self) -> bytes:
        """The report as JSON: the same bytes for the same release and data."""
        return json_bytes(self)


@dataclass(frozen=True)
class _Subject:
    """A source package as the tracker names it, with what was built of it and where it came from."""

    name: str
    version: str
    suite: str


def tracked(package: ReleasePackage) -> tuple[str, str]:
    """The source package and version under which the tracker has a package's issues.

    What Debian signs has a source package of its own, made from the real one's: linux-signed-amd64 7.2.12+1 is linux
    7.2.12-1, grub-efi-amd64-signed 1+2.12+9 is grub2 2.12-9, shim-signed 1.51+16.1-2 is shim 16.1-2.
    """
    name, version = source_of(package)
    if name == "shim-signed":
        return "shim", package.version.removeprefix(f"{version}+")
    match = _SIGNED.fullmatch(name)
    if match is None:
        return name, version
    if match[1] == "linux":
        return "linux", version.replace("+", "-", 1)
    # The first part counts the signings, and the hyphen became a plus.
    return _SIGNED_SOURCES[match[1]], version.partition("+")[2].replace("+", "-", 1)


def _at_least(version: str, wanted: str) -> bool:
    """Whether a version is safe where an issue is resolved in *wanted* ("0": it never was there)."""
    return wanted == "0" or NativeVersion(version) >= NativeVersion(wanted)


def _level(said: Suite) -> Level:
    """What an urgency counts as; the tracker's may end in `**`, where a program assigned it.

    Most have none by now: such an issue counts as medium, or as low where the team means to issue no advisory for it.
    """
    if said.status == "undetermined":
        return "undetermined"
    word = said.urgency.rstrip("*")
    match word:
        case "high" | "medium" | "low" | "unimportant":
            return word
    return "medium" if said.nodsa is None else "low"


def _state(said: Suite) -> State:
    if said.status == "undetermined":
        return "undetermined"
    if said.urgency == "end-of-life":
        return "end-of-life"
    if said.nodsa is None:
        return "open"
    match said.nodsa_reason:
        case "ignored" | "postponed":
            return said.nodsa_reason
    return "no-dsa"


def _judge(subject: _Subject, issue: Issue) -> tuple[str, Suite, State, str, str] | Literal["resolved"] | None:
    """(suite, what it says, state, fixed version, fixed in), ``resolved``, or None where it does not concern us."""
    sid = issue.releases.get(SID)
    where, said = subject.suite, issue.releases.get(subject.suite)
    if said is None:
        # Not in that suite, so it is from elsewhere: sid has every package that Debian still has.
        if sid is None:
            return None
        where, said = SID, sid
    if said.status not in ("resolved", "open", "undetermined"):
        raise CentralitaError(f"the tracker has a status that is not known: {said.status}")
    if said.status == "resolved" and not said.fixed_version:
        raise CentralitaError("the tracker calls an issue resolved without saying in which version")
    if said.status == "resolved":
        if _at_least(subject.version, said.fixed_version):
            return "resolved"
        return where, said, "fix available", said.fixed_version, where
    if sid is not None and sid.status == "resolved" and sid.fixed_version and sid.fixed_version != "0":
        # The suite may have got it after the data were made, or the package came from sid.
        if _at_least(subject.version, sid.fixed_version):
            return "resolved"
        return where, said, _state(said), sid.fixed_version, SID
    return where, said, _state(said), "", ""


def _subjects(release: Release, suite: str) -> tuple[dict[_Subject, list[str]], list[str]]:
    """Source packages with the names of their packages, and the packages whose source is not recorded."""
    found: dict[_Subject, list[str]] = {}
    unknown = []
    for package in contents(release):
        if not package.source:
            unknown.append(package.name)
            continue
        name, version = tracked(package)
        found.setdefault(_Subject(name, version, _codename(package.suite or suite)), []).append(package.name)
    return found, sorted(unknown)


def _codename(suite: str) -> str:
    """The tracker's name of a suite: trixie-security and trixie-updates are trixie, unstable is sid."""
    name = suite.partition("-")[0]
    return SID if name == "unstable" else name


def report(release: Release, data: TrackerData, *, suite: str = "", accept: Iterable[str] = ()) -> Report:
    """Judge a release; *suite* says what its record does not. *accept* names issues that are known and accepted.

    Raises CentralitaError where the data do not speak of the suite, or are not what the tracker writes.
    """
    suite = suite or release.suite
    if not suite:
        raise CentralitaError(
            f"the record of {release.label} does not say its suite of Debian",
            hint="invoke depot.cve takes --suite forky; a pulled image says none, publish the built one",
        )
    subjects, unknown = _subjects(release, suite)
    known = data.suites()
    for name in sorted({_codename(suite), *(subject.suite for subject in subjects)}):
        if name not in known:
            raise CentralitaError(
                f"{data.source} says nothing of Debian's {name}", hint=f"it has {', '.join(sorted(known))}"
            )
    accepted = frozenset(accept)
    findings: list[Finding] = []
    unwatched, resolved = [], 0
    for subject, packages in subjects.items():
        issues = data.issues(subject.name)
        suites = {name for issue in issues.values() for name in issue.releases}
        if issues and not suites & {subject.suite, SID}:
            unwatched.append(subject.name)
        for name, issue in issues.items():
            judged = _judge(subject, issue)
            if judged == "resolved":
                resolved += 1
            elif judged is not None:
                where, said, state, fixed, fixed_in = judged
                findings.append(
                    Finding(
                        issue=name, source=subject.name, version=subject.version, packages=tuple(sorted(set(packages))),
                        suite=where, state=state, level=_level(said), urgency=said.urgency, fixed_version=fixed,
                        fixed_in=fixed_in, reason=_reason(said), scope=issue.scope, bug=issue.debianbug,
                        description=issue.description, accepted=name in accepted,
                    )
                )  # fmt: skip
    return Report(
        appliance=release.appliance,
        version=release.version,
        golden_digest=release.golden_digest,
        suite=suite,
        data_source=data.source,
        data_date=data.date,
        data_sha256=data.sha256,
        packages=len(contents(release)),
        sources=len(subjects),
        resolved=resolved,
        unknown=tuple(unknown),
        unwatched=tuple(sorted(set(unwatched))),
        findings=tuple(sorted(findings, key=_rank)),
    )


def _reason(said: Suite) -> str:
    coming = "in the next point release" if said.next_point_update else ""
    return "; ".join(word for word in (said.nodsa or "", coming) if word)


def _rank(finding: Finding) -> tuple[int, str, str]:
    return LEVELS.index(finding.level), finding.source, finding.issue


def thresholds(said: str) -> tuple[str, ...]:
    """The words of a threshold, `high,fixed` say. Raises CentralitaError for one that is not known."""
    words = tuple(word.strip() for word in said.split(",") if word.strip())
    for word in words:
        if word not in THRESHOLDS:
            raise CentralitaError(f"{word!r} is no threshold", hint=f"one or more of {', '.join(THRESHOLDS)}")
    return words


def over(found: Report, words: Sequence[str]) -> tuple[Finding, ...]:
    """The findings that a threshold forbids and nobody accepted."""
    return tuple(f for f in found.findings if not f.accepted and any(_forbids(word, f) for word in words))


def _forbids(word: str, finding: Finding) -> bool:
    match word:
        case "none":
            return False
        case "any":
            return True
        case "fixed":
            return finding.state == "fix available"
    grave: dict[str, int] = {level: number for number, level in enumerate(LEVELS)}
    return grave[finding.level] <= grave[word]


def check(found: Report, said: str, flag: str = "--fail-on") -> None:
    """Raises CentralitaError with everything that a threshold forbids, and the ways round."""
    words = thresholds(said)
    if not words or words == ("none",):
        return
    wrong = over(found, words)
    lines = list(_lines(wrong))
    if found.unknown:
        lines.append(f"  {len(found.unknown)} packages whose source is not recorded: {_few(found.unknown)}")
    if found.unwatched:
        lines.append(f"  {len(found.unwatched)} sources that Debian no longer watches: {_few(found.unwatched)}")
    if not lines:
        return
    hints = []
    if any(finding.state == "fix available" for finding in wrong):
        loaders = any(f.suite not in (found.suite, SID) for f in wrong if f.state == "fix available")
        tools = " (boot loaders: `invoke lock tools`)" if loaders else ""
        hints.append(f"`invoke lock {found.appliance}`{tools} and a build take what Debian has mended")
    if wrong:
        names = ",".join(dict.fromkeys(finding.issue for finding in wrong[:3])) + (",…" if len(wrong) > 3 else "")
        hints.append(f"--accept {names} goes on all the same, and the report says so")
    if found.unknown:
        hints.append("build again, so that the packages' files are in the cache")
    raise CentralitaError(
        "\n".join([f"{found.appliance} {found.version} has what {flag} {said} forbids:", *lines]),
        hint="; ".join(hints) or f"leave {flag} away to go on all the same",
    )


def _lines(findings: Sequence[Finding]) -> Iterator[str]:
    shown = findings[:40]
    for f in shown:
        fixed = f", fixed in {f.fixed_in} by {f.fixed_version}" if f.fixed_version else ""
        yield f"  {f.issue} in {f.source} {f.version}: {f.level}, {f.state}{fixed}"
    if len(findings) > len(shown):
        yield f"  and {len(findings) - len(shown)} more"


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (" …" if len(names) > 5 else "")
