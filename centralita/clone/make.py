"""Makes a tenant's clone of a golden image: an overlay with the tenant's files in it, complete or absent."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from centralita.clone.data import DATA_DISK, MARKER, is_kept, make_data_disk
from centralita.clone.files import GuestFile
from centralita.clone.identity import IdentityStore
from centralita.clone.inject import Injected, inject
from centralita.clone.place import exchange, place, take_kept_disk
from centralita.clone.provisioning import FOLDER, phone_files, write_phone_files
from centralita.clone.render import render
from centralita.ground import ledger
from centralita.ground.errors import CentralitaError
from centralita.ground.run import run
from centralita.image.record import GoldenRecord
from centralita.spec.tenant import Tenant

SYSTEM_DISK = "system.qcow2"
RAW_DISK = "system.raw"
RECORD = "clone.json"


class Golden(Protocol):
    """What a clone is made of: a golden image's qcow2 and its record."""

    @property
    def qcow2_path(self) -> Path:
        """The golden disk."""

    @property
    def record(self) -> GoldenRecord:
        """Its record."""


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


def make_clones(
    golden: Golden,
    wanted: Sequence[tuple[Tenant, Path, Sequence[GuestFile]]],
    store: IdentityStore,
    *,
    data_mib: int = 0,
    define: Callable[[Clone], Mapping[str, str]] | None = None,
    target: str = "kvm",
    full: bool = False,
) -> tuple[list[Clone], Injected]:
    """Make many clones with one launch of libguestfs; ``wanted`` are tenants, their folders and further files.

    With ``data_mib`` each has a data disk too; one that a removed clone has left in the folder is used again.
    ``define`` returns more files of a clone's folder by name. With ``full``, and for Xen, whose xl would need more of
    dom0 for an overlay, the system disk is a whole one, raw and sparse.

    All are made beside their places first, so that an error leaves none. Returns the clones in order, and the times.
    """
    backing = golden.qcow2_path.resolve(strict=True)
    for _tenant, dest, _extra in wanted:
        if dest.exists() and not is_kept(dest):
            raise CentralitaError(f"{dest} is there already", hint="remove it, or name another folder")
    # Everything that can be refused is refused before anything is made.
    prepared = []
    for tenant, dest, extra in wanted:
        identity = store.get_or_create(tenant)
        files = [*render(tenant, identity), *extra]
        if data_mib or is_kept(dest):
            files.insert(0, MARKER)  # before what lets services start
        prepared.append((tenant, dest.absolute(), identity, files, phone_files(tenant, identity)))
    with ExitStack() as stack:
        work: list[tuple[Path, Sequence[GuestFile]]] = []
        for _tenant, dest, _identity, files, _phones in prepared:
            dest.parent.mkdir(parents=True, exist_ok=True)
            folder = stack.enter_context(ledger.default().tempdir(f".{dest.name}.", dest.parent))
            overlay = folder / SYSTEM_DISK
            run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", backing, overlay])
            overlay.chmod(0o600)  # the tenant's secrets are in it
            work.append((overlay, files))
        times = inject(work)
        whole = full or target != "kvm"
        if whole:
            for overlay, _written in work:
                _flatten(overlay)
        clones = []
        for (tenant, dest, identity, _files, phones), (overlay, _written) in zip(prepared, work, strict=True):
            address = tenant.network.address
            kept = take_kept_disk(overlay.parent, dest)
            if data_mib and not kept:
                make_data_disk(overlay.parent / DATA_DISK, data_mib)
            clone = Clone(
                name=tenant.name,
                folder=dest,
                disk=dest / (RAW_DISK if whole else SYSTEM_DISK),
                backing=None if whole else backing,
                golden_digest=golden.record.golden_digest,
                appliance=golden.record.appliance,
                version=golden.record.full_version,
                uuid=identity.uuid,
                mac=identity.mac,
                address=None if address is None else str(address.ip),
                created=datetime.now(UTC).isoformat(timespec="seconds"),
                data=dest / DATA_DISK if data_mib or kept else None,
                target=target,
            )
            for name, text in define(clone).items() if define is not None else ():
                path = overlay.parent / name
                path.write_text(text, encoding="utf-8")
                path.chmod(0o755 if text.startswith("#!") else 0o644)
            if phones:
                write_phone_files(phones, overlay.parent / FOLDER)
            (overlay.parent / RECORD).write_text(clone.as_json(), encoding="utf-8")
            clones.append(clone)
        for clone, (overlay, _written) in zip(clones, work, strict=True):
            place(overlay.parent, clone.folder)
    return clones, times


def _flatten(overlay: Path) -> None:
    """Make a whole disk of an overlay, with its holes, and let the overlay go."""
    raw = overlay.with_name(RAW_DISK)
    raw.touch(mode=0o600)
    run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", "-S", "4k", overlay, raw])
    overlay.unlink()


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
