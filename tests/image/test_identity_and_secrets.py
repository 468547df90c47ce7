"""Who the clone is, and who may read what in it."""

from __future__ import annotations

import pytest
from testinfra.host import Host

from centralita.ground.run import run
from tests.conftest import Pbx

pytestmark = pytest.mark.xdist_group("duo")


def test_machine_id_host_name_and_time_zone_are_the_clone_s(pbx: Pbx, host: Host) -> None:
    assert host.file("/etc/machine-id").content_string.strip() == pbx.guest.prepared.identity.machine_id
    assert host.check_output("cat /proc/sys/kernel/hostname") == "duo"
    assert host.file("/etc/localtime").linked_to == "/usr/share/zoneinfo/Europe/Madrid"
    assert host.check_output("date +%Z") in ("CET", "CEST")


def test_network_is_as_the_tenant_declares(pbx: Pbx, host: Host) -> None:
    interface = host.check_output("ip -4 -brief address show dev eth0").split()
    assert interface[2] == str(pbx.tenant.network.address)
    assert f"via {pbx.tenant.network.gateway}" in host.check_output("ip -4 route show default")
    assert host.check_output("cat /sys/class/net/eth0/address") == pbx.guest.prepared.identity.mac


def test_asterisk_s_entity_id_is_the_clone_s(pbx: Pbx) -> None:
    # Asterisk makes it of the MAC address, which is nobody else's (CLI: core show settings).
    settings = pbx.asterisk("core show settings")
    found = next(line.partition(":")[2].strip() for line in settings.splitlines() if "Entity ID" in line)
    assert found == pbx.guest.prepared.identity.mac


def test_host_keys_are_the_identity_s_and_private(pbx: Pbx, host: Host) -> None:
    # That ssh came in proves that the machine has them: the lab's known_hosts holds no others.
    private = host.check_output("find /etc/ssh -name 'ssh_host_*_key'").split()
    assert len(private) == len(pbx.guest.prepared.identity.host_keys)
    for path in private:
        key = host.file(path)
        assert (key.user, key.group, key.mode) == ("root", "root", 0o600)


def test_no_account_can_log_in_with_a_password(host: Host) -> None:
    accounts = [line.split(":") for line in host.file("/etc/shadow").content_string.splitlines()]
    hashes = {account[0]: account[1] for account in accounts}
    assert hashes["root"].startswith(("!", "*"))
    assert [name for name, value in hashes.items() if not value.startswith(("!", "*"))] == []
    assert [line for line in host.file("/etc/passwd").content_string.splitlines() if line.split(":")[1] != "x"] == []


def test_ssh_takes_keys_only(pbx: Pbx, host: Host) -> None:
    settings = host.check_output("sshd -T").lower().splitlines()
    assert "passwordauthentication no" in settings
    assert "kbdinteractiveauthentication no" in settings
    without_key = ["-o", "PubkeyAuthentication=no", "-o", "ControlPath=none"]
    refused = run(["ssh", "-F", pbx.guest.ssh.config, *without_key, pbx.guest.ssh.host, "true"], check=False)
    assert refused.returncode != 0
    assert "Permission denied (publickey)" in refused.stderr


def test_asterisk_s_configuration_is_closed_to_others(host: Host) -> None:
    assert host.check_output("find /etc/asterisk -perm /o=rwx") == ""
    assert host.check_output("find /etc/asterisk ! -user root") == ""
    for name in ("pjsip.conf", "voicemail.conf"):
        file = host.file(f"/etc/asterisk/{name}")
        assert (file.user, file.group, file.mode) == ("root", "asterisk", 0o640)


def test_asterisk_s_state_is_its_own(host: Host) -> None:
    for path in ("/var/lib/asterisk", "/var/spool/asterisk", "/var/log/asterisk"):
        folder = host.file(path)
        assert (folder.user, folder.group, folder.mode) == ("asterisk", "asterisk", 0o750)


def test_no_secret_can_be_read_by_everybody(pbx: Pbx) -> None:
    numbers = [extension.number for extension in pbx.tenant.extensions]
    hidden = [pbx.secret(number) for number in numbers]
    hidden += ["OPENSSH PRIVATE KEY"]
    hidden += [
        line.split(":")[1].strip()
        for line in pbx.guest.ssh.run(
            "sed -n 's/^password_digest *= *//p' /etc/asterisk/pjsip.conf"
        ).stdout.splitlines()
    ]
    assert len(hidden) == 2 * len(numbers) + 1 + len(numbers)
    search = (
        "umask 077; cat > /run/needles; "
        "find /etc /var /root /home /run /usr/libexec /boot -xdev -type f -perm -o=r ! -path /run/needles "
        "-exec grep -lF -f /run/needles -- {} + ; rm /run/needles"
    )
    found = run(pbx.guest.ssh.argv(search), stdin="\n".join(hidden).encode() + b"\n", check=False)
    assert found.stdout == ""


def test_secrets_are_stored_as_digests_only(pbx: Pbx) -> None:
    # The plain SIP secret is nowhere in the guest, not even where only Asterisk can read.
    needles = "\n".join(pbx.secret(extension.number) for extension in pbx.tenant.extensions)
    search = "umask 077; cat > /run/needles; grep -rlF -f /run/needles /etc /var /root /boot; rm /run/needles"
    found = run(pbx.guest.ssh.argv(search), stdin=needles.encode() + b"\n", check=False)
    assert found.stdout == ""
