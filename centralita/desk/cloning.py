"""`invoke clone`: clones of a golden image, each a folder with disks, a record, and a host's definition."""

from __future__ import annotations

import glob
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from centralita.clone.data import is_kept
from centralita.clone.definitions import DISK_PATH, Hardware, domain_xml, qemu_script, xen_xml, xl_config
from centralita.clone.disks import proved
from centralita.clone.identity import IdentityStore
from centralita.clone.inject import capacity
from centralita.clone.make import RECORD, Clone, make_clones
from centralita.clone.registry import Claim, Registry
from centralita.clone.xl import XenTarget
from centralita.ground import ledger
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
    dry_run: bool = False,
    batch: int = 0,
) -> list[Clone]:
    """Make the clones in ``to``/NAME; all of them or, where something is refused, none.

    They are made of *golden*, else of the last built image; ``batch`` of them (0: as many as there is room for) with a
    launch of libguestfs. ``dry_run`` says what would be made, or refused, and writes nothing.
    """
    chosen = next((known for known in TARGETS if known == target), None)
    if chosen is None:
        raise CentralitaError(f"there are no clones for {target}", hint=f"one of {', '.join(TARGETS)}")
    reporter = get_reporter()
    wanted = tenants_of(tenant, tenants)
    if len(wanted) > 1 and "NAME" not in disk_path:
        raise CentralitaError(f"--disk-path {disk_path} is one path for all", hint="write NAME where the clone's goes")
    golden = golden or latest(appliance)
    folders = [Path(to).absolute() / item.name for item in wanted]
    if dry_run:
        _tell(golden, wanted, folders, again=bool(tenants), batch=batch)
        return []
    # What a batch that was killed has left: its libguestfs, and clones that were half made.
    ledger.default().release_orphans(reporter.info)
    store = IdentityStore()
    hardware = Hardware(golden.record.memory_mib, golden.record.vcpus, network, bridge, disk_path)
    started = time.monotonic()
    with reporter.step("identities", total=len(wanted)) as step:
        identities = store.get_or_create_all(wanted)
        step.advance(len(wanted))
    macs = [identity.mac for identity in identities]
    claims = {claim.name: claim for claim in claims_of(wanted, folders, macs)}
    registry = Registry()

    def define(made: Clone) -> dict[str, str]:
        if chosen != "kvm":
            config = xl_config(made, chosen, hardware)
            return {"xl.cfg": config.text(), "domain.xml": xen_xml(config)}
        return {"domain.xml": domain_xml(made, hardware), "run-qemu": qemu_script(made, hardware)}

    with registry.claimed(list(claims.values())), reporter.step("clones", total=len(wanted)) as step:

        def publishing(made: Sequence[Clone]) -> None:
            registry.enter(claims[one.name] for one in made)
            step.advance(len(made))

        left = _left(wanted, folders, golden, again=bool(tenants))
        step.advance(len(wanted) - len(left))
        clones, times = make_clones(
            golden,
            [(item, folder, ()) for item, folder in left],
            store,
            data_mib=data_mib,
            define=define,
            target=target,
            full=full,
            batch=batch or None,
            publishing=publishing,
        )
    if clones:
        launches = "once" if times.launches == 1 else f"{times.launches} times"
        each = (time.monotonic() - started - times.launch_s) / len(clones)
        reporter.info(f"libguestfs was started {launches}, in {times.launch_s:.1f} s; {each:.2f} s a clone beside that")
    if len(left) < len(wanted):
        reporter.info(f"{len(wanted) - len(left)} were there already")
    rows = {made.name: f"{made.folder}  {made.address or 'DHCP'}  {made.mac}" for made in clones}
    seconds = time.monotonic() - started
    reporter.summary(f"{len(clones)} clones of {appliance} {golden.record.full_version} in {seconds:.1f} s", rows)
    return clones


def claims_of(wanted: Sequence[Tenant], folders: Sequence[Path], macs: Sequence[str]) -> list[Claim]:
    """What clones of tenants in these folders, with these MAC addresses, claim in the registry."""
    found = []
    for item, folder, mac in zip(wanted, folders, macs, strict=True):
        address = item.network.address
        found.append(Claim(item.name, str(folder), mac, None if address is None else str(address.ip)))
    return found


def _left(
    wanted: Sequence[Tenant], folders: Sequence[Path], golden: Golden, *, again: bool
) -> list[tuple[Tenant, Path]]:
    """Return what is to be made. A batch that was interrupted is finished by the same command."""
    pairs = zip(wanted, folders, strict=True)
    return [pair for pair in pairs if not (again and _is_clone(pair[1], golden.record.golden_digest))]


def _tell(golden: Golden, wanted: Sequence[Tenant], folders: Sequence[Path], *, again: bool, batch: int) -> None:
    """Say what would be made. Raises CentralitaError where it would be refused."""
    proved(golden)
    known = [IdentityStore().peek(item.name) for item in wanted]
    macs = ["" if identity is None else identity.mac for identity in known]
    conflicts = Registry().conflicts(claims_of(wanted, folders, macs))
    if conflicts:
        raise CentralitaError("; ".join(conflicts), hint="remove the other clone, or change the tenant's file")
    left = {item.name for item, _folder in _left(wanted, folders, golden, again=again)}
    rows = {}
    for item, folder, mac in zip(wanted, folders, macs, strict=True):
        state = "would be made" if item.name in left else "is there already"
        if item.name in left and is_kept(folder):
            state += ", with the data disk that is there"
        elif item.name in left and folder.exists():
            raise CentralitaError(f"{folder} is there already", hint="remove it, or name another folder")
        address = item.network.address
        rows[item.name] = f"{folder} {state}  {'DHCP' if address is None else address.ip}  {mac or 'new MAC address'}"
    size = batch or capacity()
    launches = -(-len(left) // size)
    title = f"{len(left)} clones of {golden.record.appliance} {golden.record.full_version} would be made"
    get_reporter().summary(f"{title}, with {launches} launch{'' if launches == 1 else 'es'} of libguestfs", rows)
