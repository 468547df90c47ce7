"""The formats: what a file of each is called, whose it is, and how a machine is started from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from centralita.ground.errors import CentralitaError


@dataclass(frozen=True)
class Format:
    """One format. A file of it is called by the appliance's name and ``suffix``; ``needs`` are formats it is made of.

    ``holds`` tells what is in it: the golden disk, the OS tree without a kernel, or a part that goes with a disk.
    """

    name: str
    suffix: str
    media_type: str
    holds: Literal["disk", "tree", "part"]
    hypervisors: tuple[str, ...]
    start: str
    needs: tuple[str, ...] = ()
    # How long it takes beside the others: the longest begin first.
    weight: int = 1


_ALL = (
    Format(
        "qcow2", ".qcow2", "application/x-qemu-disk", "disk", ("KVM", "QEMU", "Proxmox VE", "OpenStack", "Incus (VM)"),
        "virt-install --import --disk NAME.qcow2,bus=virtio --osinfo debian12 --memory 512", weight=3,
    ),
    Format(
        "raw.zst", ".raw.zst", "application/zstd", "disk", ("Xen", "KVM", "bhyve", "a disk or a volume"),
        "zstd -d NAME.raw.zst, or zstdcat NAME.raw.zst | dd of=/dev/VOLUME bs=1M conv=sparse", weight=9,
    ),
    Format(
        "vmdk", ".vmdk", "application/x-vmdk", "disk", ("VMware",),
        "stream-optimised: import it (ovftool, vSphere client), or vmkfstools -i NAME.vmdk DISK.vmdk", weight=4,
    ),
    Format(
        "ova", ".ova", "application/ovf", "disk", ("VMware ESXi", "VMware Workstation", "VMware Fusion"),
        "ovftool NAME.ova vi://HOST/, or Deploy OVF Template; PVSCSI disk and VMXNET3 card", ("vmdk",), weight=1,
    ),
    Format(
        "vdi", ".vdi", "application/x-virtualbox-vdi", "disk", ("VirtualBox",),
        "VBoxManage storageattach PBX --storagectl SATA --port 0 --type hdd --medium NAME.vdi", weight=2,
    ),
    Format(
        "vhd", ".vhd", "application/x-virtual-pc-vhd", "disk",
        ("XenServer", "XCP-ng", "Virtual PC", "Hyper-V (generation 1)"),
        "xe vdi-import uuid=VDI filename=NAME.vhd format=vhd", weight=2,
    ),
    Format(
        "vhd-fixed", ".fixed.vhd.zst", "application/zstd", "disk", ("Microsoft Azure",),
        "zstd -d NAME.fixed.vhd.zst, then upload it as a page blob: az disk create --upload-type Upload", weight=4,
    ),
    Format(
        "vhdx", ".vhdx", "application/x-vhdx", "disk", ("Hyper-V",),
        "New-VM -Generation 2 -VHDPath NAME.vhdx; Secure Boot template MicrosoftUEFICertificateAuthority", weight=2,
    ),
    Format(
        "xva", ".xva", "application/x-xva", "disk", ("XenServer", "XCP-ng"),
        "xe vm-import filename=NAME.xva", weight=4,
    ),
    Format(
        "hdd", ".hdd.tar.gz", "application/gzip", "disk", ("Parallels Desktop", "Virtuozzo (VM)"),
        "tar -xf NAME.hdd.tar.gz, then prlctl set PBX --device-add hdd --image NAME.hdd", weight=5,
    ),
    Format(
        "kernel", ".vmlinuz", "application/octet-stream", "part", ("direct boot: QEMU, Firecracker, Xen PV and PVH",),
        "qemu-system-x86_64 -kernel NAME.vmlinuz -initrd NAME.initrd -append \"$(cat NAME.cmdline)\" -drive …",
    ),
    Format("initrd", ".initrd", "application/octet-stream", "part", ("direct boot",), "with the format kernel"),
    Format("cmdline", ".cmdline", "text/plain", "part", ("direct boot",), "with the format kernel"),
    Format(
        "root.tar.xz", ".root.tar.xz", "application/x-xz", "tree",
        ("Incus", "LXC", "systemd-nspawn", "OpenVZ", "Virtuozzo (container)", "User-mode Linux"),
        "incus image import NAME.incus.tar.xz NAME.root.tar.xz --alias NAME", weight=8,
    ),
    Format(
        "incus.tar.xz", ".incus.tar.xz", "application/x-xz", "part", ("Incus (container and VM)", "LXD"),
        "the metadata: with root.tar.xz a container, with qcow2 a virtual machine",
    ),
    Format(
        "containerdisk", ".containerdisk.tar", "application/vnd.oci.image.layout.v1.tar", "disk", ("KubeVirt",),
        "skopeo copy oci-archive:NAME.containerdisk.tar docker://REGISTRY/NAME, then containerDisk: {image: …}",
        ("qcow2",),
    ),
    Format(
        "oci", ".oci.tar", "application/vnd.oci.image.layout.v1.tar", "tree", ("Podman", "Incus (OCI)", "containerd"),
        "podman load -i NAME.oci.tar; podman run --systemd=always --network … NAME", weight=6,
    ),
)  # fmt: skip

FORMATS: dict[str, Format] = {item.name: item for item in _ALL}
#: Names for several formats that are of use together only.
GROUPS: dict[str, tuple[str, ...]] = {
    "direct": ("kernel", "initrd", "cmdline"),
    "incus": ("incus.tar.xz", "root.tar.xz", "qcow2"),
    "all": tuple(FORMATS),
}


def expand(names: Iterable[str]) -> tuple[str, ...]:
    """Return the formats of *names*, each once, with groups resolved. Raises CentralitaError for an unknown one."""
    found: dict[str, None] = {}
    for name in names:
        if name not in FORMATS and name not in GROUPS:
            raise CentralitaError(f"no format {name}", hint=f"formats: {', '.join((*FORMATS, *GROUPS))}")
        found.update(dict.fromkeys(GROUPS.get(name, (name,))))
    return tuple(found)


def file_name(stem: str, name: str) -> str:
    """Return what the file of a format is called for the appliance or clone *stem*."""
    return stem + FORMATS[name].suffix
