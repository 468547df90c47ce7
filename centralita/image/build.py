"""Build an appliance: packages, OS tree, golden disk, formats, record. Each stage is cached by what it is made from."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

from centralita.ground import cache, ledger, paths
from centralita.ground.errors import CentralitaError
from centralita.ground.report import get_reporter
from centralita.image.disk import GoldenDisk, build_disk
from centralita.image.formats import IMAGE_FORMATS, FormatFile, make_format
from centralita.image.ostree import OsTree, build_ostree, package_request
from centralita.image.record import FormatEntry, GoldenRecord, MirrorEntry, PackageEntry, load_record, write_record
from centralita.packages.source import PackageSet, Request, obtain
from centralita.packages.tools import ToolsTree, tools_tree
from centralita.spec.appliance import Appliance, load_appliance

MIB = 1024 * 1024


@dataclass(frozen=True)
class Golden:
    """A golden image in output/: its folder, its record, and the qcow2 that clones are made on."""

    folder: Path
    record: GoldenRecord

    @property
    def qcow2_path(self) -> Path:
        """The image as qcow2."""
        return self.record.file_of(self.folder, "qcow2")


def lock_path(appliance: Appliance) -> Path:
    """The lock of an appliance, beside its declaration."""
    return Path(appliance.sources[0]).with_suffix(".lock")


def request_of(appliance: Appliance, mirror: str | None) -> Request:
    """The appliance's package request; *mirror* replaces the declared one."""
    request = package_request(appliance)
    if mirror is None:
        return request
    return replace(request, mirror=mirror)


def loaded(name: str) -> Appliance:
    """The appliance *name* (or a file's path), which must be one that is built."""
    appliance = load_appliance(name)
    if appliance.abstract:
        raise CentralitaError(
            f"{appliance.name} is abstract: it is only extended by others",
            hint="build one that extends it; `invoke list` shows them",
        )
    return appliance


def _record(
    appliance: Appliance,
    packages: PackageSet,
    tree: OsTree,
    disk: GoldenDisk,
    tools: ToolsTree,
    formats: list[FormatFile],
) -> GoldenRecord:
    release = packages.release
    return GoldenRecord(
        appliance=appliance.name,
        description=appliance.description,
        version=appliance.version,
        build=disk.key[:12],
        golden_digest=disk.digest,
        disk_size_bytes=disk.size_bytes,
        memory_mib=appliance.memory_mib,
        vcpus=appliance.vcpus,
        targets=appliance.targets,
        languages=appliance.asterisk.sounds,
        root_uuid=disk.root_uuid,
        kernel_version=tree.facts.get("kernel", {}).get("version", ""),
        kernel_cmdline=(f"root=UUID={disk.root_uuid}", *disk.cmdline),
        tree_bytes=tree.tree_bytes,
        tree_key=tree.key,
        disk_key=disk.key,
        unlocked=bool(packages.unlocked) or tools.unlocked,
        unlocked_packages=tuple(map(str, packages.unlocked)),
        mirror=MirrorEntry(
            url=release.mirror,
            suite=release.suite,
            release_date=release.date,
            age_days=release.age_days,
            expired=release.expired,
        )
        if release
        else None,
        source_date_epoch=packages.lock.source_date_epoch,
        packages=tuple(
            PackageEntry(name=p.name, version=p.version, arch=p.arch, sha256=p.sha256) for p in packages.lock.packages
        ),
        facts=tree.facts,
        formats=tuple(
            FormatEntry(format=f.format, file=f"{appliance.name}.{f.format}", size_bytes=f.size_bytes, sha256=f.sha256)
            for f in formats
        ),
        tools={"disk": tools.digest},
    )


def _place(record: GoldenRecord, formats: list[FormatFile]) -> Path:
    """Put the image into output/NAME/VERSION, whole or not at all, and point NAME/latest at it."""
    home = paths.output_dir() / record.appliance
    home.mkdir(parents=True, exist_ok=True)
    folder = home / record.full_version
    same = False
    if folder.is_dir():
        try:
            old = load_record(folder / f"{record.appliance}.json")
            same = old.golden_digest == record.golden_digest and all((folder / f.file).is_file() for f in old.formats)
            same = same and set(record.formats) <= set(old.formats)
            # Formats that were made of the finished image stay beside it.
            record = record.model_copy(update={"formats": old.formats}) if same else record
        except CentralitaError:
            same = False
    if same and record.mirror is None:
        pass  # the mirror could not be asked this time: what the record says of it stays
    elif same:
        write_record(record, folder / f"{record.appliance}.json")
    else:
        with ledger.default().tempdir(".new-", parent=home, mode=0o755) as new:
            for entry, made in zip(record.formats, formats, strict=True):
                _link_or_copy(made.path, new / entry.file)
            write_record(record, new / f"{record.appliance}.json")
            if folder.exists():
                folder.rename(home / f".old-{record.full_version}-{os.getpid()}")
            new.rename(folder)
        for old_folder in home.glob(".old-*"):
            shutil.rmtree(old_folder, ignore_errors=True)
    link = home / f".latest-{os.getpid()}"
    link.unlink(missing_ok=True)
    link.symlink_to(record.full_version)
    link.rename(home / "latest")
    return folder


