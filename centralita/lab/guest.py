"""A clone that runs in the lab: made, booted, reachable by SSH, answering SIP, and gone afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from centralita.clone.disks import Golden
from centralita.clone.files import GuestFile
from centralita.clone.identity import Identity, IdentityStore
from centralita.clone.make import Clone, make_clone
from centralita.ground import accel
from centralita.ground.errors import CentralitaError
from centralita.lab.firmware import Firmware
from centralita.lab.machine import Machine
from centralita.lab.net import LabNetwork, Lease
from centralita.lab.options import lab_cfg
from centralita.lab.qemu import QEMU, Board, DiskBus, MachineSpec
from centralita.lab.ssh import AdminKey, SshAccess, make_key, ssh_access
from centralita.spec.tenant import Admin, Tenant

# Where a tenant leaves the address to DHCP (RFC 5737: for documentation, so nobody's).
DHCP_SUBNET = IPv4Network("198.51.100.0/24")
DHCP_ADDRESS = IPv4Address("198.51.100.10")


@dataclass(frozen=True)
class Hardware:
    """What the machine is like where it is not as the appliance declares."""

    firmware: Firmware = "bios"
    board: Board = "q35"
    disk_bus: DiskBus = "virtio"
    nic_model: str = "virtio-net-pci"
    memory_mib: int | None = None
    vcpus: int | None = None
    extra_args: tuple[str, ...] = ()
    # Take only the processor time that others leave, for a machine that runs beside one that carries calls.
    background: bool = False
    # As if the data disk had been forgotten when the machine was defined.
    without_data: bool = False


@dataclass(frozen=True)
class Prepared:
    """A clone that is made and not started: any number of machines can be run on its disk, one after the other."""

    golden: Golden
    tenant: Tenant
    identity: Identity
    clone: Clone
    key: AdminKey
    workdir: Path

    @property
    def address(self) -> IPv4Address:
        """The address that the guest will have."""
        return self.tenant.network.address.ip if self.tenant.network.address is not None else DHCP_ADDRESS

    def network(self) -> LabNetwork:
        """Return a network that fits the tenant's; not entered yet."""
        wanted = self.tenant.network
        if wanted.address is not None:
            subnet = wanted.address.network
            gateway = wanted.gateway if wanted.gateway in subnet else None
            return LabNetwork(subnet, host_address=gateway, taken=[wanted.address.ip])
        return LabNetwork(DHCP_SUBNET, leases=[Lease(self.identity.mac, DHCP_ADDRESS)])

    def machine(
        self, network: LabNetwork, workdir: Path, hardware: Hardware | None = None, *, may_reset: bool = False
    ) -> Machine:
        """Return a machine on the clone's disk; not powered on yet."""
        wanted = hardware or Hardware()
        record = self.golden.record
        spec = MachineSpec(
            name=self.tenant.name,
            disk=self.clone.disk,
            mac=self.identity.mac,
            uuid=self.identity.uuid,
            data_disk=None if wanted.without_data else self.clone.data,
            memory_mib=wanted.memory_mib or record.memory_mib,
            vcpus=wanted.vcpus or record.vcpus,
            firmware=wanted.firmware,
            board=wanted.board,
            disk_bus=wanted.disk_bus,
            nic_model=wanted.nic_model,
            extra_args=wanted.extra_args,
            may_reset=may_reset,
            qemu=("nice", "-n", "15", QEMU) if wanted.background else (QEMU,),
        )
        return Machine(spec, network, workdir=workdir)


@dataclass(frozen=True)
class Guest:
    """A running clone."""

    prepared: Prepared
    network: LabNetwork = field(repr=False)
    machine: Machine = field(repr=False)
    ssh: SshAccess

    @property
    def address(self) -> IPv4Address:
        """The guest's address."""
        return self.prepared.address


def prepare(
    golden: Golden,
    tenant: Tenant,
    workdir: Path,
    store: IdentityStore,
    *,
    lab_options: bool | None = None,
    extra: Sequence[GuestFile] = (),
    data_mib: int = 0,
) -> Prepared:
    """Make a clone in `workdir`, with a throw-away admin key beside the tenant's own.

    `lab_options` None: the lab's kernel options go in where machines are emulated, and nowhere else. With `data_mib` it
    has a data disk.

    Raises:
        SpecError, CentralitaError: the clone cannot be made; nothing of it is left.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    key = make_key(workdir)
    admins = (*tenant.admins, Admin(name="lab", ssh_keys=(key.public,)))
    tenant = tenant.model_copy(update={"admins": admins})
    if lab_options is None:
        lab_options = accel.probe().name == "tcg"
    files = [*extra, *([lab_cfg(golden.record.kernel_cmdline)] if lab_options else [])]
    clone = make_clone(golden, tenant, workdir / "clone", store, files, data_mib=data_mib)
    return Prepared(golden, tenant, store.get_or_create(tenant), clone, key, workdir)


@contextmanager
def powered_on(prepared: Prepared, hardware: Hardware | None = None, *, name: str = "machine") -> Iterator[Guest]:
    """Boot the clone; logs go into the folder `name` of its work folder. The guest is killed on the way out.

    Whoever wants an orderly end calls `guest.machine.powerdown()`.
    """
    workdir = prepared.workdir / name
    if prepared.clone.disk.stat().st_mode & 0o077:
        raise CentralitaError(f"{prepared.clone.disk} holds secrets and can be read by others")
    with ExitStack() as stack:
        network = stack.enter_context(prepared.network())
        workdir.mkdir(parents=True, exist_ok=True)
        ssh = stack.enter_context(ssh_access(network, prepared.address, prepared.identity, prepared.key, workdir))
        machine = stack.enter_context(prepared.machine(network, workdir, hardware))
        yield Guest(prepared, network, machine, ssh)
