"""What an admin does with a running guest by `xl`: save and restore it, reboot it; and a disk that has grown."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from centralita.lab.phones import Phone
from centralita.lab.xen.domain import XenDomain
from tests.conftest import Pbx
from tests.targets.conftest import BOOT_S, SAVED

# Deadlines, not expectations.
DOWN_S, REBOOT_S, ANSWER_S = 420.0, 600.0, 420.0

pytestmark = pytest.mark.xdist_group("xen")

Record = Callable[[str, object], None]


@pytest.fixture
def domain(pbx: Pbx) -> XenDomain:
    """The guest as a domain: a test with it runs for the rows that have one."""
    assert isinstance(pbx.guest.machine, XenDomain)
    return pbx.guest.machine


def clock_error_s(pbx: Pbx) -> float:
    """By how many seconds the guest's clock is wrong, less what asking for it took."""
    before_s = time.time()
    guest_s = float(pbx.guest.ssh.run("date +%s.%N").stdout)
    return max(before_s - guest_s, guest_s - time.time(), 0.0)


def wait_reachable(pbx: Pbx, *phones: Phone) -> None:
    """Wait until Asterisk has heard from the phones again, by asking each whether it is there."""
    deadline = time.monotonic() + ANSWER_S
    for phone in phones:
        while not re.search(rf"Contact:\s+{phone.name}/sip:\S+\s+\S+\s+Avail", pbx.asterisk("pjsip show contacts")):
            assert time.monotonic() < deadline, f"phone {phone.name} is not reachable again"


def call_goes_through(anna: Phone, ben: Phone, folder: Path) -> None:
    """Anna calls Ben, and both are heard for a moment."""
    ben.when_called(200, tone_hz=1085.0, record=folder / "ben.wav")
    before = len(ben.phones.events)
    call = anna.call("102", tone_hz=525.0, record=folder / "anna.wav")
    call.wait_answered()
    ben.wait_incoming(after=before)
    call.wait_heard(1, timeout_s=60)
    call.hangup()


@pytest.mark.usefixtures("domain")
def test_grew_to_the_size_of_its_disk(pbx: Pbx) -> None:
    disk = pbx.guest.ssh.run("lsblk -nrdo PKNAME $(findmnt -nro SOURCE /)").stdout.strip()
    disk_sectors = int(pbx.guest.ssh.run(f"cat /sys/block/{disk}/size").stdout)
    assert disk_sectors * 512 > pbx.guest.prepared.golden.record.disk_size_bytes
    first, sectors = (
        int(pbx.guest.ssh.run(f"cat /sys/block/{disk}/{disk}3/{name}").stdout) for name in ("start", "size")
    )
    assert first + sectors > disk_sectors - 4096
    blocks, block_bytes = map(int, pbx.guest.ssh.run("stat -f -c '%b %S' /").stdout.split())
    assert blocks * block_bytes > 0.9 * sectors * 512


def test_is_saved_and_restored_with_its_phones(
    pbx: Pbx, domain: XenDomain, anna: Phone, ben: Phone, tmp_path: Path, record_property: Record
) -> None:
    uptime_s = float(pbx.guest.ssh.run("cut -d' ' -f1 /proc/uptime").stdout)
    record_property("save_s", round(domain.save(SAVED), 1))
    record_property("restore_s", round(domain.restore(SAVED), 1))
    domain.wait_sip(pbx.guest.address, timeout_s=ANSWER_S)
    wait_reachable(pbx, anna, ben)
    call_goes_through(anna, ben, tmp_path)
    error_s = clock_error_s(pbx)
    record_property("clock_error_after_restore_s", round(error_s, 3))
    assert error_s <= 1
    contacts = pbx.asterisk("pjsip show contacts")
    assert all(re.search(rf"Contact:\s+{phone.name}/sip:", contacts) for phone in (anna, ben))
    # The same life, not another boot.
    assert float(pbx.guest.ssh.run("cut -d' ' -f1 /proc/uptime").stdout) > uptime_s


@pytest.mark.second_boot
def test_reboots_when_told_to(
    pbx: Pbx, domain: XenDomain, anna: Phone, ben: Phone, tmp_path: Path, record_property: Record
) -> None:
    boot_id = pbx.guest.ssh.run("cat /proc/sys/kernel/random/boot_id").stdout
    record_property("reboot_s", round(domain.reboot(timeout_s=REBOOT_S), 1))
    domain.wait_sip(pbx.guest.address, timeout_s=BOOT_S)
    assert pbx.guest.ssh.run("cat /proc/sys/kernel/random/boot_id").stdout != boot_id
    # The phones' registrations were kept.
    wait_reachable(pbx, anna, ben)
    call_goes_through(anna, ben, tmp_path)


def test_shuts_down_when_told_to(pbx: Pbx, record_property: Record) -> None:
    record_property("shutdown_s", round(pbx.guest.machine.powerdown(timeout_s=DOWN_S), 1))
