"""What the tests said of a golden image: signed, tied to its digest and to the tests' own version. The gate reads it.

A target counts as passed when every check on it ran and passed for this very digest, by these very tests.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from centralita.depot.index import LIMIT
from centralita.depot.keys import Keys, verify_minisign
from centralita.depot.record import Frozen, Moment, Sha256, TargetResult
from centralita.ground import cache, paths
from centralita.ground.cache import digest_of
from centralita.ground.errors import CentralitaError
from centralita.image.formats import IMAGE_FORMATS
from centralita.image.record import GoldenRecord

#: The tiers that have to run before a target is proved. A tier that is named here runs on KVM's machine.
KVM_TIERS = ("image", "calls")
OTHER_TIERS = ("targets",)
FORMATS = "formats"


class Check(Frozen):
    """One test of the image. ``target`` is empty for one that is about none (a format's file, say)."""

    target: str
    tier: str
    test: str
    outcome: Literal["passed", "failed", "skipped"]
    seconds: float


class Results(Frozen):
    """All that is known of one golden image by one version of the tests."""

    schema_version: Literal[1] = 1
    appliance: str
    golden_digest: Sha256
    tests_digest: Sha256
    written: Moment
    checks: tuple[Check, ...]

    def of(self, target: str) -> TargetResult:
        """What they say of one target; ``missing`` where one of the tiers that prove it did not run."""
        return self._judged(target, [check for check in self.checks if check.target == target], tiers_of(target))

    def formats(self) -> TargetResult:
        """What they say of the formats, as of a target."""
        return self._judged(FORMATS, [check for check in self.checks if check.tier == FORMATS], (FORMATS,))

    def _judged(self, name: str, found: Sequence[Check], tiers: Sequence[str]) -> TargetResult:
        counts = {word: sum(check.outcome == word for check in found) for word in ("passed", "failed", "skipped")}
        ran = {check.tier for check in found}
        outcome: Literal["passed", "failed", "skipped", "missing"] = "passed"
        if counts["failed"]:
            outcome = "failed"
        elif not set(tiers) <= ran:
            outcome = "missing"
        elif counts["skipped"]:
            outcome = "skipped"
        return TargetResult(target=name, outcome=outcome, **counts)


@dataclass(frozen=True)
class Proof:
    """Results with their signature, as they go into a release."""

    results: Results
    data: bytes
    signature: bytes


def tiers_of(target: str) -> tuple[str, ...]:
    """The tiers of `invoke test` that prove a target."""
    return KVM_TIERS if target == "kvm" else OTHER_TIERS


def needed(targets: Sequence[str], formats: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The tiers, and the targets of the tier `targets`, that prove an image with these targets and formats."""
    tiers = [tier for target in targets for tier in tiers_of(target)]
    if set(formats) - set(IMAGE_FORMATS):
        tiers.append(FORMATS)
    return tuple(dict.fromkeys(tiers)), tuple(target for target in targets if tiers_of(target) == OTHER_TIERS)


def version_of_tests(root: Path | None = None) -> str:
    """The version of the tests: a digest over tests/ and the package's code."""
    root = root or paths.repo_root()
    return digest_of("tests", root / "tests", root / "centralita")


def results_path(appliance: str, golden_digest: str) -> Path:
    """Where the results of an image are kept; the signature is beside it."""
    return paths.output_dir() / appliance / "results" / f"{golden_digest}.json"


def _name(golden_digest: str) -> str:
    return f"results/{golden_digest}.json"


def record_checks(
    appliance: str,
    golden_digest: str,
    version: str,
    checks: Sequence[Check],
    *,
    whole: bool,
    keys: Keys,
    moment: Moment,
) -> Path:
    """Add a run's checks to the image's results, and sign them. Returns the file.

    Of a *whole* run each target's tier replaces what was known of it. One that left tests out proves nothing: only
    what failed in it is kept. What other tests, of another *version*, had said is forgotten.
    """
    path = results_path(appliance, golden_digest)
    with cache.lock("test-results"):
        try:
            before = load_results(appliance, golden_digest, keys).results
            known = before.checks if before.tests_digest == version else ()
        except CentralitaError:
            known = ()
        if whole:
            ran = {(check.target, check.tier) for check in checks}
            known = tuple(check for check in known if (check.target, check.tier) not in ran)
            new = tuple(checks)
        else:
            new = tuple(check for check in checks if check.outcome == "failed")
            known = tuple(check for check in known if check.test not in {n.test for n in new})
        every = tuple(sorted((*known, *new), key=lambda check: (check.target, check.tier, check.test)))
        results = Results(
            appliance=appliance, golden_digest=golden_digest, tests_digest=version, written=moment, checks=every
        )
        data = (results.model_dump_json(indent=1) + "\n").encode()
        path.parent.mkdir(parents=True, exist_ok=True)
        signature = keys.sign_minisign(data, _name(golden_digest), moment)
        for target, content in ((path.with_suffix(".json.minisig"), signature), (path, data)):
            part = target.with_name(f".{target.name}.part")
            part.write_bytes(content)
            part.rename(target)
    return path


def load_results(appliance: str, golden_digest: str, keys: Keys) -> Proof:
    """The results of an image. Raises CentralitaError where there are none, or they are not as they were signed."""
    path = results_path(appliance, golden_digest)
    try:
        data = path.read_bytes()
        signature = path.with_suffix(".json.minisig").read_bytes()
    except FileNotFoundError as error:
        raise CentralitaError(
            f"no signed test results of {appliance} for the golden digest {golden_digest[:12]}…",
            hint=f"invoke test --gate --appliance {appliance}",
        ) from error
    try:
        comment = verify_minisign(data, signature, keys.minisign, f"the test results {path}")
        if f"file:{_name(golden_digest)}" not in comment.split("\t") or len(data) > LIMIT:
            raise CentralitaError(f"the test results {path} were signed for another image")
        results = Results.model_validate(json.loads(data))
    except CentralitaError as error:
        raise CentralitaError(
            error.message, hint=f"run the tests again: invoke test --gate --appliance {appliance}"
        ) from error
    except (ValueError, ValidationError) as error:
        raise CentralitaError(f"{path} holds no test results", hint="run the tests again") from error
    if results.golden_digest != golden_digest or results.appliance != appliance:
        raise CentralitaError(f"the test results {path} are those of another image", hint="run the tests again")
    return Proof(results, data, signature)


def gate(record: GoldenRecord, keys: Keys) -> Proof:
    """The proof that an image may be released. Raises CentralitaError with everything that is wanting."""
    proof = load_results(record.appliance, record.golden_digest, keys)
    current = version_of_tests()
    if proof.results.tests_digest != current:
        raise CentralitaError(
            f"{record.appliance} {record.full_version} was tested by other tests than these: "
            f"{proof.results.tests_digest[:12]}…, not {current[:12]}…",
            hint=f"run them again: invoke test --gate --appliance {record.appliance}",
        )
    judged = [proof.results.of(target) for target in record.targets]
    if set(form.format for form in record.formats) - set(IMAGE_FORMATS):
        judged.append(proof.results.formats())
    wanting = [result for result in judged if result.outcome != "passed"]
    loose = [check for check in proof.results.checks if not check.target and check.outcome == "failed"]
    if not wanting and not loose:
        return proof
    lines = [f"  {result.target}: {_why(result)}" for result in wanting]
    lines += [f"  {check.test} failed" for check in loose]
    raise CentralitaError(
        "\n".join([f"{record.appliance} {record.full_version} is not released:", *lines]),
        hint=f"{_command(record.appliance, wanting)}; or --untested, which every client is told of",
    )


def _why(result: TargetResult) -> str:
    if result.outcome == "missing":
        return "not tested" if not result.passed else f"not wholly tested (tiers {', '.join(tiers_of(result.target))})"
    return f"{result.failed} failed" if result.failed else f"{result.skipped} skipped"


def _command(appliance: str, wanting: Iterable[TargetResult]) -> str:
    names = [result.target for result in wanting]
    words = []
    if "kvm" in names:
        words.append(f"invoke test --appliance {appliance} --tier {','.join(KVM_TIERS)}")
    if FORMATS in names:
        words.append(f"invoke test --appliance {appliance} --tier {FORMATS}")
    others = [name for name in names if name not in ("kvm", FORMATS)]
    if others:
        words.append(f"invoke test --appliance {appliance} --target {','.join(others)}")
    return " and ".join(words) or f"invoke test --appliance {appliance}"
