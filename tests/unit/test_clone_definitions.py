"""What hosts are told of clones, and that no two clones take the same."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from xml.etree import ElementTree as Xml

import pytest

from centralita.clone.definitions import Hardware, domain_xml, qemu_script, xen_xml, xl_config
from centralita.clone.make import Clone
from centralita.clone.registry import Claim, Registry
from centralita.clone.xl import XenTarget
from centralita.desk.cloning import tenants_of
from centralita.ground.errors import CentralitaError, SpecError
from centralita.ground.run import run

pytestmark = pytest.mark.unit

UUID, MAC = "5ee2e5a3-76a7-4a3c-a9f5-36cd9a3f6d02", "52:54:00:12:34:56"


def made(folder: Path, data: bool = True) -> Clone:
    backing = Path("/images/pbx.qcow2")
    disk = folder / "system.qcow2"
    return Clone("acme", folder, disk, backing, "d" * 64, "pbx-small", "0.1.0", UUID, MAC, "192.0.2.10", "now",
                 folder / "data.raw" if data else None)  # fmt: skip


def test_a_domain_has_the_clone_s_identity_and_disks() -> None:
    folder = Path("/srv/a & b/acme")
    root = Xml.fromstring(domain_xml(made(folder), Hardware(512, 2)))
    assert root.get("type") == "kvm"
    assert (root.findtext("name"), root.findtext("uuid")) == ("acme", UUID)
    memory = root.find("memory")
    assert memory is not None and (memory.text, memory.get("unit")) == ("512", "MiB")
    assert [disk.get("file") for disk in root.findall("devices/disk/source")] == [
        "/srv/a & b/acme/system.qcow2",
        "/srv/a & b/acme/data.raw",
    ]
    assert [driver.get("type") for driver in root.findall("devices/disk/driver")] == ["qcow2", "raw"]
    assert [mac.get("address") for mac in root.findall("devices/interface/mac")] == [MAC]
    assert root.find("devices/interface[@type='network']/source[@network='default']") is not None
    bridged = Xml.fromstring(domain_xml(made(folder, data=False), Hardware(512, 2, bridge="br0")))
    assert bridged.find("devices/interface[@type='bridge']/source[@bridge='br0']") is not None
    assert len(bridged.findall("devices/disk")) == 1


XEN: tuple[XenTarget, ...] = ("xen-pv", "xen-pvh", "xen-hvm")


@pytest.mark.parametrize("target", XEN)
def test_a_domain_of_xen_is_one_in_both_forms(target: XenTarget, tmp_path: Path) -> None:
    clone = dataclasses.replace(made(tmp_path), disk=tmp_path / "system.raw", backing=None, target=target)
    config = xl_config(clone, target, Hardware(512, 2))
    text = config.text()
    first = "hda" if target == "xen-hvm" else "xvda"
    assert f'"format=raw, vdev={first}, access=rw, target=/dev/pbx/acme-system"' in text
    assert "target=/dev/pbx/acme-data" in text and f'uuid = "{UUID}"' in text and f"mac={MAC}, bridge=xenbr0" in text
    assert "/etc/xen/auto/acme.cfg" in text and 'on_crash = "restart"' in text
    xml = tmp_path / "domain.xml"
    xml.write_text(xen_xml(config))
    run(["virt-xml-validate", xml, "domain"])
    root = Xml.fromstring(xml.read_text())
    assert [source.get("dev") for source in root.findall("devices/disk/source")] == [
        "/dev/pbx/acme-system",
        "/dev/pbx/acme-data",
    ]
    assert (root.findtext("uuid"), root.get("type")) == (UUID, "xen")


@pytest.mark.parametrize("path", ['/dev/pbx/NAME", "x', "/dev/a b", "relative", "/dev/a,b", "/dev/ñ", "/dev/a\nb"])
def test_a_path_that_could_break_out_of_xl_cfg_is_refused(path: str, tmp_path: Path) -> None:
    with pytest.raises(CentralitaError, match="cannot be a path in dom0"):
        xl_config(made(tmp_path), "xen-pv", Hardware(512, 1, disk_path=path))


def test_a_whole_disk_is_raw() -> None:
    whole = dataclasses.replace(made(Path("/srv")), disk=Path("/srv/system.raw"), backing=None)
    root = Xml.fromstring(domain_xml(whole, Hardware(512, 1)))
    assert [driver.get("type") for driver in root.findall("devices/disk/driver")] == ["raw", "raw"]
    assert "format=raw" in qemu_script(whole, Hardware(512, 1))


def test_the_qemu_script_is_one_command_with_quoted_paths() -> None:
    first, command, *rest = qemu_script(made(Path("/srv/a b,c")), Hardware(512, 2)).splitlines()
    assert first == "#!/bin/sh" and rest == []
    words = shlex.split(command)
    assert words[:2] == ["exec", "qemu-system-x86_64"] and words[-1] == "$@"
    assert "file=/srv/a b,,c/system.qcow2,format=qcow2,if=virtio,discard=unmap" in words
    assert f"virtio-net-pci,netdev=net0,mac={MAC}" in words


def claim(folder: Path, name: str, mac: str = MAC, address: str | None = "192.0.2.10") -> Claim:
    (folder / name).mkdir(exist_ok=True)
    return Claim(name, str(folder / name), mac, address)


def test_no_two_clones_take_the_same(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    first = claim(tmp_path, "acme")
    with registry.claimed([first]):
        pass
    assert registry.all() == [first]
    with registry.claimed([first]):  # the same clone again is no conflict
        pass
    others = [
        claim(tmp_path, "b", "52:54:00:00:00:02"),
        claim(tmp_path, "c", address="192.0.2.11"),
        claim(tmp_path, "d", "52:54:00:00:00:04", None),
    ]
    with pytest.raises(CentralitaError) as caught, registry.claimed(others):
        raise AssertionError("it was entered")
    assert "b: the address 192.0.2.10 is used by acme" in str(caught.value)
    assert f"c: the mac {MAC} is used by acme" in str(caught.value) and "d:" not in str(caught.value)
    (tmp_path / "acme").rmdir()
    with registry.claimed(others):
        pass
    assert [there.name for there in registry.all()] == ["b", "c", "d"]


def test_two_of_one_batch_cannot_take_the_same(tmp_path: Path) -> None:
    twins = [claim(tmp_path, "a"), claim(tmp_path, "b", "52:54:00:00:00:02")]
    with pytest.raises(CentralitaError, match="b: the address"), Registry(tmp_path / "registry").claimed(twins):
        raise AssertionError("it was entered")


def test_a_batch_tells_the_problems_of_all_its_files(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        people = "[{number: 101, name: Ana}]" if name == "b" else "[{number: 101}]"
        (tmp_path / f"{name}.yaml").write_text(f"name: {name}\nextensions: {people}\n")
    with pytest.raises(SpecError) as caught:
        tenants_of("", str(tmp_path / "*.yaml"))
    assert {Path(problem.file).name for problem in caught.value.problems} == {"a.yaml", "c.yaml"}
    with pytest.raises(CentralitaError, match="no file matches"):
        tenants_of("", str(tmp_path / "*.yml"))
