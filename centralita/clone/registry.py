"""Which clones there are: no two with one name, one address or one MAC address. Locked across processes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from centralita.ground import cache
from centralita.ground.errors import CentralitaError
from centralita.ground.paths import state_dir


@dataclass(frozen=True)
class Claim:
    """What a clone takes for itself. ``folder`` is where it lies."""

    name: str
    folder: str
    mac: str
    address: str | None


class Registry:
    """A folder with one file a clone. A claim whose folder is gone counts for nothing."""

    def __init__(self, root: Path | None = None) -> None:
        """Use ``root``; by default ``clones`` in the state folder."""
        self.root = root if root is not None else state_dir() / "clones"

    @contextmanager
    def claimed(self, claims: Sequence[Claim]) -> Iterator[None]:
        """Hold the registry while clones are made, and enter them once they are there.

        Raises CentralitaError, with all conflicts, where something is taken: by a clone that is there, or twice here.
        """
        with cache.lock("clones"):
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            conflicts = self.conflicts(claims)
            if conflicts:
                raise CentralitaError("; ".join(conflicts), hint="remove the other clone, or change the tenant's file")
            yield
            self.enter(claim for claim in claims if Path(claim.folder).is_dir())

    def enter(self, claims: Iterable[Claim]) -> None:
        """Enter clones while the registry is held; before they get to their places, so that none is there without."""
        for claim in claims:
            temporary = self.root / f".{claim.name}.new"
            temporary.write_text(json.dumps(asdict(claim), indent=1) + "\n", encoding="utf-8")
            temporary.replace(self.root / f"{claim.name}.json")

    @contextmanager
    def changing(self) -> Iterator[Registry]:
        """Hold the registry while a clone is removed."""
        with cache.lock("clones"):
            yield self

    def forget(self, name: str, folder: Path) -> None:
        """Free what a clone has claimed; nothing happens where the name is another folder's."""
        path = self.root / f"{name}.json"
        if path.is_file() and Claim(**json.loads(path.read_text(encoding="utf-8"))).folder == str(folder):
            path.unlink()

    def all(self) -> list[Claim]:
        """Return the clones that are there, by name."""
        found = (Claim(**json.loads(path.read_text(encoding="utf-8"))) for path in sorted(self.root.glob("*.json")))
        return [claim for claim in found if Path(claim.folder).is_dir()]

    def conflicts(self, claims: Sequence[Claim]) -> list[str]:
        """Return in words what of the claims is taken: by another clone that is there, or twice here."""
        found = []
        taken: dict[tuple[str, str], Claim] = {}
        mine = {(claim.name, claim.folder) for claim in claims}
        for claim in [*(known for known in self.all() if (known.name, known.folder) not in mine), *claims]:
            for what, value in (("name", claim.name), ("mac", claim.mac), ("address", claim.address)):
                other = taken.setdefault((what, value), claim) if value else claim
                if other is not claim:
                    found.append(f"{claim.name}: the {what} {value} is used by {other.name} in {other.folder}")
        return found
