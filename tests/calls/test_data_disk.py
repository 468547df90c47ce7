"""What a tenant would miss is on the data disk: it outlives the system disk, and without it no call is answered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from centralita.clone.identity import IdentityStore
from centralita.clone.make import remove_clone
from centralita.image.build import Golden
from centralita.lab import sip
from centralita.lab.guest import Guest, Hardware, powered_on, prepare
from centralita.lab.phones import Phones
from centralita.spec.tenant import Tenant
from tests.conftest import BOOT_S

pytestmark = pytest.mark.xdist_group("data-disk")

DATA_MIB = 512
MESSAGES = "find /var/spool/asterisk/voicemail/default/102 -name 'msg*.wav'"
# A board whose disks can be plugged in while it runs.
HARDWARE = Hardware(board="pc", background=True)


def leave_message(guest: Guest, secret: str, workdir: Path) -> None:
    """Call 102, who has no phone here, and speak to the mailbox."""
    with Phones(guest.network, workdir=workdir) as agent:
        phone = agent.add("101", registrar=guest.address, secret=secret)
        phone.wait_registered()
        call = phone.call("102", tone_hz=745.0)
        call.wait_answered(timeout_s=60)
        call.go_on(1.5)
        call.dtmf("#")
        call.go_on(5)
        call.hangup()


def plug_in(guest: Guest, disk: Path) -> None:
    """Attach the data disk to the running machine."""
    guest.machine.qmp("blockdev-add", driver="file", node_name="late-file", filename=str(disk))
    guest.machine.qmp("blockdev-add", driver="raw", node_name="late", file="late-file")
    guest.machine.qmp("device_add", driver="virtio-blk-pci", drive="late", id="late")


def test_voicemail_and_records_outlive_the_system_disk_and_without_them_nobody_answers(
    golden: Golden, duo: Tenant, tmp_path: Path
) -> None:
    store = IdentityStore(tmp_path / "identities")
    first = prepare(golden, duo, tmp_path, store, data_mib=DATA_MIB)
    secret = first.identity.sip_secrets["101"]
    with powered_on(first, HARDWARE, name="first") as guest:
        guest.machine.wait_sip(guest.address, timeout_s=BOOT_S)
        guest.machine.wait_console(r"^centralita: up, tenant duo$", timeout_s=BOOT_S)
        ssh = guest.ssh
        mounts = ssh.run("findmnt -rno TARGET,SOURCE,OPTIONS -t ext4").stdout
        for folder in ("/var/spool/asterisk", "/var/lib/asterisk", "/var/log/asterisk/cdr-csv"):
            line = next(line for line in mounts.splitlines() if line.startswith(f"{folder} "))
            assert "/dev/vdb[" in line and "noexec" in line, line
        leave_message(guest, secret, tmp_path / "phones")
        ssh.run("asterisk -rx 'database put test kept yes'")
        messages = ssh.run(MESSAGES).stdout.split()
        assert len(messages) == 1
        records = ssh.run("cat /var/log/asterisk/cdr-csv/Master.csv").stdout
        assert "VoiceMail" in records
        spoken = ssh.run(f"sha256sum {messages[0]}").stdout
        assert ssh.run("systemctl --failed --no-legend").stdout == ""
        guest.machine.powerdown()

    assert first.clone.data is not None
    inode = first.clone.data.stat().st_ino
    remove_clone(first.clone.folder, keep_data=True)
    assert [path.name for path in first.clone.folder.iterdir()] == ["data.raw"]
    # A disk that an admin has enlarged meanwhile; the file system grows when it is mounted.
    with first.clone.data.open("r+b") as disk:
        disk.truncate((DATA_MIB + 256) * 1024 * 1024)
    again = tmp_path / "again"
    again.mkdir()
    first.clone.folder.rename(again / "clone")
    second = prepare(golden, duo, again, store, data_mib=DATA_MIB)
    assert second.clone.data is not None and second.clone.data.stat().st_ino == inode
    assert second.identity == first.identity

    with powered_on(second, Hardware(board="pc", background=True, without_data=True), name="missing") as guest:
        said = r"^centralita: up, tenant duo, but Asterisk does not run: its data disk \(label pbx-data\) is missing$"
        guest.machine.wait_console(said, timeout_s=BOOT_S)
        ssh = guest.ssh
        assert ssh.run("systemctl is-active asterisk", check=False).stdout.strip() == "inactive"
        assert sip.ping(guest.network, guest.address, timeout_s=1.0) is None
        entries = ssh.run("journalctl -b -o json -u centralita-data-disk.service").stdout.splitlines()
        told = [entry for entry in map(json.loads, entries) if "is missing" in entry["MESSAGE"]]
        assert told and told[0]["PRIORITY"] == "3"
        # The disk comes, and who starts Asterisk has all that was there.
        plug_in(guest, second.clone.data)
        ssh.run("systemctl start asterisk")
        guest.machine.wait_sip(guest.address, timeout_s=BOOT_S)
        assert ssh.run(f"sha256sum {messages[0]}").stdout == spoken
        assert ssh.run("asterisk -rx 'database get test kept'").stdout.strip() == "Value: yes"
        assert ssh.run("cat /var/log/asterisk/cdr-csv/Master.csv").stdout.startswith(records)
        assert ssh.run("stat -c '%U %a' /var/spool/asterisk/voicemail").stdout.split() == ["asterisk", "750"]
        blocks, block_bytes = map(int, ssh.run("stat -f -c '%b %S' /var/spool/asterisk").stdout.split())
        assert blocks * block_bytes > (DATA_MIB + 128) * 1024 * 1024
        guest.machine.powerdown()
