"""What is known of a clone: its folder's record, and where it was deployed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from centralita.clone.registry import Registry
from centralita.ground.errors import CentralitaError

RECORD = "clone.json"
DEPLOYED = "host.json"
#: What was last applied to the running clone: when, and the file; and a copy of it.
APPLIED = "applied.json"
TENANT = "tenant.yaml"


@dataclass(frozen=True)
class ClonedFolder:
    """A clone's record, as far as a host is concerned. `text` is the whole of it; `backing` the golden qcow2."""

    folder: Path
    text: str
    name: str
    uuid: str
    mac: str
    address: IPv4Address | None
    golden_digest: str
    appliance: str
    version: str
    target: str
    disk: Path
    backing: Path | None
    data: Path | None


@dataclass(frozen=True)
class Deployed:
    """Where a clone is deployed (`host.json`). `to` is the host's folder for all that is Centralita's."""

    host: str
    to: str
    deployed: str
    applied: str | None = None


def read_clone(folder: Path) -> ClonedFolder:
    """Return the record of a clone's folder. Raises CentralitaError where it is none."""
    path = folder / RECORD
    try:
        text = path.read_text(encoding="utf-8")
        record: dict[str, Any] = json.loads(text)
        address, backing, data = (record.get(name) for name in ("address", "backing", "data"))
        return ClonedFolder(
            folder=folder.absolute(),
            text=text,
            name=record["name"],
            uuid=record["uuid"],
            mac=record["mac"],
            address=IPv4Address(address) if address else None,
            golden_digest=record["golden_digest"],
            appliance=record["appliance"],
            version=record["version"],
            target=record.get("target", "kvm"),
            disk=Path(record["disk"]),
            backing=Path(backing) if backing else None,
            data=Path(data) if data else None,
        )
    except FileNotFoundError:
        raise CentralitaError(
            f"{folder} is not a clone's folder: it has no {RECORD}",
            hint="make one: invoke clone APPLIANCE --tenant FILE; or name the folder that holds it by --from",
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CentralitaError(f"{path} cannot be read: {error}", hint="make the clone again") from None


def find_clone(name: str, parent: str = "") -> ClonedFolder:
    """Return the clone `name`: in the folder `parent`, else where the registry of clones says; or a folder's path."""
    if parent:
        return read_clone(Path(parent) / name)
    if "/" in name:
        return read_clone(Path(name))
    known = next((claim.folder for claim in Registry().all() if claim.name == name), None)
    return read_clone(Path(known) if known else Path("clones") / name)


def read_deployed(folder: Path) -> Deployed | None:
    """Return where a clone is deployed, None where it is not."""
    try:
        record = json.loads((folder / DEPLOYED).read_text(encoding="utf-8"))
        return Deployed(record["host"], record["to"], record["deployed"], record.get("applied"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CentralitaError(f"{folder / DEPLOYED} cannot be read: {error}", hint="deploy the clone again") from None


def write_deployed(folder: Path, deployed: Deployed | None) -> None:
    """Enter where a clone is deployed; None: nowhere any more."""
    path = folder / DEPLOYED
    if deployed is None:
        path.unlink(missing_ok=True)
        return
    draft = path.with_name(f".{path.name}.new")
    draft.write_text(json.dumps({"schema": 1, **asdict(deployed)}, indent=2) + "\n", encoding="utf-8")
    draft.replace(path)
