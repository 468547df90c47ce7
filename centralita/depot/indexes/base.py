"""What every index is made from: the releases, and the depot that it is for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from centralita.depot.record import Release


@dataclass(frozen=True)
class Site:
    """The depot that an index is for.

    ``url`` is where it will be served, without a slash at its end, and empty where nobody said; ``updated`` is the
    time of this publish, in UTC. ``openpgp`` is the signing key's fingerprint, ``minisign`` the public key's one line.
    """

    name: str
    url: str
    updated: datetime
    openpgp: str
    minisign: str


@dataclass(frozen=True)
class Alias:
    """A path of an index whose bytes are those of a release's file: no second copy in a folder."""

    path: str


#: Returns paths in the depot and what is there. What is called `*.asc` or `*.sjson` is clear-signed by the publish:
#: a function returns its text without a signature. Releases come in the order of their publication.
Render = Callable[[Sequence[Release], Site], Mapping[str, bytes | Alias]]
