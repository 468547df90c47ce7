"""`invoke clone`: clones of a golden image, each a folder with disks, a record, and a host's definition."""

from __future__ import annotations

import glob
import json
import time
from pathlib import Path
from typing import Literal

from centralita.clone.definitions import DISK_PATH, Hardware, domain_xml, qemu_script, xen_xml, xl_config
from centralita.clone.identity import IdentityStore
from centralita.clone.make import RECORD, Clone, make_clones
from centralita.clone.registry import Claim, Registry
from centralita.clone.xl import XenTarget
from centralita.ground.errors import CentralitaError, Problem, SpecError
from centralita.ground.report import get_reporter
from centralita.image.build import Golden, latest
from centralita.spec.tenant import Tenant, load_tenant

TARGETS: tuple[XenTarget | Literal["kvm"], ...] = ("kvm", "xen-pv", "xen-pvh", "xen-hvm")


def tenants_of(one: str, many: str) -> list[Tenant]:
    """Return the tenants of a file and of a pattern of files. Raises SpecError with the problems of all of them."""
    paths = [Path(one)] if one else []
    paths += [Path(name) for name in sorted(glob.glob(many))] if many else []  # noqa: PTH207 - absolute ones too
    if not paths:
        what = f"no file matches {many}" if many else "no tenant is named"
        raise CentralitaError(what, hint="--tenant acme.yaml, or --tenants 'tenants/*.yaml'")
    tenants: list[Tenant] = []
    problems: list[Problem] = []
    for path in paths:
        try:
            tenants.append(load_tenant(path))
        except SpecError as error:
            problems += error.problems
    if problems:
        raise SpecError(problems)
    return tenants


def _is_clone(folder: Path, digest: str) -> bool:
    """Tell whether a clone of this golden image is in a folder. Raises CentralitaError for one of another image."""
    try:
        found = json.loads((folder / RECORD).read_text(encoding="utf-8"))["golden_digest"]
    except (OSError, ValueError, KeyError):
        return False
    if found != digest:
        raise CentralitaError(f"{folder} is a clone of another golden image", hint="remove it first, or use --to")
    return True


def clone(
    appliance: str,
    *,
    tenant: str,
    tenants: str,
    to: str,
    target: str,
    data_mib: int,
    network: str,
    bridge: str,
    golden: Golden | None = None,
    full: bool = False,
    disk_path: str = DISK_PATH,
) -> list[Clone]:
    """Make the clones in ``to``/NAME; all of them or, where something is refused, none.

    They are made of *golden*, else of the last built image.
    """
    chosen = next((known for known in TARGETS if known == target), None)
    if chosen is None:
        raise CentralitaError(f"there are no clones for {target}", hint=f"one of {', '.join(TARGETS)}")
    reporter = get_reporter()
    wanted = tenants_of(tenant, tenants)
    if len(wanted) > 1 and "NAME" not in disk_path:
        raise CentralitaError(f"--disk-path {disk_path} is one path for all", hint="write NAME where the clone's goes")
    golden = golden or latest(appliance)
    store = IdentityStore()
    folders = [Path(to).absolute() / item.name for item in wanted]
    hardware = Hardware(golden.record.memory_mib, golden.record.vcpus, network, bridge, disk_path)
    started = time.monotonic()
    with reporter.step("identities", total=len(wanted)) as step:
        claims = []
        for item, folder in zip(wanted, folders, strict=True):
            identity = store.get_or_create(item)
            address = item.network.address
            claims.append(Claim(item.name, str(folder), identity.mac, None if address is None else str(address.ip)))
            step.advance(1)

    def define(made: Clone) -> dict[str, str]:
        if chosen != "kvm":
            config = xl_config(made, chosen, hardware)
            return {"xl.cfg": config.text(), "domain.xml": xen_xml(config)}
        return {"domain.xml": domain_xml(made, hardware), "run-qemu": qemu_script(made, hardware)}

    with Registry().claimed(claims), reporter.step("clones") as step:
        pairs = list(zip(wanted, folders, strict=True))
        # A batch that was interrupted is finished by the same command.
        left = [pair for pair in pairs if not (tenants and _is_clone(pair[1], golden.record.golden_digest))]
        items = [(item, folder, ()) for item, folder in left]
        clones, times = make_clones(golden, items, store, data_mib=data_mib, define=define, target=target, full=full)
        if clones:
            step.note(f"libguestfs started in {times.launch_s:.1f} s, {sum(times.disk_s) / len(clones):.2f} s a clone")
        if len(left) < len(pairs):
            step.note(f"{len(pairs) - len(left)} were there already")
    rows = {made.name: f"{made.folder}  {made.address or 'DHCP'}  {made.mac}" for made in clones}
    seconds = time.monotonic() - started
    reporter.summary(f"{len(clones)} clones of {appliance} {golden.record.full_version} in {seconds:.1f} s", rows)
    return clones
