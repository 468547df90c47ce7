"""Turns a run's reports into signed results, by which a release is allowed (see centralita/depot/results.py)."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from centralita.depot.compose import declared_now
from centralita.depot.keys import make_keys
from centralita.depot.results import KVM_TIERS, Check, record_checks, version_of_tests
from centralita.image.build import Golden

TESTS = Path(__file__).parent
TIERS = ("lint", "unit", "image", "calls", "targets", "formats", "xen")
#: Properties of a report by this prefix are ours.
PROOF = "proof_"
_GOLDEN = pytest.StashKey[Golden]()
_VERSION = pytest.StashKey[str]()


def remember_golden(config: pytest.Config, golden: Golden) -> None:
    """The image that this run's tests are about."""
    config.stash[_GOLDEN] = golden


def target_of(item: pytest.Item) -> str:
    """The target that a test proves: its parameter `target`, its mark `proves`, or KVM for what looks at the clone."""
    callspec = getattr(item, "callspec", None)
    if callspec is not None and "target" in callspec.params:
        return str(callspec.params["target"])
    mark = item.get_closest_marker("proves")
    if mark is not None:
        return str(mark.args[0])
    return "kvm" if item.path.relative_to(TESTS).parts[0] in KVM_TIERS else ""


def tier_of(item: pytest.Item) -> str:
    """The tier that a test is of: where it says so itself that is not the one of its folder."""
    return next((tier for tier in TIERS if item.get_closest_marker(tier)), item.path.relative_to(TESTS).parts[0])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note in each report of a test of the image which image that was, and what the test proves."""
    report = yield
    golden = item.config.stash.get(_GOLDEN, None)
    if golden is not None and "golden" in getattr(item, "fixturenames", ()):
        record = golden.record
        values = (record.appliance, record.golden_digest, tier_of(item), target_of(item))
        report.user_properties.append((f"{PROOF}check", list(values)))
    return report


def pytest_sessionstart(session: pytest.Session) -> None:
    """Take the tests' version before they run: what is edited meanwhile was not what ran."""
    if not hasattr(session.config, "workerinput"):
        session.config.stash[_VERSION] = version_of_tests()


def left_some_out(config: pytest.Config, exitstatus: int) -> bool:
    """Whether the run was narrowed below a tier or a target, or came to no proper end."""
    option = config.option
    narrowed = option.keyword or option.maxfail or option.deselect or option.ignore or getattr(option, "lf", False)
    paths = [Path(str(arg).partition("::")[0]).resolve() for arg in config.args]
    return bool(narrowed) or paths != [TESTS] or exitstatus not in (0, 1)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config) -> None:
    """Sign what was found out."""
    reports = [r for group in terminalreporter.stats.values() for r in group if isinstance(r, pytest.TestReport)]
    images: dict[tuple[str, str], list[Check]] = {}
    for report in reports:
        about = dict(report.user_properties).get(f"{PROOF}check")
        if about is None or (report.when != "call" and report.outcome == "passed"):
            continue
        appliance, digest, tier, target = map(str, about)  # type: ignore[call-overload]
        check = Check(
            target=target, tier=tier, test=report.nodeid.partition("@")[0], outcome=report.outcome,
            seconds=round(report.duration, 2),
        )  # fmt: skip
        images.setdefault((appliance, digest), []).append(check)
    if not images:
        return
    whole = not left_some_out(config, int(exitstatus))
    keys, version = make_keys(), config.stash[_VERSION]
    terminalreporter.section("results")
    for (appliance, digest), checks in images.items():
        path = record_checks(appliance, digest, version, checks, whole=whole, keys=keys, moment=declared_now())
        what = f"{len(checks)} checks" if whole else "tests were left out, so only what failed"
        terminalreporter.write_line(f"{what}, signed in {path}")
