"""`invoke test`: the test tiers, through pytest."""

from __future__ import annotations

import os
import sys

from centralita.clone.xl import XEN_TARGETS
from centralita.depot.results import needed
from centralita.formats.catalogue import expand
from centralita.ground import paths
from centralita.ground.errors import CentralitaError
from centralita.image.build import loaded

WORKERS = 2
TARGETS = ("kvm", *XEN_TARGETS, "container")
TIERS = ("lint", "unit", "image", "calls", "targets", "formats", "xen")
# What takes longest, and changes least: by name only. A publish always runs the formats.
NOT_BY_DEFAULT = ("formats", "xen")


def run_tests(
    tier: str,
    appliance: str,
    keyword: str,
    exit_first: bool,
    target: str = "",
    repeat: int = 0,
    *,
    gate: bool = False,
) -> int:
    """Run the tests of the named tiers (with commas; where empty all that are not by name only).

    Returns pytest's exit status.

    Targets that are named, without a tier, are tested by their rows of the matrix: what is checked on each of them.
    The tier `targets` has these, a second boot on each, and tests of the lab's hosts: of failures, of libvirt.
    With `repeat` the only test is a boot with a call, so often on each target of Xen.
    With `gate` these are the tiers and the targets that a publish of the appliance asks for.
    """
    if gate:
        if tier or target or keyword or repeat:
            raise CentralitaError(
                "--gate runs all that a publish asks for, and nothing else",
                hint="leave --tier, --target, --keyword and --repeat out",
            )
        declared = loaded(appliance)
        tiers, wanting = needed(declared.targets, expand(declared.formats))
        tier, target = ",".join(tiers), ",".join(wanting)
    targets = [t for t in target.split(",") if t]
    strange = [t for t in targets if t not in TARGETS]
    if strange:
        raise CentralitaError(f"no target {', '.join(strange)}", hint=f"targets: {', '.join(TARGETS)}")
    if repeat < 0:
        raise CentralitaError(f"--repeat {repeat} is no number of times")
    if repeat and tier:
        raise CentralitaError("--repeat has a tier of its own", hint="leave --tier out")
    if repeat and {"kvm", "container"} & set(targets):
        raise CentralitaError("--repeat is for targets of Xen", hint=f"targets: {', '.join(XEN_TARGETS)}")
    wanted = [t for t in tier.split(",") if t]
    unknown = [t for t in wanted if t not in TIERS]
    if unknown:
        raise CentralitaError(f"no test tier {', '.join(unknown)}", hint=f"tiers: {', '.join(TIERS)}")
    argv = [sys.executable, "-m", "pytest", str(paths.repo_root() / "tests"), "--appliance", appliance]
    # Two groups share the machine: the clone that phones call, and boots that take what it leaves of the processors.
    argv += ["-n", str(WORKERS), "--dist", "loadgroup"]
    # A row is a part of the tier; without a tier all run but those by name only, unless targets are asked for.
    chosen = " or ".join(wanted) or ("row" if targets else " and ".join(f"not {tier}" for tier in NOT_BY_DEFAULT))
    argv += ["-m", "repeat", "--repeat", str(repeat)] if repeat else ["-m", chosen]
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
