"""Which clones there are: no two with one name, one address or one MAC address. Locked across processes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
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
            conflicts = list(self._conflicts(claims))
            if conflicts:
                raise CentralitaError("; ".join(conflicts), hint="remove the other clone, or change the tenant's file")
            yield
            for claim in claims:
                if Path(claim.folder).is_dir():
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

    def _conflicts(self, claims: Sequence[Claim]) -> Iterator[str]:
        there = self.all()
        for index, claim in enumerate(claims):
            for other in [*(known for known in there if known != claim), *claims[:index]]:
                for what in ("name", "mac", "address"):
                    value = getattr(claim, what)
                    if value is not None and value == getattr(other, what):
                        yield f"{claim.name}: the {what} {value} is used by {other.name} in {other.folder}"
