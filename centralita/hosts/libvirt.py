"""A host with libvirt (KVM, QEMU or Xen), spoken to by virsh(1) on the host itself."""

from __future__ import annotations

import os
import re
from ipaddress import IPv4Address
from pathlib import PurePosixPath
from xml.etree import ElementTree as Xml

from centralita.ground import accel
from centralita.ground.errors import CentralitaError
from centralita.ground.run import Completed
from centralita.hosts.driver import State
from centralita.hosts.shell import Shell

_STATES: dict[str, State] = {
    "running": "running", "idle": "running", "in shutdown": "running", "paused": "paused", "pmsuspended": "paused",
    "crashed": "crashed", "shut off": "off",
}  # fmt: skip
_ABSENT = re.compile(r"failed to get domain|no domain with matching", re.IGNORECASE)
_IPV4 = re.compile(r"\b(\d{1,3}(?:\.\d{1,3}){3})\b")


class Libvirt:
    """A host's libvirt. Its domains are persistent and start with the host."""

    definition = "domain.xml"

    def __init__(self, shell: Shell, uri: str) -> None:
        self._shell = shell
        self._uri = uri
        self._kvm: bool | None = None

    def _virsh(self, *words: str | PurePosixPath, check: bool = True) -> Completed:
        return self._shell.run(["virsh", "--quiet", "--connect", self._uri, *words], check=check)

    def _asked(self, *words: str) -> str | None:
        """Return what virsh says of a domain, None where there is no such domain."""
        done = self._virsh(*words, check=False)
        if done.returncode == 0:
            return done.stdout.strip()
        said = done.stderr.strip()
        if _ABSENT.search(said):
            return None
        if done.returncode == 127 or "not found" in said:
            raise CentralitaError(f"there is no virsh: {said}", hint="install the Debian package libvirt-clients there")
        raise CentralitaError(f"libvirt at {self._uri} does not answer: {said}", hint=f"try: virsh -c {self._uri} list")

    def state(self, name: str) -> State:
        """Return what a domain does."""
        said = self._asked("domstate", name)
        return "absent" if said is None else _STATES.get(said, "running")

    def uuid(self, name: str) -> str | None:
        """Return the UUID of a domain, None where there is none of that name."""
        return self._asked("domuuid", name)

    def adapted(self, text: str, moved: dict[str, str]) -> str:
        """Return the domain with its disks in their places, and emulated by QEMU where the host has no KVM."""
        domain = Xml.fromstring(text)
        for source in domain.iterfind("./devices/disk/source"):
            for key in ("file", "dev"):
                if (path := source.get(key)) in moved:
                    source.set(key, moved[path])
        if domain.get("type") == "kvm" and not self.has_kvm():
            domain.set("type", "qemu")
            cpu = domain.find("cpu")
            if cpu is not None:
                # The host's own processor is KVM's to give; this is all that QEMU can emulate.
                cpu.attrib.clear()
                cpu.set("mode", "maximum")
        return Xml.tostring(domain, encoding="unicode") + "\n"

    def has_kvm(self) -> bool:
        """Whether KVM works on the host: proved by a booted kernel here, as libvirt has it elsewhere.

        `CENTRALITA_ACCEL` in the environment decides for both.
        """
        if self._kvm is None:
            if self._shell.local or os.environ.get("CENTRALITA_ACCEL"):
                self._kvm = accel.probe().name == "kvm"
            else:
                self._kvm = self._virsh("domcapabilities", "--virttype", "kvm", check=False).returncode == 0
        return self._kvm

    def define(self, name: str, path: PurePosixPath) -> None:
        """Define a domain from a file of the host, and have it started with the host."""
        self._virsh("define", "--validate", path)
        self._virsh("autostart", name)

    def start(self, name: str, path: PurePosixPath) -> None:
        """Start a domain, or let it go on."""
        self._virsh("resume" if self.state(name) == "paused" else "start", name)

    def shutdown(self, name: str) -> None:
        """Press a domain's power button."""
        self._virsh("shutdown", name)

    def destroy(self, name: str) -> None:
        """Take a domain's power away."""
        self._virsh("destroy", name, check=False)

    def undefine(self, name: str) -> None:
        """Make a domain unknown; its disks stay."""
        self._virsh("undefine", name)

    def find_address(self, name: str, mac: str) -> IPv4Address | None:
        """Return the address of the domain's card: by the lease of libvirt's network, or by the host's ARP table."""
        for source in ("lease", "arp"):
            for line in self._virsh("domifaddr", name, "--source", source, check=False).stdout.splitlines():
                if mac.lower() in line.lower() and (found := _IPV4.search(line)):
                    return IPv4Address(found[1])
        return None
