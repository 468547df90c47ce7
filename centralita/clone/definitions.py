"""What a host is told of a clone: libvirt's domain XML and a qemu command line.

Both name disks by absolute paths and give the machine the UUID and the MAC address of the clone's record.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as Xml

from centralita.clone.make import Clone
from centralita.clone.xl import XenTarget, XlConfig

DISK_PATH = "/dev/pbx/NAME-system"
XEN_BRIDGE = "xenbr0"
# How libvirt's Xen driver names the kinds of guests (https://libvirt.org/drvxen.html), and who boots them.
_XEN_KINDS: dict[XenTarget, tuple[str, str]] = {
    "xen-pv": ("xenpv", "linux"), "xen-pvh": ("xenpvh", "xenpvh"), "xen-hvm": ("xenfv", "hvm"),
}  # fmt: skip
HVMLOADER = "/usr/lib/xen-4.17/boot/hvmloader"


@dataclass(frozen=True)
class Hardware:
    """What the machine is given. ``network`` is libvirt's network, unless there is a ``bridge`` of the host."""

    memory_mib: int
    vcpus: int
    network: str = "default"
    bridge: str = ""
    # The path of a Xen guest's system disk in dom0; NAME is the clone's.
    disk_path: str = DISK_PATH


def domain_xml(clone: Clone, hardware: Hardware) -> str:
    """Return libvirt's definition of a KVM domain (https://libvirt.org/formatdomain.html)."""
    domain = Xml.Element("domain", type="kvm")
    _text(domain, "name", clone.name)
    _text(domain, "uuid", clone.uuid)
    _text(domain, "title", f"{clone.name}: {clone.appliance} {clone.version}")
    _text(domain, "memory", str(hardware.memory_mib), unit="MiB")
    _text(domain, "vcpu", str(hardware.vcpus))
    system = Xml.SubElement(domain, "os")
    _text(system, "type", "hvm", arch="x86_64", machine="q35")
    Xml.SubElement(system, "boot", dev="hd")
    features = Xml.SubElement(domain, "features")
    Xml.SubElement(features, "acpi")
    Xml.SubElement(domain, "cpu", mode="host-passthrough", migratable="on")
    Xml.SubElement(domain, "clock", offset="utc")
    _text(domain, "on_poweroff", "destroy")
    _text(domain, "on_reboot", "restart")
    _text(domain, "on_crash", "restart")
    devices = Xml.SubElement(domain, "devices")
    for letter, (path, form) in zip("ab", _disks(clone), strict=False):
        disk = Xml.SubElement(devices, "disk", type="file", device="disk")
        Xml.SubElement(disk, "driver", name="qemu", type=form, discard="unmap")
        Xml.SubElement(disk, "source", file=str(path))
        Xml.SubElement(disk, "target", dev=f"vd{letter}", bus="virtio")
    kind = "bridge" if hardware.bridge else "network"
    card = Xml.SubElement(devices, "interface", type=kind)
    Xml.SubElement(card, "mac", address=clone.mac)
    Xml.SubElement(card, "source", {kind: hardware.bridge or hardware.network})
    Xml.SubElement(card, "model", type="virtio")
    serial = Xml.SubElement(devices, "serial", type="pty")
    Xml.SubElement(serial, "target", port="0")
    console = Xml.SubElement(devices, "console", type="pty")
    Xml.SubElement(console, "target", type="serial", port="0")
    random = Xml.SubElement(devices, "rng", model="virtio")
    _text(random, "backend", "/dev/urandom", model="random")
    Xml.SubElement(devices, "memballoon", model="virtio")
    Xml.indent(domain)
    return Xml.tostring(domain, encoding="unicode") + "\n"


