"""The machine: what runs, what listens, what time it is, how much memory it needs."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest
from testinfra.host import Host

from centralita.lab.options import EMULATION_OPTIONS
from tests.conftest import Pbx

pytestmark = pytest.mark.xdist_group("duo")

MEMORY_LIMIT_MIB = 120
# PJSIP says this, now and then, of modules that Asterisk itself registers while its other threads are running already.
HARMLESS_WARNING = r'pjproject: .*Module "[^"]*" registered during operation'
Record = Callable[[str, object], None]


def test_asterisk_runs_as_its_own_user(host: Host) -> None:
    service = host.service("asterisk")
    assert service.is_running
    assert service.is_enabled
    processes = host.process.filter(comm="asterisk")
    assert {process.user for process in processes} == {"asterisk"}


def test_nothing_failed_at_boot(host: Host) -> None:
    assert host.run("systemctl --failed --no-legend --plain").stdout == ""
    assert host.run("systemctl is-system-running").stdout.strip() == "running"


def test_nothing_listens_but_ssh_and_sip(host: Host) -> None:
    lines = host.check_output("ss -H -l -n -t -u").splitlines()
    sockets = {(line.split()[0], int(line.split()[4].rpartition(":")[2])) for line in lines}
    # From a port of the range for clients nobody is served: PJSIP asks name servers from two such UDP ports.
    # RTP ports are opened for a call and closed with it.
    first, last = map(int, host.check_output("cat /proc/sys/net/ipv4/ip_local_port_range").split())
    served = {(protocol, port) for protocol, port in sockets if protocol == "tcp" or not first <= port <= last}
    assert served == {("tcp", 22), ("tcp", 5060), ("udp", 5060)}
    assert len(sockets - served) <= 2


# The lab asks for an answer while Asterisk is still loading; pjproject says that a packet came before its last module.
ASKED_TOO_EARLY = "registered during operation. Enable PJSIP_SAFE_MODULE"


def test_asterisk_had_nothing_to_complain_about(pbx: Pbx) -> None:
    complaints = [line for line in pbx.boot.asterisk_log.splitlines() if re.search(r"\b(WARNING|ERROR)\[", line)]
    assert [line for line in complaints if ASKED_TOO_EARLY not in line] == []


def test_asterisk_is_version_22_with_the_declared_accounts(pbx: Pbx) -> None:
    assert pbx.asterisk("core show version").startswith("Asterisk 22.")
    endpoints = set(re.findall(r"^ Endpoint:  (\d+)", pbx.asterisk("pjsip show endpoints"), re.MULTILINE))
    assert endpoints == {extension.number for extension in pbx.tenant.extensions}


def test_timer_ticks_fifty_times_a_second(pbx: Pbx, record_property: Record) -> None:
    text = pbx.asterisk("timing test")
    ticks = re.search(r"got (\d+) timer ticks", text)
    assert ticks is not None, text
    record_property("timer_ticks_per_s", int(ticks[1]))
    assert "timerfd" in text
    assert 45 <= int(ticks[1]) <= 51


def test_clock_is_right(host: Host, record_property: Record) -> None:
    before_s = time.time()
    guest_s = float(host.check_output("date +%s.%N"))
    after_s = time.time()
    record_property("clock_error_s", round(max(before_s - guest_s, guest_s - after_s, 0.0), 3))
    assert before_s - 2 <= guest_s <= after_s + 2


def test_memory_in_use_after_boot(pbx: Pbx, record_property: Record) -> None:
    info = pbx.boot.meminfo
    used_mib = (info["MemTotal"] - info["MemAvailable"]) / 1024
    free_used_mib = int(pbx.boot.free.splitlines()[1].split()[2]) / 1024
    record_property("memory_used_mib", round(used_mib, 1))
    record_property("memory_used_as_free_shows_mib", round(free_used_mib, 1))
    resident = pbx.guest.ssh.run("grep VmRSS /proc/$(pidof asterisk)/status").stdout.split()
    record_property("asterisk_resident_mib", round(int(resident[1]) / 1024, 1))
    print(f"memory used: {used_mib:.1f} MiB (MemTotal - MemAvailable), {free_used_mib:.1f} MiB (free)")
    assert used_mib <= MEMORY_LIMIT_MIB


def test_time_to_the_first_answer(pbx: Pbx, record_property: Record) -> None:
    record_property("first_sip_answer_s", round(pbx.boot.answer.seconds, 1))
    record_property("accelerator", pbx.guest.machine.accelerator.name)
    print(f"first SIP answer {pbx.boot.answer.seconds:.1f} s after power on ({pbx.guest.machine.accelerator.name})")
    # No endpoint is anonymous: whoever is not known is challenged.
    assert pbx.boot.answer.status == 401


def test_kernel_command_line_is_the_record_s_and_the_lab_s(pbx: Pbx, host: Host) -> None:
    words = host.check_output("cat /proc/cmdline").split()
    wanted = list(pbx.guest.prepared.golden.record.kernel_cmdline)
    if pbx.guest.machine.accelerator.name == "tcg":
        wanted += EMULATION_OPTIONS
    assert [word for word in words if not word.startswith("BOOT_IMAGE=")] == wanted


def test_booted_by_bios(host: Host) -> None:
    assert not host.file("/sys/firmware/efi").exists


def test_no_shell_waits_on_any_console(host: Host) -> None:
    assert host.process.filter(comm="agetty") == []
    assert host.process.filter(comm="login") == []
