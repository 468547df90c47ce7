"""What the depot's tests share: small images that stand for golden ones, throw-away keys, and a depot of them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from centralita.desk import depots
from centralita.image.build import Golden
from centralita.image.record import FormatEntry, GoldenRecord, PackageEntry, write_record

NAME = "pbx-test"


def image(
    output: Path,
    content: bytes,
    *,
    version: str = "1.0.0",
    packages: tuple[str, ...] = ("asterisk",),
    files: dict[str, bytes] | None = None,
) -> Golden:
    """A golden image's folder in *output* with *content* for a disk; *files* are its formats, else no real ones."""
    digest = hashlib.sha256(content).hexdigest()
    files = files or {"qcow2": b"QFI\xfb" + content, "raw.zst": b"zstd" + content}
    record = GoldenRecord(
        appliance=NAME,
        description="An image that stands for one",
        version=version,
        build=digest[:12],
        golden_digest=digest,
        disk_size_bytes=len(content),
        memory_mib=512,
        vcpus=1,
        targets=("kvm", "xen-pv"),
        languages=("en",),
        root_uuid="281a869b-bfbf-5769-831a-f4a80a61da9c",
        kernel_version="6.12",
        kernel_cmdline=("ro",),
        tree_bytes=1,
        tree_key=digest,
        disk_key=digest,
        unlocked=False,
        unlocked_packages=(),
        mirror=None,
        source_date_epoch=1_700_000_000,
        packages=tuple(PackageEntry(name=name, version="1-1", arch="amd64", sha256="0" * 64) for name in packages),
        facts={},
        formats=tuple(
            FormatEntry(
                format=form, file=f"{NAME}.{form}", size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest()
            )
            for form, data in files.items()
        ),
        tools={},
    )
    folder = output / NAME / record.full_version
    folder.mkdir(parents=True, exist_ok=True)
    for form, data in files.items():
        (folder / f"{NAME}.{form}").write_bytes(data)
    write_record(record, folder / f"{NAME}.json")
    return Golden(folder, record)


def publish(golden: Golden, to: Path | str, *, name: str = "test", untested: bool = True) -> None:
    """Publish an image."""
    depots.publish_golden(golden, to=str(to), untested=untested, dry_run=False, name=name, url="")
