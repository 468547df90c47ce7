"""Which clones there are, where they are deployed, and what their machines do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from centralita.clone.registry import Registry
from centralita.ground.errors import CentralitaError
from centralita.hosts.address import parse_host
from centralita.hosts.answer import ask
from centralita.hosts.deploy import reached
from centralita.hosts.records import ClonedFolder, read_clone, read_deployed


@dataclass(frozen=True)
class Status:
    """One clone. `state` is its machine's, `not deployed`, or why the host cannot say; `sip` whether it answers."""

    name: str
    folder: str
    host: str | None
    state: str
    sip: bool | None
    address: str | None
    mac: str
    appliance: str
    version: str
    target: str


def statuses(folders: list[Path] | None = None) -> list[Status]:
    """Return the status of the clones in `folders`, by default of all that the registry knows. Asks each host once."""
    if folders is None:
        folders = [Path(claim.folder) for claim in Registry().all()]
    by_host: dict[str | None, list[ClonedFolder]] = {}
    found: list[Status] = []
    for folder in folders:
        try:
            clone, deployed = read_clone(folder), read_deployed(folder)
        except CentralitaError as error:
            found.append(Status(folder.name, str(folder), None, f"damaged: {error}", None, None, "", "", "", ""))
            continue
        by_host.setdefault(deployed.host if deployed is not None else None, []).append(clone)
    for host, clones in by_host.items():
        found += _on_host(host, clones)
    return sorted(found, key=lambda status: status.name)


def _on_host(host: str | None, clones: list[ClonedFolder]) -> list[Status]:
    if host is None:
        return [_status(clone, None, "not deployed") for clone in clones]
    try:
        with reached(parse_host(host)) as (shell, driver):
            found = []
            for clone in clones:
                state, answers = driver.state(clone.name), None
                address = clone.address
                if state == "running":
                    address = address or driver.find_address(clone.name, clone.mac)
                    answers = address is not None and ask(shell, address) is not None
                found.append(_status(clone, host, state, answers, None if address is None else str(address)))
            return found
    except CentralitaError as error:
        return [_status(clone, host, f"unknown: {error.message.splitlines()[0]}") for clone in clones]


def _status(
    clone: ClonedFolder, host: str | None, state: str, answers: bool | None = None, address: str | None = None
) -> Status:
    address = address or (None if clone.address is None else str(clone.address))
    return Status(
        clone.name, str(clone.folder), host, state, answers, address, clone.mac, clone.appliance, clone.version,
        clone.target,
    )  # fmt: skip
