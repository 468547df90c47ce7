"""What every kind of host can do with a machine."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import PurePosixPath
from typing import Literal, Protocol

State = Literal["absent", "off", "running", "paused", "crashed"]


class Driver(Protocol):
    """A host's way to define, start and end machines. A machine is known by its name."""

    #: The file of a clone's folder by which a machine is defined.
    definition: str

    def state(self, name: str) -> State:
        """Return what a machine does, as the host knows it."""

    def uuid(self, name: str) -> str | None:
        """Return the UUID of a machine, None where there is none of that name."""

    def adapted(self, text: str, moved: dict[str, str]) -> str:
        """Return a definition for this host; `moved` are files' paths with their places on the host."""

    def define(self, name: str, path: PurePosixPath) -> None:
        """Make a machine known by the definition in a file of the host, and have it started with the host."""

    def start(self, name: str, path: PurePosixPath) -> None:
        """Start a machine that is defined by the file `path`."""

    def shutdown(self, name: str) -> None:
        """Ask a machine to shut itself down; does not wait."""

    def destroy(self, name: str) -> None:
        """Take the power away."""

    def undefine(self, name: str) -> None:
        """Make a machine unknown; its disks stay."""

    def find_address(self, name: str, mac: str) -> IPv4Address | None:
        """Return the address that a machine has got by DHCP, None where it is not known (yet)."""
