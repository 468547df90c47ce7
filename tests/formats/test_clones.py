"""A tenant's clone in other formats: whole, for its owner alone, and one of them booted."""

from __future__ import annotations

import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from centralita.clone.export import export_clone
from centralita.clone.identity import IdentityStore
from centralita.ground.run import run
from centralita.image.build import Golden
from centralita.lab.machine import Machine
from centralita.lab.net import LabNetwork
from centralita.lab.qemu import MachineSpec
from tests.formats.conftest import BOOT_S, Seeded

pytestmark = pytest.mark.xdist_group("formats")
Record = Callable[[str, object], None]
FORMS = ("ova", "vhdx", "vhd", "xva", "vdi", "oci", "incus")


def test_a_clone_in_every_format(
    seeded: Seeded,
    golden: Golden,
    judged: Callable[[LabNetwork], None],
    tmp_path: Path,
    record_property: Record,
) -> None:
    store = IdentityStore(seeded.disc.parent / "identities")
    made = export_clone(golden, seeded.tenant, FORMS, tmp_path / "duo", store)
    assert [path.name for path in made] == [
        "duo.ova", "duo.vhdx", "duo.vhd", "duo.xva", "duo.vdi", "duo.oci.tar", "duo.incus.tar.xz", "duo.root.tar.xz",
        "duo.qcow2",
    ]  # fmt: skip
    assert sorted(p.name for p in (tmp_path / "duo").iterdir()) == sorted(path.name for path in made)
    assert stat.S_IMODE((tmp_path / "duo").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o600}
    # One disk in all of them.
    for name, driver in (("duo.vhdx", "vhdx"), ("duo.vhd", "vpc"), ("duo.vdi", "vdi")):
        run(["qemu-img", "compare", "-f", "qcow2", "-F", driver, made[-1], tmp_path / "duo" / name])
    # The tenant's MAC address is in what describes a machine.
    for name, place in (("duo.ova", "duo.ovf"), ("duo.xva", "ova.xml")):
        with tarfile.open(tmp_path / "duo" / name) as tar:
            stream = tar.extractfile(place)
            assert stream is not None
            assert seeded.identity.mac in stream.read().decode()
    with tarfile.open(tmp_path / "duo" / "duo.root.tar.xz") as tar:
        entries = {member.name: member for member in tar}
        stream = tar.extractfile("etc/machine-id")
        assert stream is not None
        assert stream.read().decode().strip() == seeded.identity.machine_id
    assert stat.S_IMODE(entries["etc/ssh/ssh_host_ed25519_key"].mode) == 0o600
    assert "etc/centralita/tenant.json" in entries
    assert not [name for name in entries if name.startswith("boot/")]

    overlay = tmp_path / "overlay.qcow2"
    run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "vhdx", "-b", tmp_path / "duo/duo.vhdx", overlay])
    overlay.chmod(0o600)
    spec = MachineSpec(name="duo", disk=overlay, mac=seeded.identity.mac, disk_bus="ahci", nic_model="e1000e")
    assert seeded.tenant.network.address is not None
    with seeded.network() as network, Machine(spec, network, workdir=tmp_path / "machine") as machine:
        answer = machine.wait_sip(seeded.tenant.network.address.ip, timeout_s=BOOT_S)
        record_property("first_sip_answer_s", round(answer.seconds, 1))
        judged(network)
