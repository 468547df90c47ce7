"""The record beside a golden image: typed JSON, all that a later stage may know of it."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from centralita.ground.errors import CentralitaError


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PackageEntry(_Frozen):
    """One installed package."""

    name: str
    version: str
    arch: str
    sha256: str


class FormatEntry(_Frozen):
    """A file that holds the golden disk in one format; ``sha256`` is that of the file."""

    format: str
    file: str
    size_bytes: int
    sha256: str


class MirrorEntry(_Frozen):
    """The mirror's signed Release when the image was built."""

    url: str
    suite: str
    release_date: datetime
    age_days: float
    expired: bool


class GoldenRecord(_Frozen):
    """A golden image. ``golden_digest`` is the SHA-256 of the raw disk; sizes are in the unit of their name."""

    schema_version: Literal[1] = 1
    appliance: str
    description: str
    version: str
    build: str
    golden_digest: str
    disk_size_bytes: int
    memory_mib: int
    vcpus: int
    targets: tuple[str, ...]
    languages: tuple[str, ...]
    root_uuid: str
    root_partition: int = 3
    kernel_version: str
    kernel_cmdline: tuple[str, ...]
    tree_bytes: int
    tree_key: str
    disk_key: str
    unlocked: bool
    unlocked_packages: tuple[str, ...]
    mirror: MirrorEntry | None
    source_date_epoch: int
    packages: tuple[PackageEntry, ...]
    facts: dict[str, Any]
    formats: tuple[FormatEntry, ...]
    tools: dict[str, str]

    @property
    def full_version(self) -> str:
        """The version with its build (semver.org, 10): the name of its folder in output/."""
        return f"{self.version}+{self.build}"

    def file_of(self, folder: Path, form: str) -> Path:
        """The file of one format in the image's *folder*; CentralitaError where it was not made."""
        for entry in self.formats:
            if entry.format == form:
                return folder / entry.file
        raise CentralitaError(
            f"{self.appliance} {self.full_version} has no {form}",
            hint=f"add {form} to `formats:` of the appliance and build again",
        )


def write_record(record: GoldenRecord, path: Path) -> None:
    """Write a record whole, or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(record.model_dump_json(indent=1) + "\n")
    part.rename(path)


def load_record(path: Path) -> GoldenRecord:
    """Read a record; CentralitaError where it is missing or is not one."""
    try:
        return GoldenRecord.model_validate(json.loads(path.read_text()))
    except FileNotFoundError as error:
        name = path.stem
        raise CentralitaError(f"no golden image: {path} is not there", hint=f"invoke build {name}") from error
    except ValueError as error:
        raise CentralitaError(f"{path} is not a record of a golden image", hint="build it again") from error
