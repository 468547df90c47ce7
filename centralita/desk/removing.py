"""`invoke remove`: a clone goes from its host and from here; its name, MAC and address are free again."""

from __future__ import annotations

from centralita.clone.data import DATA_DISK
from centralita.clone.make import remove_clone
from centralita.clone.registry import Registry
from centralita.ground.report import get_reporter
from centralita.hosts.records import find_clone, read_deployed
from centralita.hosts.undeploy import undeploy


def remove(name: str, *, from_: str, purge: bool, dry_run: bool) -> None:
    """Remove a clone and tell what was done; the data disk stays, here and on its host, unless ``purge``.

    Raises CentralitaError where there is no such clone, or where its host does not answer: all is then as it was.
    """
    clone = find_clone(name, from_)
    reporter = get_reporter()
    deployed = read_deployed(clone.folder)
    keeps = clone.data is not None and not purge and (clone.folder / DATA_DISK).is_file()
    would = "would be " if dry_run else ""
    if deployed is not None:
        if dry_run:
            reporter.info(f"{clone.name} would be taken from {deployed.host}")
        else:
            for line in undeploy(clone.folder, purge=purge):
                reporter.info(line)
    if not dry_run:
        with Registry().changing() as registry:
            remove_clone(clone.folder, keep_data=keeps)
            registry.forget(clone.name, clone.folder)
    if keeps:
        reporter.info(f"{clone.folder / DATA_DISK} {'would be ' if dry_run else 'is '}kept: --purge removes data too")
    else:
        reporter.info(f"{clone.folder} {would}removed")
    free = ", ".join(filter(None, (clone.name, clone.mac, str(clone.address) if clone.address else "")))
    reporter.info(f"{would}free again: {free}; the tenant's identity stays for its next clone")
