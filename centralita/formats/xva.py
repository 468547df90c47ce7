"""An XVA, as `xe vm-import` of XenServer and XCP-ng reads it: ova.xml, then the disk in pieces with their checksums.

The layout is xapi's (ocaml/xapi/importexport.ml and stream_vdi.ml): pieces of 1 MiB; one of zeros is left out unless it
is the first or the last; after each the SHA-1 of it. The guest is HVM: current releases have no other kind for us.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from centralita.formats.disks import MIB, add
from centralita.formats.subject import Subject

PIECE_BYTES = MIB
NOTHING = "OpaqueRef:NULL"
_VM, _VBD, _VDI, _SR, _VIF, _NETWORK = (f"Ref:{number}" for number in range(6))
#: What the disk's pieces are filed under.
DISK_REF = _VDI


def xml_of(value: object) -> str:
    """Return a value as XML-RPC writes it, numbers as text."""
    if isinstance(value, bool):
        return f"<value><boolean>{int(value)}</boolean></value>"
    if isinstance(value, float):
        return f"<value><double>{value:g}</double></value>"
    if isinstance(value, Mapping):
        members = "".join(f"<member><name>{escape(key)}</name>{xml_of(item)}</member>" for key, item in value.items())
        return f"<value><struct>{members}</struct></value>"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"<value><array><data>{''.join(xml_of(item) for item in value)}</data></array></value>"
    return f"<value>{escape(str(value))}</value>"


def _vm(subject: Subject) -> dict[str, object]:
    memory = subject.memory_mib * MIB
    return {
        "uuid": str(subject.uuid("xva/vm")),
        "allowed_operations": [],
        "current_operations": {},
        "power_state": "Halted",
        "name_label": subject.name,
        "name_description": f"{subject.title} ({subject.version})",
        "user_version": 1,
        "is_a_template": False,
        "is_default_template": False,
        "suspend_VDI": NOTHING,
        "resident_on": NOTHING,
        "affinity": NOTHING,
        "memory_overhead": 0,
        "memory_target": 0,
        "memory_static_max": memory,
        "memory_dynamic_max": memory,
        "memory_dynamic_min": memory,
        "memory_static_min": memory,
        "VCPUs_params": {},
        "VCPUs_max": subject.vcpus,
        "VCPUs_at_startup": subject.vcpus,
        "actions_after_shutdown": "destroy",
        "actions_after_reboot": "restart",
        "actions_after_crash": "restart",
        "consoles": [],
        "VIFs": [_VIF],
        "VBDs": [_VBD],
        "crash_dumps": [],
        "VTPMs": [],
        "PV_bootloader": "",
        "PV_kernel": "",
        "PV_ramdisk": "",
        "PV_args": "",
        "PV_bootloader_args": "",
        "PV_legacy_args": "",
        "HVM_boot_policy": "BIOS order",
        "HVM_boot_params": {"firmware": "bios", "order": "cd"},
        "HVM_shadow_multiplier": 1.0,
        "domain_type": "hvm",
        "platform": {
            "acpi": "1", "apic": "true", "device-model": "qemu-upstream-compat", "hpet": "true", "nx": "true",
            "pae": "true", "timeoffset": "0", "vga": "std", "videoram": "8", "viridian": "false",
            # The guest has a serial console; dom0's `xl console -t serial` shows it.
            "hvm_serial": "pty",
        },
        "PCI_bus": "",
        "other_config": {"mac_seed": str(subject.uuid("xva/mac")), "install-methods": "cdrom"},
        "domid": -1,
        "domarch": "",
        "last_boot_CPU_flags": {},
        "is_control_domain": False,
        "metrics": NOTHING,
        "guest_metrics": NOTHING,
        "last_booted_record": "",
        "recommendations": "<restrictions/>",
        "xenstore_data": {},
        "ha_always_run": False,
        "ha_restart_priority": "",
        "is_a_snapshot": False,
        "snapshot_of": NOTHING,
        "snapshots": [],
        "snapshot_info": {},
        "snapshot_metadata": "",
        "transportable_snapshot_id": "",
        "blobs": {},
        "tags": ["centralita"],
        "blocked_operations": {},
        "parent": NOTHING,
        "children": [],
        "start_delay": 0,
        "shutdown_delay": 0,
        "order": 0,
        "VGPUs": [],
        "attached_PCIs": [],
        "suspend_SR": NOTHING,
        "version": 0,
        "generation_id": "",
        "hardware_platform_version": 0,
        "has_vendor_device": False,
        "requires_reboot": False,
        "reference_label": "other-install-media",
    }  # fmt: skip


def _status() -> dict[str, object]:
    return {
        "allowed_operations": [],
        "current_operations": {},
        "currently_attached": False,
        "status_code": 0,
        "status_detail": "",
        "runtime_properties": {},
        "qos_algorithm_type": "",
        "qos_algorithm_params": {},
        "qos_supported_algorithms": [],
        "metrics": NOTHING,
        "other_config": {},
    }


def description(subject: Subject) -> bytes:
    """Return ova.xml: the machine, its disk with the connection to it, its network card, and what both hang on."""
    disk: dict[str, object] = {
        "uuid": str(subject.uuid("xva/vdi")), "name_label": f"{subject.name} system", "name_description": "",
        "allowed_operations": [], "current_operations": {}, "SR": _SR, "VBDs": [_VBD], "crash_dumps": [],
        "virtual_size": subject.size_bytes, "physical_utilisation": subject.size_bytes, "type": "user",
        "sharable": False, "read_only": False, "other_config": {}, "storage_lock": False, "location": "",
        "managed": True, "missing": False, "parent": NOTHING, "xenstore_data": {}, "sm_config": {},
        "is_a_snapshot": False, "snapshot_of": NOTHING, "snapshots": [], "tags": [], "allow_caching": False,
        "on_boot": "persist", "metadata_of_pool": NOTHING, "metadata_latest": False, "cbt_enabled": False,
    }  # fmt: skip
    connection = {
        "uuid": str(subject.uuid("xva/vbd")), "VM": _VM, "VDI": _VDI, "device": "xvda", "userdevice": "0",
        "bootable": True, "mode": "RW", "type": "Disk", "unpluggable": False, "storage_lock": False, "empty": False,
        **_status(),
    }  # fmt: skip
    card = {
        "uuid": str(subject.uuid("xva/vif")), "device": "0", "network": _NETWORK, "VM": _VM, "MAC": subject.mac or "",
        "MTU": 1500, "MAC_autogenerated": subject.mac is None, "locking_mode": "network_default", "ipv4_allowed": [],
        "ipv6_allowed": [], **_status(),
    }  # fmt: skip
    storage: dict[str, object] = {
        "uuid": str(subject.uuid("xva/sr")), "name_label": "Local storage", "name_description": "", "VDIs": [_VDI],
        "allowed_operations": [], "current_operations": {}, "PBDs": [], "virtual_allocation": 0,
        "physical_utilisation": -1, "physical_size": -1, "type": "ext", "content_type": "user", "shared": False,
        "other_config": {}, "tags": [], "sm_config": {}, "blobs": {},
    }  # fmt: skip
    network: dict[str, object] = {
        "uuid": str(subject.uuid("xva/network")), "name_label": "Pool-wide network associated with eth0",
        "name_description": "", "allowed_operations": [], "current_operations": {}, "VIFs": [_VIF], "PIFs": [],
        "MTU": 1500, "other_config": {}, "bridge": "xenbr0", "managed": True, "blobs": {}, "tags": [],
        "default_locking_mode": "unlocked", "assigned_ips": {},
    }  # fmt: skip
    objects = (
        ("VM", _VM, _vm(subject)), ("VBD", _VBD, connection), ("VDI", _VDI, disk), ("SR", _SR, storage),
        ("VIF", _VIF, card), ("network", _NETWORK, network),
    )  # fmt: skip
    version = {
        "hostname": "localhost", "date": "2024-01-01", "product_version": "8.2.0", "product_brand": "XCP-ng",
        "build_number": "release/yangtze/master/58", "xapi_major": 1, "xapi_minor": 20, "export_vsn": 2,
    }  # fmt: skip
    whole = {
        "version": version,
        "objects": [{"class": kind, "id": ref, "snapshot": values} for kind, ref, values in objects],
    }
    return f'<?xml version="1.0"?>\n{xml_of(whole)}'.encode()


def pieces(raw: Path, size_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Yield the numbered pieces of a disk that an XVA holds."""
    last = (size_bytes + PIECE_BYTES - 1) // PIECE_BYTES - 1
    with raw.open("rb") as stream:
        for number in range(last + 1):
            data = stream.read(PIECE_BYTES).ljust(PIECE_BYTES, b"\0")
            if number in (0, last) or any(data):
                yield number, data


def make_xva(subject: Subject, target: Path) -> None:
    """Write the XVA."""
    with tarfile.open(target, "w", format=tarfile.USTAR_FORMAT) as out:
        add(out, "ova.xml", description(subject), subject.epoch)
        for number, data in pieces(subject.raw, subject.size_bytes):
            name = f"{DISK_REF}/{number:08d}"
            add(out, name, data, subject.epoch)
            # The piece's name and its checksum's are read as a pair.
            digest = hashlib.sha1(data, usedforsecurity=False).hexdigest()
            add(out, f"{name}.checksum", digest.encode(), subject.epoch)
