"""Makes a tenant's clone of a golden image: an overlay with the tenant's files in it, complete or absent."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from centralita.clone.data import DATA_DISK, MARKER, is_kept, make_data_disk
from centralita.clone.disks import (
    RAW_DISK,
    SYSTEM_DISK,
    Golden,
    bring_to_medium,
    golden_raw,
    holds,
    make_copies,
    make_overlays,
    proved,
)
from centralita.clone.files import GuestFile
from centralita.clone.identity import Identity, IdentityStore
from centralita.clone.inject import NOTHING, Injected, capacity, inject
from centralita.clone.place import exchange, place, take_kept_disk
from centralita.clone.provisioning import FOLDER, phone_files, write_phone_files
from centralita.clone.render import render
from centralita.ground import ledger
from centralita.ground.errors import CentralitaError
from centralita.spec.tenant import Tenant

RECORD = "clone.json"


@dataclass(frozen=True)
class Clone:
    """A clone's record (``clone.json``). It holds no secret. Paths are absolute.

    ``backing`` is the golden image of which the disk is an overlay; None: the disk is a whole one, ``system.raw``.
    """

    name: str
    folder: Path
    disk: Path
    backing: Path | None
    golden_digest: str
    appliance: str
    version: str
    uuid: str
    mac: str
    address: str | None
    created: str
    data: Path | None = None
    target: str = "kvm"

    def as_json(self) -> str:
        """Return the record's text."""
        values = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(self).items()}
        return json.dumps({"schema": 1, **values}, indent=2, ensure_ascii=False) + "\n"


def make_clone(
    golden: Golden,
    tenant: Tenant,
    dest: Path,
    store: IdentityStore,
    extra: Sequence[GuestFile] = (),
    *,
    data_mib: int = 0,
) -> Clone:
    """Make the clone of one tenant in the folder ``dest``, which must not be there; ``extra`` files are written too.

    Raises SpecError or CentralitaError; the folder is then absent.
    """
    return make_clones(golden, [(tenant, dest, extra)], store, data_mib=data_mib)[0][0]


@dataclass(frozen=True)
class _Prepared:
    """A clone that is to be made, with all that was rendered for it."""

    tenant: Tenant
    dest: Path
    identity: Identity
    files: Sequence[GuestFile]
    phones: Mapping[str, str]


def make_clones(
    golden: Golden,
    wanted: Sequence[tuple[Tenant, Path, Sequence[GuestFile]]],
    store: IdentityStore,
    *,
    data_mib: int = 0,
    define: Callable[[Clone], Mapping[str, str]] | None = None,
    target: str = "kvm",
    full: bool = False,
    batch: int | None = None,
    publishing: Callable[[Sequence[Clone]], None] | None = None,
) -> tuple[list[Clone], Injected]:
    """Make many clones, ``batch`` of them (by default as many as there is room for) with a launch of libguestfs.

    ``wanted`` are tenants, their folders and further files. With ``data_mib`` each has a data disk too; one that a
    removed clone has left in the folder is used again. ``define`` returns more files of a clone's folder by name. With
    ``full``, and for Xen, whose xl would need more of dom0 for an overlay, the system disk is a whole one, raw and
    sparse.

    Those of a launch are made beside their places first, so that an error leaves none of them; ``publishing`` is told
    of them just before they get there. Returns the clones in order, and the times.
    """
    for _tenant, dest, _extra in wanted:
        if dest.exists() and not is_kept(dest):
            raise CentralitaError(f"{dest} is there already", hint="remove it, or name another folder")
    if not wanted:
        return [], NOTHING
    # Everything that can be refused is refused before anything is made.
    backing = proved(golden)
    prepared = []
    identities = store.get_or_create_all([tenant for tenant, _dest, _extra in wanted])
    for (tenant, dest, extra), identity in zip(wanted, identities, strict=True):
        files = [*render(tenant, identity), *extra]
        if data_mib or is_kept(dest):
            files.insert(0, MARKER)  # before what lets services start
        prepared.append(_Prepared(tenant, dest.absolute(), identity, files, phone_files(tenant, identity)))
    size = max(1, batch if batch is not None else capacity())
    clones: list[Clone] = []
    times = NOTHING
    with ExitStack() as stack:
        raw = stack.enter_context(golden_raw(golden)) if full or target != "kvm" else None
        for start in range(0, len(prepared), size):
            part = prepared[start : start + size]
            made = [_clone_of(golden, one, backing if raw is None else None, bool(data_mib), target) for one in part]
            with _beside(made) as folders:
                times += _fill(part, made, folders, raw=raw, data_mib=data_mib, define=define)
                if publishing is not None:
                    publishing(made)
                for clone, folder in zip(made, folders, strict=True):
                    place(folder, clone.folder)
            clones += made
    return clones, times


