"""An OVA for VMware: an OVF 1.0 descriptor (DMTF DSP0243), its manifest, and the stream-optimised disk, in a tar."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from centralita.formats.disks import add
from centralita.formats.subject import Subject
from centralita.packages.fetch import sha256_of

# CIM's resource types (CIM_ResourceAllocationSettingData).
_CPU, _MEMORY, _SCSI, _ETHERNET, _DISK, _CD, _IDE = 3, 4, 6, 10, 17, 15, 5
OVF = """\
<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
    xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
    xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData">
  <References>
    <File ovf:id="file1" ovf:href={disk} ovf:size="{disk_bytes}"/>
  </References>
  <DiskSection>
    <Info>Virtual disks</Info>
    <Disk ovf:diskId="disk1" ovf:fileRef="file1" ovf:capacity="{size_bytes}"
        ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/>
  </DiskSection>
  <NetworkSection>
    <Info>Networks</Info>
    <Network ovf:name="VM Network">
      <Description>The network of the telephones</Description>
    </Network>
  </NetworkSection>
  <VirtualSystem ovf:id={name}>
    <Info>A virtual machine</Info>
    <Name>{name_text}</Name>
    <ProductSection>
      <Info>What it is</Info>
      <Product>{title}</Product>
      <Version>{version}</Version>
    </ProductSection>
    <OperatingSystemSection ovf:id="96">
      <Info>Debian GNU/Linux, 64 bits</Info>
      <Description>Debian GNU/Linux (64-bit)</Description>
    </OperatingSystemSection>
    <VirtualHardwareSection>
      <Info>Virtual hardware</Info>
      <System>
        <vssd:ElementName>Virtual Hardware Family</vssd:ElementName>
        <vssd:InstanceID>0</vssd:InstanceID>
        <vssd:VirtualSystemIdentifier>{name_text}</vssd:VirtualSystemIdentifier>
        <vssd:VirtualSystemType>vmx-13</vssd:VirtualSystemType>
      </System>
{items}    </VirtualHardwareSection>
  </VirtualSystem>
</Envelope>
"""


def _item(**values: object) -> str:
    """Return an Item; DSP0243 wants its elements in the alphabet's order."""
    lines = "".join(f"        <rasd:{key}>{escape(str(value))}</rasd:{key}>\n" for key, value in sorted(values.items()))
    return f"      <Item>\n{lines}      </Item>\n"


def hardware(subject: Subject) -> str:
    """Return the items of the virtual hardware: PVSCSI and VMXNET3, and a drive for the disc with a tenant."""
    card: dict[str, object] = {} if subject.mac is None else {"Address": subject.mac}
    return "".join(
        (
            _item(
                AllocationUnits="hertz * 10^6", ElementName=f"{subject.vcpus} virtual CPU(s)", InstanceID=1,
                ResourceType=_CPU, VirtualQuantity=subject.vcpus,
            ),
            _item(
                AllocationUnits="byte * 2^20", ElementName=f"{subject.memory_mib} MB of memory", InstanceID=2,
                ResourceType=_MEMORY, VirtualQuantity=subject.memory_mib,
            ),
            _item(
                Address=0, ElementName="SCSI controller 0", InstanceID=3, ResourceSubType="VirtualSCSI",
                ResourceType=_SCSI,
            ),
            _item(Address=0, ElementName="IDE controller 0", InstanceID=4, ResourceType=_IDE),
            _item(
                AddressOnParent=0, ElementName="Hard disk 1", HostResource="ovf:/disk/disk1", InstanceID=5, Parent=3,
                ResourceType=_DISK,
            ),
            _item(
                AddressOnParent=0, AutomaticAllocation="false", ElementName="CD/DVD drive 1", InstanceID=6, Parent=4,
                ResourceType=_CD,
            ),
            _item(
                **card, AddressOnParent=7, AutomaticAllocation="true", Connection="VM Network",
                ElementName="Network adapter 1", InstanceID=7, ResourceSubType="VmxNet3", ResourceType=_ETHERNET,
            ),
        )
    )  # fmt: skip


def descriptor(subject: Subject, disk: str, disk_bytes: int) -> bytes:
    """Return the OVF descriptor of a machine whose stream-optimised disk is the file *disk* of *disk_bytes*."""
    return OVF.format(
        disk=quoteattr(disk),
        disk_bytes=disk_bytes,
        size_bytes=subject.size_bytes,
        name=quoteattr(subject.name),
        name_text=escape(subject.name),
        title=escape(subject.title),
        version=escape(subject.version),
        items=hardware(subject),
    ).encode()


def make_ova(subject: Subject, target: Path, vmdk: Path) -> None:
    """Write the OVA: descriptor, manifest, disk, in this order (DSP0243, 5.3)."""
    disk = f"{subject.name}-disk1.vmdk"
    ovf = descriptor(subject, disk, vmdk.stat().st_size)
    manifest = f"SHA256({subject.name}.ovf)= {hashlib.sha256(ovf).hexdigest()}\nSHA256({disk})= {sha256_of(vmdk)}\n"
    with tarfile.open(target, "w", format=tarfile.USTAR_FORMAT) as out:
        add(out, f"{subject.name}.ovf", ovf, subject.epoch)
        add(out, f"{subject.name}.mf", manifest.encode(), subject.epoch)
        add(out, disk, vmdk, subject.epoch)