def xl_config(clone: Clone, target: XenTarget, hardware: Hardware) -> XlConfig:
    """Return the domain's xl.cfg. Raises CentralitaError for a disk's path that cannot stand there."""
    system = hardware.disk_path.replace("NAME", clone.name)
    data = f"{system.removesuffix('-system')}-data" if clone.data is not None else ""
    return XlConfig(
        target=target,
        name=clone.name,
        uuid=clone.uuid,
        mac=clone.mac,
        disk=system,
        data=data,
        memory_mib=hardware.memory_mib,
        vcpus=hardware.vcpus,
        bridge=hardware.bridge or XEN_BRIDGE,
    )


def xen_xml(config: XlConfig) -> str:
    """Return the same domain for libvirt's Xen driver (xen:///system)."""
    machine, kind = _XEN_KINDS[config.target]
    hvm = config.target == "xen-hvm"
    domain = Xml.Element("domain", type="xen")
    _text(domain, "name", config.name)
    _text(domain, "uuid", config.uuid)
    _text(domain, "memory", str(config.memory_mib), unit="MiB")
    _text(domain, "vcpu", str(config.vcpus))
    if not hvm:
        _text(domain, "bootloader", "pygrub")
    system = Xml.SubElement(domain, "os")
    _text(system, "type", kind, arch="x86_64", machine=machine)
    if hvm:
        _text(system, "loader", HVMLOADER, type="rom")
        Xml.SubElement(system, "boot", dev="hd")
        Xml.SubElement(Xml.SubElement(domain, "features"), "acpi")
    Xml.SubElement(domain, "clock", offset="utc")
    _text(domain, "on_poweroff", "destroy")
    _text(domain, "on_reboot", "restart")
    _text(domain, "on_crash", "restart")
    devices = Xml.SubElement(domain, "devices")
    for letter, path in zip("ab", filter(None, (config.disk, config.data)), strict=False):
        disk = Xml.SubElement(devices, "disk", type="block", device="disk")
        Xml.SubElement(disk, "driver", name="phy", type="raw")
        Xml.SubElement(disk, "source", dev=path)
        Xml.SubElement(disk, "target", dev=f"{'hd' if hvm else 'xvd'}{letter}", bus="ide" if hvm else "xen")
    card = Xml.SubElement(devices, "interface", type="bridge")
    Xml.SubElement(card, "mac", address=config.mac)
    Xml.SubElement(card, "source", bridge=config.bridge)
    if hvm:
        Xml.SubElement(card, "model", type="e1000")
        serial = Xml.SubElement(devices, "serial", type="pty")
        Xml.SubElement(serial, "target", port="0")
    else:
        console = Xml.SubElement(devices, "console", type="pty")
        Xml.SubElement(console, "target", type="xen", port="0")
    Xml.indent(domain)
    return Xml.tostring(domain, encoding="unicode") + "\n"


def qemu_script(clone: Clone, hardware: Hardware) -> str:
    """Return a shell script that runs the clone with QEMU on this host, by the user's network or a bridge of his."""
    net = f"bridge,id=net0,br={hardware.bridge}" if hardware.bridge else "user,id=net0"
    argv = ["qemu-system-x86_64", "-name", clone.name, "-uuid", clone.uuid, "-machine", "q35,accel=kvm:tcg"]
    argv += ["-cpu", "max", "-m", str(hardware.memory_mib), "-smp", str(hardware.vcpus)]
    for path, form in _disks(clone):
        # A comma in an option's value is written twice (qemu(1)).
        file = str(path).replace(",", ",,")
        argv += ["-drive", f"file={file},format={form},if=virtio,discard=unmap"]
    argv += ["-netdev", net, "-device", f"virtio-net-pci,netdev=net0,mac={clone.mac}"]
    argv += ["-device", "virtio-rng-pci", "-nographic"]
    return f'#!/bin/sh\nexec {shlex.join(argv)} "$@"\n'


def _disks(clone: Clone) -> list[tuple[Path, str]]:
    disks = [(clone.disk, "raw" if clone.backing is None else "qcow2")]
    if clone.data is not None:
        disks.append((clone.data, "raw"))
    return disks


def _text(parent: Xml.Element, tag: str, text: str, **attributes: str) -> None:
    Xml.SubElement(parent, tag, attributes).text = text
