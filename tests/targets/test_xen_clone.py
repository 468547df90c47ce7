"""What `invoke clone --target xen-pvh` makes is taken by xl as it is, byte for byte."""

from __future__ import annotations

import pytest

from centralita.clone.definitions import Hardware, xl_config
from centralita.clone.make import Clone
from centralita.lab.xen.lab import XenLab
from tests.targets.conftest import BOOT_S

pytestmark = pytest.mark.xdist_group("xen")


def test_its_xl_cfg_is_what_xl_creates(lab: XenLab, for_xen: Clone) -> None:
    record = lab.prepared.golden.record
    config = xl_config(for_xen, "xen-pvh", Hardware(record.memory_mib, record.vcpus))
    written = (for_xen.folder / "xl.cfg").read_bytes()
    assert config.text().encode() == written
    with lab.powered_on("xen-pvh", config=config) as guest:
        # Asterisk waits for the data disk: an answer shows that both disks are there.
        assert guest.machine.wait_sip(guest.address, timeout_s=BOOT_S).status in (200, 401)
        seen = lab.host.dom0.run(["cat", guest.machine.config_path]).stdout
        assert seen.encode() == written
        guest.machine.wait_console(r"^centralita: up, tenant duo$", timeout_s=BOOT_S)
        guest.machine.powerdown(timeout_s=420)
