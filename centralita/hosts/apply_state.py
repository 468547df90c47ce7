"""What a running clone's files are, as its side of `invoke apply` tells (inside/apply)."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field

from centralita.ground.errors import CentralitaError


@dataclass(frozen=True)
class Present:
    """A file in the machine; `kind` is find(1)'s letter. `text` is there for files that are shown."""

    kind: str
    owner: str
    group: str
    mode: int
    link: str = ""
    sha256: str = ""
    text: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Machine:
    """The machine's files by path, as they were when all was well.

    `cut`: an earlier apply was cut short. `calls` that are up; None: Asterisk does not run. `loaded` is the
    dial plan that is loaded where it is more than the file's.
    """

    files: dict[str, Present]
    fingerprint: str
    cut: bool
    calls: int | None
    loaded: str | None = field(default=None, repr=False)


def parse(said: str) -> Machine:
    """Return what `read` has told. Raises CentralitaError where it is not all there."""
    places: list[tuple[str, str]] = []
    files: dict[str, Present] = {}
    sums: dict[str, str] = {}
    texts: dict[str, bytes] = {}
    words: dict[str, str] = {}

    def named(path: str) -> str:
        for place, name in places:
            if path == place or path.startswith(place + "/"):
                return name + path[len(place) :]
        return path

    ended = False
    try:
        for line in said.splitlines():
            kind, *rest = line.split("\t")
            if kind == "place":
                places.append((rest[0], rest[1]))
            elif kind == "file":
                letter, owner, group, mode, path, link = rest
                files[named(path)] = Present(letter, owner, group, int(mode, 8), link)
            elif kind == "sum":
                digest, path = rest[0].split("  ", 1)
                sums[named(path)] = digest
            elif kind == "text":
                texts[named(rest[0])] = base64.b64decode(rest[1])
            elif kind == "end":
                ended = True
            else:
                words[kind] = rest[0]
        if not ended:
            raise ValueError("its end is missing")
        whole = {
            path: Present(f.kind, f.owner, f.group, f.mode, f.link, sums.get(path, ""), texts.get(path))
            for path, f in files.items()
        }
        calls = words["calls"]
        loaded = base64.b64decode(words["loaded"]).decode() if "loaded" in words else None
        cut = words["state"] == "cut"
        return Machine(whole, words["fingerprint"], cut, int(calls) if calls else None, loaded)
    except (ValueError, KeyError, IndexError, binascii.Error) as error:
        raise CentralitaError(f"the machine's answer cannot be read: {error}", hint="is it a clone of ours?") from None
