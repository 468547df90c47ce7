"""Which releases a depot keeps when old ones go, and the renewal of its index without any change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from centralita.depot.index import Listed
from centralita.depot.keys import Keys
from centralita.depot.publish import Plan, State, make_plan
from centralita.depot.record import version_key
from centralita.ground.errors import CentralitaError

KEEP = 3


@dataclass(frozen=True)
class Pruning:
    """A plan that removes releases, and those that it keeps and removes, as `name version`."""

    plan: Plan
    kept: tuple[str, ...]
    gone: tuple[str, ...]


def newest_of(listed: Sequence[Listed], keep: int, appliance: str = "") -> list[Listed]:
    """The *keep* newest releases of each appliance (of *appliance* alone, where it is named), in the index's order.

    Newest is what `pull` takes for it: the highest version; of builds of one version, the last published.
    Raises CentralitaError for an appliance that the index has not, and for *keep* below 1.
    """
    if keep < 1:
        raise CentralitaError(f"--keep {keep} would leave nothing", hint="1 or more")
    names = {line.appliance for line in listed}
    if appliance and appliance not in names:
        raise CentralitaError(f"the depot has no {appliance}", hint=f"it has {', '.join(sorted(names)) or 'nothing'}")
    kept: set[str] = set()
    for name in names:
        mine = [line for line in listed if line.appliance == name]
        mine.sort(key=lambda line: (version_key(line.version), line.published))
        kept |= {line.label for line in (mine if appliance and name != appliance else mine[-keep:])}
    return [line for line in listed if line.label in kept]


def plan_pruning(
    state: State, keys: Keys, staging: Path, *, keep: int | None, appliance: str = "", valid_days: int
) -> Pruning:
    """Plan a depot without its older releases (*keep* None: with all), and with an index that is valid anew.

    A file stays where a release that is kept names it. Deltas stay with the release that they lead to: whoever has the
    older image can use them, whether or not the depot still has it. Raises CentralitaError.
    """
    if state.index is None:
        raise CentralitaError("there is no depot yet", hint="`invoke publish` makes one")
    listed = list(state.index.releases) if keep is None else newest_of(state.index.releases, keep, appliance)
    releases = [r for line, r in zip(state.index.releases, state.releases, strict=True) if line in listed]
    plan = make_plan(
        state, listed, releases, (), keys, staging,
        name=state.index.depot, url=state.index.url, valid_days=valid_days,
    )  # fmt: skip
    gone = tuple(line.label for line in state.index.releases if line not in listed)
    return Pruning(plan, tuple(line.label for line in listed), gone)
