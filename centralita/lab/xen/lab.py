"""A clone on the Xen host: one host, and any number of targets that boot from overlays of the same clone, in turn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

from centralita.clone.xl import XEN_TARGETS, XenTarget, XlConfig
from centralita.ground.errors import CentralitaError
from centralita.ground.run import run
from centralita.lab.guest import Prepared
from centralita.lab.net import LabNetwork
from centralita.lab.options import EMULATION_OPTIONS
from centralita.lab.ssh import SshAccess, ssh_access
from centralita.lab.xen.dom0 import Dom0
from centralita.lab.xen.domain import XenDomain
from centralita.lab.xen.host import XenHost
from centralita.lab.xen.qemu import GuestDisk

HOST_READY_S = 600.0
# What a domain needs beside its own memory: page tables, shadow and grant tables.
OVERHEAD_MIB = 64
# A device model runs in dom0; hvmloader and the video memory are the domain's.
HVM_OVERHEAD_MIB = 192


def disk_name(target: XenTarget) -> str:
    """The name of a target's disk in dom0, in the place of an admin's logical volume."""
    return f"/dev/centralita/{target}"


@dataclass(frozen=True)
class XenGuest:
    """A running clone, as a domain."""

    prepared: Prepared
    network: LabNetwork = field(repr=False)
    machine: XenDomain = field(repr=False)
    ssh: SshAccess

    @property
    def address(self) -> IPv4Address:
        """The guest's address."""
        return self.prepared.address


@dataclass(frozen=True)
class XenLab:
    """A Xen host that is ready, with a disk for each of its targets."""

    prepared: Prepared
    network: LabNetwork = field(repr=False)
    host: XenHost = field(repr=False)
    ready_s: float

    def config(self, target: XenTarget) -> XlConfig:
        """The domain of a target. All have the clone's one identity, so only one may run at a time."""
        record, identity = self.prepared.golden.record, self.prepared.identity
        return XlConfig(
            target=target,
            name=self.prepared.tenant.name,
            uuid=identity.uuid,
            mac=identity.mac,
            disk=disk_name(target),
            memory_mib=record.memory_mib,
            vcpus=record.vcpus,
        )

    @contextmanager
    def powered_on(
        self,
        target: XenTarget,
        *,
        kernel_options: Sequence[str] = EMULATION_OPTIONS,
        config: XlConfig | None = None,
    ) -> Iterator[XenGuest]:
        """Create the domain (by another file than the target's, if one is given).

        It is destroyed on the way out, if it is still there.
        """
        domain = XenDomain(self.host, config or self.config(target))
        prepared = self.prepared
        folder = self.host.workdir / target
        folder.mkdir(exist_ok=True)
        with ssh_access(self.network, prepared.address, prepared.identity, prepared.key, folder) as ssh:
            try:
                domain.create(kernel_options)
                yield XenGuest(prepared, self.network, domain, ssh)
            finally:
                domain.end()


@contextmanager
def xen_lab(
    prepared: Prepared,
    targets: Sequence[XenTarget],
    workdir: Path,
    *,
    more_disks: Sequence[GuestDisk] = (),
    grow_mib: int = 0,
    dom0: Dom0 | None = None,
    vcpus: int = 1,
    more_mib: int = 0,
    network: LabNetwork | None = None,
    number: int = 1,
) -> Iterator[XenLab]:
    """Boot a Xen host for the clone and wait until its toolstack answers.

    `more_disks` are there beside the targets', whose disks are larger than the golden one by `grow_mib`. The host has
    `vcpus` processors and `more_mib` of memory beside what the clone needs, and a `number` where others are in its
    `network`.

    Raises:
        CentralitaError, MachineError: a target is unknown, or the host does not come up.
    """
    unknown = [target for target in targets if target not in XEN_TARGETS]
    if unknown:
        raise CentralitaError(f"unknown Xen target {', '.join(unknown)}", hint=f"one of {', '.join(XEN_TARGETS)}")
    workdir.mkdir(parents=True, exist_ok=True)
    disks = []
    for index, target in enumerate(targets):
        overlay = workdir / f"{target}.qcow2"
        run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", prepared.clone.disk, overlay])
        if grow_mib:
            run(["qemu-img", "resize", "-q", overlay, f"+{grow_mib}M"])
        overlay.chmod(0o600)  # the tenant's secrets are in it
        disks.append(GuestDisk(f"guest{index}", overlay, disk_name(target)))
    overhead_mib = HVM_OVERHEAD_MIB if "xen-hvm" in targets else OVERHEAD_MIB
    guests_mib = prepared.golden.record.memory_mib + overhead_mib
    with ExitStack() as stack:
        where = network or stack.enter_context(prepared.network())
        all_disks = [*disks, *more_disks]
        host = XenHost(
            where, workdir, all_disks, guests_mib=guests_mib + more_mib, dom0=dom0, vcpus=vcpus, number=number
        )
        stack.enter_context(host)
        ready_s = host.wait_ready(timeout_s=HOST_READY_S)
        yield XenLab(prepared, where, host, ready_s)