def _clone_of(golden: Golden, one: _Prepared, backing: Path | None, data: bool, target: str) -> Clone:
    address = one.tenant.network.address
    return Clone(
        name=one.tenant.name,
        folder=one.dest,
        disk=one.dest / (RAW_DISK if backing is None else SYSTEM_DISK),
        backing=backing,
        golden_digest=golden.record.golden_digest,
        appliance=golden.record.appliance,
        version=golden.record.full_version,
        uuid=one.identity.uuid,
        mac=one.identity.mac,
        address=None if address is None else str(address.ip),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        data=one.dest / DATA_DISK if data or is_kept(one.dest) else None,
        target=target,
    )


@contextmanager
def _beside(clones: Sequence[Clone]) -> Iterator[list[Path]]:
    """Give a new folder for each clone, on the file system of its place; what is not moved away is removed."""
    with ExitStack() as stack:
        parents: dict[Path, Path] = {}
        folders = []
        for clone in clones:
            parent = clone.folder.parent
            if parent not in parents:
                parent.mkdir(parents=True, exist_ok=True)
                parents[parent] = stack.enter_context(ledger.default().tempdir(".clones.", parent))
            folder = parents[parent] / clone.folder.name
            folder.mkdir(mode=0o700)
            folder.chmod(0o700)
            folders.append(folder)
        yield folders


def _fill(
    part: Sequence[_Prepared],
    clones: Sequence[Clone],
    folders: Sequence[Path],
    *,
    raw: Path | None,
    data_mib: int,
    define: Callable[[Clone], Mapping[str, str]] | None,
) -> Injected:
    """Make all that is in the clones' folders; libguestfs and the rest are at work at the same time."""
    disks = [folder / clone.disk.name for clone, folder in zip(clones, folders, strict=True)]
    if raw is None:
        backing = clones[0].backing
        assert backing is not None
        make_overlays(backing, disks)
    else:
        make_copies(raw, disks)
    stop = threading.Event()

    def fill_rest() -> None:
        for one, clone, folder in zip(part, clones, folders, strict=True):
            if stop.is_set():
                return
            if not take_kept_disk(folder, one.dest) and data_mib:
                make_data_disk(folder / DATA_DISK, data_mib)
            for name, text in define(clone).items() if define is not None else ():
                path = folder / name
                path.write_text(text, encoding="utf-8")
                path.chmod(0o755 if text.startswith("#!") else 0o644)
            if one.phones:
                write_phone_files(dict(one.phones), folder / FOLDER)
            (folder / RECORD).write_text(clone.as_json(), encoding="utf-8")

    with ThreadPoolExecutor(1) as pool:
        rest = pool.submit(fill_rest)
        try:
            items = [(disk, one.files) for disk, one in zip(disks, part, strict=True)]
            times = inject(items, batch=len(items), form="qcow2" if raw is None else "raw")
        except BaseException:
            stop.set()
            raise
        rest.result()
    for one, disk in zip(part, disks, strict=True):
        if not holds(disk, one.identity.machine_id.encode("ascii")):
            raise CentralitaError(f"{disk} does not hold the machine-id of {one.tenant.name}", hint="run it again")
    bring_to_medium([*disks, *(folder / RECORD for folder in folders)])
    return times


def remove_clone(folder: Path, *, keep_data: bool = False) -> None:
    """Remove a clone's folder; with ``keep_data`` all in it but its data disk.

    Raises CentralitaError where it is none.
    """
    if not (folder / RECORD).is_file():
        raise CentralitaError(f"{folder} is not a clone's folder", hint=f"it has no {RECORD}")
    if not (keep_data and (folder / DATA_DISK).is_file()):
        shutil.rmtree(folder)
        return
    with ledger.default().tempdir(f".{folder.name}.", folder.parent) as rest:
        (rest / DATA_DISK).hardlink_to(folder / DATA_DISK)
        exchange(rest, folder)
