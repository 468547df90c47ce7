"""`invoke test`: the test tiers, through pytest."""

from __future__ import annotations

import os
import sys

from centralita.clone.xl import XEN_TARGETS
from centralita.ground import paths
from centralita.ground.errors import CentralitaError

WORKERS = 2
TARGETS = ("kvm", *XEN_TARGETS)
TIERS = ("lint", "unit", "image", "calls", "targets", "formats")
# What takes longest, and changes least: by name only. A publish always runs it.
NOT_BY_DEFAULT = ("formats",)


def run_tests(tier: str, appliance: str, keyword: str, exit_first: bool, target: str = "") -> int:
    """Run the tests of the named tiers (with commas; where empty all but `formats`) and return pytest's exit status.

    Targets that are named are tested by the tier `targets`, which is the only one that runs unless more are named.
    """
    targets = [t for t in target.split(",") if t]
    strange = [t for t in targets if t not in TARGETS]
    if strange:
        raise CentralitaError(f"no target {', '.join(strange)}", hint=f"targets: {', '.join(TARGETS)}")
    if targets and not tier:
        tier = "targets"
    wanted = [t for t in tier.split(",") if t]
    unknown = [t for t in wanted if t not in TIERS]
    if unknown:
        raise CentralitaError(f"no test tier {', '.join(unknown)}", hint=f"tiers: {', '.join(TIERS)}")
    argv = [sys.executable, "-m", "pytest", str(paths.repo_root() / "tests"), "--appliance", appliance]
    # Two groups share the machine: the clone that phones call, and boots that take what it leaves of the processors.
    argv += ["-n", str(WORKERS), "--dist", "loadgroup"]
    chosen = " or ".join(wanted) if wanted else " and ".join(f"not {tier}" for tier in NOT_BY_DEFAULT)
    argv += ["-m", chosen]
    if targets:
        argv += ["--target", ",".join(targets)]
    if keyword:
        argv += ["-k", keyword]
    if exit_first:
        argv.append("-x")
    os.chdir(paths.repo_root())
    sys.stdout.flush()
    # pytest becomes this process: signals and its closing summary reach the terminal as they are.
    os.execv(sys.executable, argv)
