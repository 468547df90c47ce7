"""The same golden disk on each hypervisor: it boots, is healthy, takes calls, and shuts down when told to."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from centralita.lab.audio import read_wav, strongest_tone, tone_seconds
from centralita.lab.phones import Phone
from centralita.lab.sip import SipAnswer
from tests.targets.conftest import AnyGuest

pytestmark = pytest.mark.xdist_group("xen")

ANNA_HZ, BEN_HZ = 525.0, 1085.0
KIND = {"xen-pv": "PV", "xen-pvgrub": "PV", "xen-pvh": "PVH", "xen-pvh-grub": "PVH", "xen-hvm": "HVM"}
Record = Callable[[str, object], None]


def test_answers_sip(booted: tuple[AnyGuest, SipAnswer], about: None, record_property: Record) -> None:
    answer = booted[1]
    assert answer.status == 401  # an unknown caller is challenged
    record_property("sip_s", round(answer.seconds, 1))


def test_is_the_kind_of_guest_that_was_asked_for(guest: AnyGuest, target: str) -> None:
    read = guest.ssh.run("cat /sys/hypervisor/type /sys/hypervisor/guest_type", check=False).stdout.split()
    assert read == (["xen", KIND[target]] if target in KIND else [])


def test_root_is_the_golden_disk_s_by_uuid(guest: AnyGuest) -> None:
    record = guest.prepared.golden.record
    source, uuid = guest.ssh.run("findmnt -nro SOURCE,UUID /").stdout.split()
    assert re.fullmatch(r"/dev/(?:xvda|sda|vda)3", source)
    assert uuid == record.root_uuid
    assert f"root=UUID={record.root_uuid}" in guest.ssh.run("cat /proc/cmdline").stdout


def test_timer_ticks(guest: AnyGuest, record_property: Record) -> None:
    # Measured and reported; judged on KVM, where nobody emulates a hypervisor under it.
    ticks = re.search(r"got (\d+) timer ticks", guest.ssh.run("asterisk -rx 'timing test'").stdout)
    assert ticks is not None
    clock = guest.ssh.run("cat /sys/devices/system/clocksource/clocksource0/current_clocksource").stdout.strip()
    record_property("timer_ticks_per_s", int(ticks[1]))
    record_property("clocksource", clock)
    assert clock in ("xen", "tsc", "kvm-clock")


def test_two_phones_hear_each_other(anna: Phone, ben: Phone, tmp_path: Path, record_property: Record) -> None:
    ben.when_called(200, tone_hz=BEN_HZ, record=tmp_path / "ben.wav")
    before = len(ben.phones.events)
    call = anna.call("102", tone_hz=ANNA_HZ, record=tmp_path / "anna.wav")
    call.wait_answered()
    other = ben.wait_incoming(after=before)
    call.wait_heard(5)
    end = call.hangup()
    other.wait_ended()
    for recorded, hz in ((call.recorded(), BEN_HZ), (other.recorded(), ANNA_HZ)):
        sound = read_wav(recorded)
        tone = strongest_tone(sound)
        assert tone is not None, "silence"
        assert abs(tone.hz - hz) <= 2
        # Continuity is judged on KVM; here it must be heard most of the time.
        assert tone_seconds(sound, hz) >= 3
    if end.stats is not None:
        record_property("packets_lost", end.stats.received_lost_packets + end.stats.sent_lost_packets)
        record_property("jitter_mean_ms", round(end.stats.jitter_mean_ms, 2))
