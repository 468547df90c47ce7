"""The gate: which test results let an image out, and that edited ones do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from centralita.depot.compose import declared_now
from centralita.depot.keys import Keys
from centralita.depot.results import Check, gate, needed, record_checks, results_path, version_of_tests
from centralita.depot.verify import verify_folder
from centralita.ground.errors import CentralitaError
from centralita.image.build import Golden
from tests.depot import NAME, image, publish

pytestmark = pytest.mark.unit


def check(target: str, tier: str, outcome: str = "passed", test: str = "test_a") -> Check:
    """A test's outcome."""
    return Check.model_validate(
        {"target": target, "tier": tier, "test": f"{tier}::{test}", "outcome": outcome, "seconds": 1.0}
    )


ALL = [check("kvm", "image"), check("kvm", "calls"), check("xen-pv", "targets")]


@pytest.fixture
def golden(home: Path) -> Golden:
    """An image that declares kvm and xen-pv."""
    return image(home / "output", b"one" * 1000)


def said(golden: Golden, keys: Keys, checks: list[Check], *, whole: bool = True, version: str = "") -> None:
    """Record a run of the tests."""
    record_checks(
        NAME, golden.record.golden_digest, version or version_of_tests(), checks, whole=whole, keys=keys,
        moment=declared_now(),
    )  # fmt: skip


def test_all_targets_passed_is_released_as_tested(golden: Golden, keys: Keys, home: Path) -> None:
    said(golden, keys, ALL)
    publish(golden, home / "depot", untested=False)
    release = verify_folder(home / "depot").releases[0]
    assert not release.untested and release.tests_digest == version_of_tests()
    assert [(t.target, t.outcome) for t in release.targets] == [("kvm", "passed"), ("xen-pv", "passed")]
    assert {d.kind for d in release.documents} >= {"results", "results-signature"}


@pytest.mark.parametrize(
    ("checks", "words"),
    [
        (ALL[:2], "xen-pv: not tested"),
        ([ALL[0], ALL[2]], "kvm: not wholly tested"),
        ([*ALL, check("xen-pv", "targets", "skipped", "test_b")], "xen-pv: 1 skipped"),
        ([*ALL, check("kvm", "calls", "failed", "test_b")], "kvm: 1 failed"),
        ([*ALL, check("", "formats", "failed", "test_ova")], "test_ova failed"),
    ],
)
def test_what_is_wanting_is_named(golden: Golden, keys: Keys, home: Path, checks: list[Check], words: str) -> None:
    said(golden, keys, checks)
    with pytest.raises(CentralitaError, match=words) as refused:
        publish(golden, home / "depot", untested=False)
    assert "--untested" in str(refused.value.hint)
    assert not (home / "depot").exists()


def test_no_results_refused_and_untested_is_marked(golden: Golden, keys: Keys, home: Path) -> None:
    with pytest.raises(CentralitaError, match="no signed test results"):
        gate(golden.record, keys)
    publish(golden, home / "depot", untested=True)
    assert verify_folder(home / "depot").releases[0].untested


def test_edited_results_are_refused(golden: Golden, keys: Keys) -> None:
    said(golden, keys, [*ALL, check("kvm", "calls", "failed", "test_b")])
    path = results_path(NAME, golden.record.golden_digest)
    path.write_text(path.read_text().replace('"failed"', '"passed"'))
    with pytest.raises(CentralitaError, match="not what was signed"):
        gate(golden.record, keys)


def test_results_of_another_image_are_refused(golden: Golden, keys: Keys, home: Path) -> None:
    said(golden, keys, ALL)
    other = image(home / "output", b"two" * 1000)
    source, target = (results_path(NAME, g.record.golden_digest) for g in (golden, other))
    for suffix in (".json", ".json.minisig"):
        target.with_suffix(suffix).write_bytes(source.with_suffix(suffix).read_bytes())
    with pytest.raises(CentralitaError, match="signed for another image"):
        gate(other.record, keys)


def test_results_of_other_tests_are_refused(golden: Golden, keys: Keys) -> None:
    said(golden, keys, ALL, version="0" * 64)
    with pytest.raises(CentralitaError, match="tested by other tests"):
        gate(golden.record, keys)


def test_runs_add_up_and_a_narrowed_run_proves_nothing(golden: Golden, keys: Keys) -> None:
    said(golden, keys, ALL[:2])
    said(golden, keys, [ALL[2]], whole=False)
    with pytest.raises(CentralitaError, match="xen-pv: not tested"):
        gate(golden.record, keys)
    said(golden, keys, [ALL[2]])
    assert gate(golden.record, keys).results.of("kvm").outcome == "passed"
    said(golden, keys, [check("xen-pv", "targets", "failed")], whole=False)
    with pytest.raises(CentralitaError, match="xen-pv: 1 failed"):
        gate(golden.record, keys)
    said(golden, keys, [ALL[2]], version="0" * 64)
    with pytest.raises(CentralitaError, match="other tests"):
        gate(golden.record, keys)


def test_what_a_publish_needs_is_what_the_gate_judges() -> None:
    every = ("kvm", "xen-pv", "container")
    assert needed(every, ("qcow2", "raw.zst")) == (("image", "calls", "targets"), ("xen-pv", "container"))
    assert needed(("container",), ("qcow2", "incus.tar.xz")) == (("targets", "formats"), ("container",))
    assert needed(("kvm",), ("qcow2",)) == (("image", "calls"), ())