def _link_or_copy(source: Path, target: Path) -> None:
    """A golden image is never rewritten, so cache and output may share one file."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
        target.chmod(0o444)


def build(name: str, *, mirror: str | None = None, locked: bool = False) -> Golden:
    """Build the appliance *name*, or take what the cache has; returns its golden image in output/.

    Raises SpecError for a bad declaration and CentralitaError for what fails; nothing half made is left.
    """
    reporter = get_reporter()
    started = time.monotonic()
    appliance = loaded(name)
    request = request_of(appliance, mirror)
    log = paths.logs_dir() / f"build-{appliance.name}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    with cache.lock(f"build-{appliance.name}"):
        with reporter.step("packages") as step:
            packages = obtain(request, lock_path(appliance), renew=f"invoke lock {appliance.name}", locked=locked)
            if packages.downloaded_bytes == 0:
                step.cached()
            step.note(f"{len(packages.lock.packages)} packages, {packages.downloaded_bytes / 1e6:.0f} MB downloaded")
            tools = tools_tree("disk")
        with reporter.step("OS tree", total=2 * len(packages.lock.packages)) as step:
            tree = build_ostree(appliance, packages, log, step)
            if tree.cached:
                step.cached()
        with reporter.step("golden disk") as step:
            disk = build_disk(appliance, tree, packages.lock.source_date_epoch, tools, step)
            if disk.cached:
                step.cached()
        # Clones are made on the qcow2, so it is always there.
        wanted = ["qcow2", *(form for form in appliance.formats if form in IMAGE_FORMATS[1:])]
        with reporter.step("formats", total=len(wanted)) as step:
            formats = []
            for form in wanted:
                formats.append(make_format(form, disk, step))
                step.advance(1)
            if all(f.cached for f in formats):
                step.cached()
        record = _record(appliance, packages, tree, disk, tools, formats)
        folder = _place(record, formats)
    golden = Golden(folder, record)
    _summary(golden, tree, time.monotonic() - started, log)
    return golden


def ostree_of(name: str) -> OsTree:
    """Return the OS tree of the appliance *name*, from the cache or made: what the golden image is made of."""
    appliance = loaded(name)
    log = paths.logs_dir() / f"tree-{appliance.name}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    with cache.lock(f"build-{appliance.name}"):
        packages = obtain(request_of(appliance, None), lock_path(appliance), renew=f"invoke lock {appliance.name}")
        with get_reporter().step("OS tree", total=2 * len(packages.lock.packages)) as step:
            return build_ostree(appliance, packages, log, step)


def _summary(golden: Golden, tree: OsTree, seconds: float, log: Path) -> None:
    record = golden.record
    reporter = get_reporter()
    stages = [s for s in reporter.stages if s.title in ("packages", "OS tree", "golden disk", "formats")]
    rows = {
        "image": str(golden.folder),
        "golden digest": f"sha256:{record.golden_digest}",
        "disk": f"{record.disk_size_bytes // MIB} MiB; files in it {tree.tree_bytes / 1e6:.0f} MB",
    }
    for entry in record.formats:
        rows[entry.format] = f"{entry.size_bytes / 1e6:.1f} MB"
    rows["packages"] = f"{len(record.packages)}, " + ("NOT as locked" if record.unlocked else "as locked")
    kernel = record.facts.get("kernel", {})
    if kernel:
        rows["kernel"] = (
            f"{kernel['version']}, {len(kernel['modules'])} modules of {sum(kernel['modules'].values()) / 1e6:.1f} MB; "
            f"{len(kernel['initramfs_modules'])} of them in the initramfs of {kernel['initramfs_bytes'] / 1e6:.1f} MB"
        )
    rows["stages"] = ", ".join(f"{s.title} {'cached' if s.cached else f'{s.seconds:.1f} s'}" for s in stages)
    cached = all(s.cached for s in stages)
    rows["seconds"] = f"{seconds:.1f}" + (" (all was cached)" if cached else "")
    if log.exists():
        rows["log"] = str(log)
    reporter.summary(f"{record.appliance} {record.full_version}", rows)


def latest(name: str) -> Golden:
    """The last built golden image of an appliance; CentralitaError where none was built."""
    appliance = loaded(name)
    folder = paths.output_dir() / appliance.name / "latest"
    record = load_record(folder / f"{appliance.name}.json")
    return Golden(folder.resolve(), record)
