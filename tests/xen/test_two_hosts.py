"""Two Xen hosts side by side, and a guest that moves from one to the other while it runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from centralita.clone.xl import XenTarget
from centralita.ground.run import run
from centralita.lab.guest import Prepared
from centralita.lab.phones import Phones
from centralita.lab.ssh import ssh_access
from centralita.lab.xen.lab import XenGuest, XenLab, xen_lab
from centralita.lab.xen.migrate import give_address, migrate
from centralita.lab.xen.qemu import GuestDisk
from tests.calls.conftest import registered
from tests.conftest import Boot, Pbx
from tests.targets.test_xen_life import call_goes_through, clock_error_s
from tests.xen.conftest import DOWN_S, boot_s

pytestmark = pytest.mark.xdist_group("xen")

# dom0 has an address only for a migration: the last ones of the tenant's network, which the guest does not have.
FIRST, SECOND = -2, -3
MOVED = "moved"
Record = Callable[[str, object], None]


@pytest.fixture(scope="module")
def hosts(prepared: Prepared) -> Iterator[tuple[XenLab, XenLab]]:
    """Two hosts in one network, with one disk that both see."""
    folder = prepared.workdir / "two-hosts"
    folder.mkdir()
    raw = folder / "moved.raw"
    run(["qemu-img", "convert", "-O", "raw", prepared.clone.disk, raw])
    raw.chmod(0o600)
    shared = GuestDisk(MOVED, raw, f"/dev/centralita/{MOVED}", form="raw", shared=True)
    with prepared.network() as network:
        made: dict[int, XenLab] = {}
        up, done = threading.Barrier(3), threading.Event()

        def hold(number: int) -> None:
            try:
                with xen_lab(
                    prepared, ["xen-pv", "xen-pvh"], folder / str(number),
                    more_disks=[shared], network=network, number=number,
                ) as ready:  # fmt: skip
                    made[number] = ready
                    up.wait()
                    done.wait()
            finally:
                up.abort()

        threads = [threading.Thread(target=hold, args=(number,), daemon=True) for number in (1, 2)]
        for thread in threads:
            thread.start()
        try:
            up.wait(600)
            yield made[1], made[2]
        finally:
            done.set()
            for thread in threads:
                thread.join(120)


@pytest.mark.parametrize("kind", ["xen-pv", "xen-pvh"])
def test_moves_to_another_host_while_it_runs(
    hosts: tuple[XenLab, XenLab], kind: XenTarget, prepared: Prepared, tmp_path: Path, record_property: Record
) -> None:
    here, there = hosts
    subnet = here.network.subnet
    addresses = [IPv4Address(int(subnet.broadcast_address) + last) for last in (FIRST, SECOND)]
    for lab, address in zip(hosts, addresses, strict=True):
        if kind == "xen-pv":
            give_address(lab.host, address, subnet.prefixlen)
    config = replace(here.config(kind), disk=f"/dev/centralita/{MOVED}")
    with here.powered_on(kind, config=config) as guest:
        answer = guest.machine.wait_sip(guest.address, timeout_s=boot_s(kind))
        pbx = Pbx(guest, Boot(answer, "", {}, ""))
        with Phones(guest.network, workdir=tmp_path) as phones:
            anna, ben = registered(pbx, phones, "101"), registered(pbx, phones, "102")
            uptime_s = float(guest.ssh.run("cut -d' ' -f1 /proc/uptime").stdout)
            moved, seconds = migrate(guest.machine, there.host, addresses[1])
            record_property("migration_s", round(seconds, 1))
            try:
                moved.wait_sip(guest.address, timeout_s=120)
                folder = there.host.workdir / kind
                folder.mkdir(exist_ok=True)
                identity, key = prepared.identity, prepared.key
                with ssh_access(there.network, guest.address, identity, key, folder) as ssh:
                    again = Pbx(XenGuest(prepared, there.network, moved, ssh), Boot(answer, "", {}, ""))
                    call_goes_through(anna, ben, tmp_path)
                    error_s = clock_error_s(again)
                    record_property("clock_error_after_migration_s", round(error_s, 3))
                    assert error_s <= 1
                    assert float(ssh.run("cut -d' ' -f1 /proc/uptime").stdout) > uptime_s
                assert guest.machine.state is None
                moved.powerdown(timeout_s=DOWN_S)
            finally:
                moved.end()


def test_two_guests_side_by_side_take_less_than_one_after_the_other(
    prepared: Prepared, record_property: Record
) -> None:
    def boot(kind: XenTarget, folder: Path) -> None:
        with xen_lab(prepared, [kind], folder) as lab, lab.powered_on(kind) as guest:
            guest.machine.wait_sip(guest.address, timeout_s=boot_s(kind))
            guest.machine.powerdown(timeout_s=DOWN_S)
            ended.append(kind)

    kinds: tuple[XenTarget, ...] = ("xen-pv", "xen-pvh")
    ended: list[str] = []
    started = time.monotonic()
    for kind in kinds:
        boot(kind, prepared.workdir / f"alone-{kind}")
    alone_s = time.monotonic() - started
    started = time.monotonic()
    threads = [threading.Thread(target=boot, args=(kind, prepared.workdir / f"beside-{kind}")) for kind in kinds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    record_property("one_after_the_other_s", round(alone_s, 1))
    record_property("side_by_side_s", round(time.monotonic() - started, 1))
    assert len(ended) == 4
