"""The depot's own index: which releases there are, under which digests, since when and until when that is true."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Literal

from pydantic import Field, ValidationError

from centralita.depot.record import DepotPath, Frozen, Moment, Name, Sha256, Version, json_bytes
from centralita.ground.errors import CentralitaError

INDEX = "index.json"
#: How large an index or a record may be at most, bytes: a client reads no more of what it has not verified yet.
LIMIT = 64 * 1024 * 1024


class Entry(Frozen):
    """A file of the depot as it must be."""

    path: DepotPath
    size_bytes: int = Field(ge=0)
    sha256: Sha256


class Delta(Entry):
    """What makes the raw disk of this release out of that of an older one (``zstd --patch-from``)."""

    from_version: Version
    from_golden_digest: Sha256


class Listed(Frozen):
    """A release in the index."""

    appliance: Name
    version: Version
    golden_digest: Sha256
    untested: bool
    published: Moment
    record: Entry
    # The record's signatures.
    signatures: tuple[Entry, ...]
    deltas: tuple[Delta, ...] = ()

    @property
    def label(self) -> str:
        """`pbx-small 1.2.3+0a1b2c…`"""
        return f"{self.appliance} {self.version}"


class Index(Frozen):
    """The whole. ``others`` are the indexes for other clients, and the public keys. Releases stand oldest first.

    ``url`` is where the depot is served, for indexes that need a whole address; empty where that was not said.
    """

    schema_version: Literal[1] = 1
    depot: str = Field(min_length=1)
    url: str = ""
    serial: int = Field(ge=1)
    created: Moment
    expires: Moment
    releases: tuple[Listed, ...]
    others: tuple[Entry, ...] = ()

    def as_bytes(self) -> bytes:
        """The index as it is signed."""
        return json_bytes(self)

    @property
    def path(self) -> str:
        """Where it stands under its serial number; signatures are beside it, with .minisig and .asc."""
        return numbered(self.serial)


def numbered(serial: int) -> str:
    """`index/17.json`"""
    return f"index/{serial}.json"


def read_index(data: bytes, what: str = INDEX) -> Index:
    """Read an index that is verified already, or whose serial number is wanted. Raises CentralitaError."""
    try:
        return Index.model_validate(json.loads(data))
    except (ValueError, ValidationError) as error:
        raise CentralitaError(
            f"{what} is not an index of a depot", hint="is the address right? it is the folder that holds index.json"
        ) from error


def now() -> datetime:
    """This second, in UTC."""
    return datetime.now(UTC).replace(microsecond=0)
