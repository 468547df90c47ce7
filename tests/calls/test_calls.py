"""Calls that are heard: tones sent by one phone and measured in what the other recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from centralita.lab.audio import Sound, read_wav, strongest_tone, tone_seconds
from centralita.lab.capture import capture
from centralita.lab.phone_events import StreamStats
from centralita.lab.phones import MAX_CALLS, PACKETS_PER_SECOND, Call, Phone, Phones
from tests.conftest import Pbx

pytestmark = pytest.mark.xdist_group("duo")

ANNA_HZ, BEN_HZ = 525.0, 1085.0
CALLS_AT_ONCE = 20
Record = Callable[[str, object], None]


def lost(stats: StreamStats | None) -> tuple[int, int]:
    """Packets lost on the way to the phone and on the way to the PBX."""
    assert stats is not None
    return stats.received_lost_packets, stats.sent_lost_packets


def assert_hears(sound: Sound, hz: float, at_least_s: float) -> None:
    """The tone is the strongest one, to 2 Hz, and is there without gaps for so long."""
    tone = strongest_tone(sound)
    assert tone is not None, "silence"
    assert abs(tone.hz - hz) <= 2, f"heard {tone}, sent {hz} Hz"
    assert tone.share >= 0.95
    assert tone_seconds(sound, hz) >= at_least_s


def test_two_phones_hear_each_other(anna: Phone, ben: Phone, wavs: Path, record_property: Record) -> None:
    ben.when_called(200, tone_hz=BEN_HZ, record=wavs / "ben.wav")
    before = len(ben.phones.events)
    call = anna.call("102", tone_hz=ANNA_HZ, record=wavs / "anna.wav")
    call.wait_answered()
    other = ben.wait_incoming(after=before)
    call.wait_heard(5)
    end = call.hangup()
    other_end = other.wait_ended()

    assert_hears(read_wav(call.recorded()), BEN_HZ, 4.5)
    assert_hears(read_wav(other.recorded()), ANNA_HZ, 4.5)
    for stats in (end.stats, other_end.stats):
        assert lost(stats) == (0, 0)
        assert stats is not None
        assert stats.received_packets >= 4.9 * PACKETS_PER_SECOND
        record_property("jitter_mean_ms", round(stats.jitter_mean_ms, 2))


def test_caller_id_is_the_tenant_s_name_for_the_extension(pbx: Pbx, anna: Phone, ben: Phone) -> None:
    ben.when_called(180)
    before = len(ben.phones.events)
    call = anna.call("102")
    ben.wait_incoming(after=before)
    incoming = next(event for event in ben.phones.events[before:] if event.name == "incoming")
    call.hangup()
    name = next(extension.name for extension in pbx.tenant.extensions if extension.number == "101")
    assert incoming.data["remote"].startswith(f'"{name}" <sip:101@')


def test_echo_returns_what_was_said(anna: Phone, wavs: Path) -> None:
    call = anna.call("*43", tone_hz=ANNA_HZ, record=wavs / "echo.wav")
    call.wait_answered()
    call.wait_heard(5)
    end = call.hangup()
    # The test begins with a beep.
    assert_hears(read_wav(call.recorded()).part(1.0), ANNA_HZ, 3.5)
    assert lost(end.stats) == (0, 0)


@pytest.mark.parametrize("number", ["999", "0034911234567", "10", "1011"])
def test_an_unknown_number_is_refused(anna: Phone, number: str) -> None:
    end = anna.call(number).wait_ended(timeout_s=30)
    assert (end.code, end.connected_s) == (404, 0)


def test_a_forged_number_reaches_nobody(pbx: Pbx, anna: Phone, ben: Phone) -> None:
    ben.when_called(200)
    before = len(ben.phones.events)
    end = anna.call(f"sip:101&PJSIP%2F102@{pbx.guest.address}").wait_ended(timeout_s=30)
    assert end.code >= 400
    assert not [event for event in ben.phones.events[before:] if event.name == "incoming"]


@pytest.fixture
def callers(pbx: Pbx, wavs: Path) -> Iterator[list[Phone]]:
    """As many phones of extension 101 as can make twenty calls at once, each in an agent of its own."""
    with ExitStack() as stack:
        phones = []
        for number in range(CALLS_AT_ONCE // MAX_CALLS):
            agent = stack.enter_context(Phones(pbx.guest.network, workdir=wavs / f"agent{number}"))
            # A call is authenticated by itself; that these phones do not register leaves the others' calls alone.
            phones.append(agent.add("101", registrar=pbx.guest.address, secret=pbx.secret("101"), register=False))
        yield phones


def test_twenty_calls_at_once(pbx: Pbx, callers: list[Phone], wavs: Path, record_property: Record) -> None:
    # No tone is near another, nor near the double of another, which distortion would make of it.
    tones_hz = [310.0 + 47 * number for number in range(CALLS_AT_ONCE)]
    file = wavs / "twenty.pcapng"
    with capture(pbx.guest.network, file) as captured:
        calls: list[Call] = []
        for number, hz in enumerate(tones_hz):
            calls.append(callers[number // MAX_CALLS].call("*43", tone_hz=hz, record=wavs / f"{number}.wav"))
        for call in calls:
            call.wait_answered(timeout_s=30)
        for call in calls:
            call.wait_heard(8, timeout_s=60)
        assert pbx.asterisk("core show channels count").startswith(f"{CALLS_AT_ONCE} active channels")
        ends = [call.hangup() for call in calls]

    assert captured.dropped == 0
    assert [end.code for end in ends] == [200] * CALLS_AT_ONCE
    assert [lost(end.stats) for end in ends] == [(0, 0)] * CALLS_AT_ONCE
    for call, hz in zip(calls, tones_hz, strict=True):
        assert_hears(read_wav(call.recorded()).part(1.5), hz, 5)

    streams = captured.streams()
    assert len(streams) == 2 * CALLS_AT_ONCE
    assert sum(stream.source == pbx.guest.address for stream in streams) == CALLS_AT_ONCE
    assert [stream.lost for stream in streams] == [0] * len(streams)
    from_pbx = [stream for stream in streams if stream.source == pbx.guest.address]
    record_property("calls_at_once", CALLS_AT_ONCE)
    record_property("jitter_mean_ms", round(sum(s.jitter_mean_ms for s in from_pbx) / len(from_pbx), 2))
    record_property("jitter_max_ms", max(s.jitter_max_ms for s in from_pbx))
    record_property("packets", sum(stream.packets for stream in streams))
