"""Voicemail: who does not answer has a message, hears it with the PIN, and only with it."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

import pytest

from centralita.lab.audio import read_wav, tone_seconds
from centralita.lab.phone_events import PhonesError
from centralita.lab.phones import Call, Phone
from tests.conftest import Pbx

pytestmark = pytest.mark.xdist_group("duo")

MESSAGE_HZ = 745.0


def voicemail_options(pbx: Pbx) -> str:
    """The arguments of the VoiceMail application that runs just now."""
    for line in pbx.asterisk("core show channels concise").splitlines():
        fields = line.split("!")
        if fields[5] == "VoiceMail":
            return fields[6]
    return ""


def messages(pbx: Pbx, number: str) -> list[str]:
    """The recordings in a box, new and old."""
    found = pbx.guest.ssh.run(f"find /var/spool/asterisk/voicemail/default/{number} -name 'msg*.wav'", check=False)
    return found.stdout.split()


def leave_message(pbx: Pbx, call: Call, seconds: float) -> None:
    """Skip the greeting, speak a tone, hang up."""
    call.wait_answered(timeout_s=30)
    call.go_on(1.5)
    call.dtmf("#")
    call.go_on(seconds)
    call.hangup()


def test_an_unanswered_call_leaves_a_message_that_is_heard_with_the_pin(
    pbx: Pbx, anna: Phone, ben: Phone, wavs: Path
) -> None:
    ben.when_called(180)
    call = anna.call("102", tone_hz=MESSAGE_HZ)
    call.wait_state("early")
    ring_s = next(extension.ring_seconds for extension in pbx.tenant.extensions if extension.number == "102")
    call.wait_answered(timeout_s=ring_s + 15)
    assert voicemail_options(pbx) == "102@default,u"
    before = len(ben.phones.events)
    leave_message(pbx, call, 7)
    # The lamp of Ben's phone is lit (RFC 3842).
    ben.phones.wait_event(
        lambda event: (
            event.name == "mwi" and event.data["phone"] == "102" and "Messages-Waiting: yes" in event.data["body"]
        ),
        "the lamp of 102 to be lit",
        15,
        after=before,
    )
    assert len(messages(pbx, "102")) == 1

    reading = ben.call("*97", record=wavs / "read.wav")
    reading.wait_answered()
    reading.go_on(3)
    reading.dtmf(pbx.pin("102") + "#")
    # "You have one new message. Press 1 …"
    reading.go_on(4)
    reading.dtmf("1")
    reading.go_on(20)
    reading.hangup()
    heard_s = tone_seconds(read_wav(reading.recorded()), MESSAGE_HZ)
    assert heard_s >= 3, f"the message's tone was heard for {heard_s:.1f} s"


def test_a_busy_phone_s_caller_is_greeted_as_such(pbx: Pbx, anna: Phone, ben: Phone) -> None:
    ben.when_called(486)
    call = anna.call("102")
    call.wait_answered(timeout_s=30)
    assert voicemail_options(pbx) == "102@default,b"
    call.hangup()


def test_a_wrong_pin_opens_no_box(pbx: Pbx, ben: Phone, wavs: Path) -> None:
    reading = ben.call("*97", record=wavs / "refused.wav")
    reading.wait_answered()
    reading.go_on(3)
    # After a wrong PIN it asks for a box too: what is keyed in is wrong for either.
    for _ in range(9):
        with suppress(PhonesError):
            reading.dtmf("9753#")
            reading.go_on(4)
    assert reading.over
    end = reading.wait_ended(timeout_s=30)
    assert end.connected_s > 0
    assert tone_seconds(read_wav(reading.recorded()), MESSAGE_HZ) == 0


def test_another_s_box_is_out_of_reach(pbx: Pbx, anna: Phone) -> None:
    """*97 opens the caller's own box: nothing that he sends names another."""
    call = anna.call("*97")
    call.wait_answered()
    call.go_on(2)
    channels = pbx.asterisk("core show channels concise")
    call.hangup()
    assert re.search(r"!VoiceMailMain!101@default!", channels)
