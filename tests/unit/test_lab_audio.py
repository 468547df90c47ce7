"""Tones measured in sounds that the test itself makes."""

from __future__ import annotations

import array
import math
import random
from pathlib import Path

import pytest

from centralita.ground.errors import CentralitaError
from centralita.lab.audio import Sound, level_db, read_wav, sine, strongest_tone, tone_seconds, tone_share, write_wav


def mixed(*sounds: Sound) -> Sound:
    return Sound([sum(samples) for samples in zip(*(s.samples for s in sounds), strict=True)], sounds[0].rate_hz)


@pytest.mark.parametrize("hz", [310.0, 441.5, 1000.0, 2468.0, 3390.0])
def test_a_pure_tone_s_frequency_level_and_share_are_found(hz: float) -> None:
    tone = strongest_tone(sine(hz, 1.0, level_db=-12))
    assert tone is not None
    assert tone.hz == pytest.approx(hz, abs=0.5)
    assert tone.level_db == pytest.approx(-12, abs=0.3)
    assert tone.share > 0.99


def test_of_two_tones_the_stronger_is_found_with_its_share() -> None:
    tone = strongest_tone(mixed(sine(500, 1.0, level_db=-10), sine(900, 1.0, level_db=-20)))
    assert tone is not None
    assert tone.hz == pytest.approx(500, abs=0.5)
    # 10 dB: ten elevenths of the energy.
    assert tone.share == pytest.approx(10 / 11, abs=0.01)


def test_a_tone_is_found_below_noise_of_its_own_level() -> None:
    chance = random.Random(1)
    noise = Sound(array.array("h", (round(chance.gauss(0, 4000)) for _ in range(8000))), 8000)
    tone = strongest_tone(mixed(sine(700, 1.0, level_db=-15), noise))
    assert tone is not None
    assert tone.hz == pytest.approx(700, abs=1)


def test_silence_has_no_tone() -> None:
    silence = Sound([0] * 8000, 8000)
    assert strongest_tone(silence) is None
    assert level_db(silence) == -math.inf
    assert tone_share(silence, 440) == 0
    assert tone_seconds(silence, 440) == 0


def test_a_gap_is_missing_from_the_tone_s_length() -> None:
    whole = sine(600, 3.0)
    gap = Sound([*whole.samples[:8000], *[0] * 4000, *whole.samples[12000:]], 8000)
    assert tone_seconds(whole, 600) == pytest.approx(3.0, abs=0.05)
    assert tone_seconds(gap, 600) == pytest.approx(2.5, abs=0.1)
    assert tone_seconds(whole, 1200) == 0


def test_a_wav_file_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "tone.wav"
    write_wav(path, sine(440, 0.25))
    assert list(read_wav(path).samples) == list(sine(440, 0.25).samples)


def test_a_header_that_was_never_finished_hides_nothing(tmp_path: Path) -> None:
    path = tmp_path / "cut.wav"
    write_wav(path, sine(440, 0.25))
    data = bytearray(path.read_bytes())
    data[4:8] = data[40:44] = bytes(4)
    path.write_bytes(data)
    assert read_wav(path).seconds == 0.25


@pytest.mark.parametrize("content", [b"", b"ID3\x04", b"RIFF\0\0\0\0WAVE"])
def test_what_is_no_wav_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(content)
    with pytest.raises(CentralitaError):
        read_wav(path)
