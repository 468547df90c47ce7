"""Is the tone there? Goertzel's algorithm over recordings, in plain Python.

Goertzel, G. (1958): An Algorithm for the Evaluation of Finite Trigonometric Series. American Mathematical Monthly 65.
"""

from __future__ import annotations

import array
import math
import sys
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from centralita.ground.errors import CentralitaError

FULL_SCALE = 32768.0
SPEECH_BAND_HZ = (200, 3500)


@dataclass(frozen=True)
class Sound:
    """16-bit mono samples."""

    samples: Sequence[int]
    rate_hz: int

    @property
    def seconds(self) -> float:
        """Its length."""
        return len(self.samples) / self.rate_hz

    def part(self, start_s: float, end_s: float | None = None) -> Sound:
        """Return what lies between two moments."""
        end = None if end_s is None else round(end_s * self.rate_hz)
        return Sound(self.samples[round(start_s * self.rate_hz) : end], self.rate_hz)


@dataclass(frozen=True)
class Tone:
    """The strongest sine of a sound: `level_db` against full scale, `share` of all energy (1: a pure tone)."""

    hz: float
    level_db: float
    share: float


def read_wav(path: Path) -> Sound:
    """Return a mono 16-bit WAV file's sound.

    A recorder that was not closed leaves lengths of zero in the header; all that follows the header counts then.

    Raises:
        CentralitaError: it is no such file.
    """
    data = path.read_bytes()
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise CentralitaError(f"{path} is no WAV file")
    place, rate_hz, sound = 12, 0, b""
    while place + 8 <= len(data):
        name, size = data[place : place + 4], int.from_bytes(data[place + 4 : place + 8], "little")
        body = data[place + 8 : place + 8 + size]
        if name == b"fmt ":
            kind, channels = int.from_bytes(body[0:2], "little"), int.from_bytes(body[2:4], "little")
            rate_hz, bits = int.from_bytes(body[4:8], "little"), int.from_bytes(body[14:16], "little")
            if (kind, channels, bits) != (1, 1, 16):
                raise CentralitaError(f"{path} is not 16-bit mono PCM (kind {kind}, {channels} channels, {bits} bits)")
        elif name == b"data":
            sound = body if size else data[place + 8 :]
            break
        place += 8 + size + size % 2
    if not rate_hz:
        raise CentralitaError(f"{path} does not say its sample rate")
    samples = array.array("h", sound[: len(sound) // 2 * 2])
    if sys.byteorder == "big":
        samples.byteswap()
    return Sound(samples, rate_hz)


def write_wav(path: Path, sound: Sound) -> None:
    """Write a sound as mono 16-bit WAV."""
    samples = array.array("h", sound.samples)
    if sys.byteorder == "big":
        samples.byteswap()
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sound.rate_hz)
        file.writeframes(samples.tobytes())


def sine(hz: float, seconds: float, *, level_db: float = -9.0, rate_hz: int = 8000) -> Sound:
    """Return a sine; `level_db` is its power against that of a sine of full scale."""
    amplitude = (FULL_SCALE - 1) * 10 ** (level_db / 20)
    step = 2 * math.pi * hz / rate_hz
    return Sound(
        array.array("h", (round(amplitude * math.sin(step * n)) for n in range(round(seconds * rate_hz)))), rate_hz
    )


def level_db(sound: Sound) -> float:
    """Return a sound's power in dB against a sine of full scale; minus infinity for silence."""
    power = _power(sound.samples)
    return 10 * math.log10(power / (FULL_SCALE**2 / 2)) if power > 0 else -math.inf


def tone_share(sound: Sound, hz: float) -> float:
    """Return what part of a sound's energy is a sine of `hz`: 0 to 1."""
    power = _power(sound.samples)
    return min(1.0, _sine_power(sound, hz) / power) if power > 0 else 0.0


def strongest_tone(sound: Sound, *, longest_s: float = 0.5) -> Tone | None:
    """Return the strongest sine between 200 and 3500 Hz, to about 1 Hz; None for silence.

    Only the middle `longest_s` seconds are looked at: enough to tell 2 Hz apart.
    """
    middle = sound.seconds / 2
    piece = sound.part(max(0.0, middle - longest_s / 2), middle + longest_s / 2)
    power = _power(piece.samples)
    if power < 1:
        return None
    # A tone shows in a band as wide as the piece is short: steps of half of that miss none.
    step = max(1.0, 0.5 / piece.seconds)
    low, high = SPEECH_BAND_HZ
    grid = [low + step * n for n in range(int((high - low) / step) + 1)]
    best = max(grid, key=lambda hz: _sine_power(piece, hz))
    fine = [best + step * n / 5 for n in range(-5, 6)]
    best = max(fine, key=lambda hz: _sine_power(piece, hz))
    found = _sine_power(piece, best)
    return Tone(best, 10 * math.log10(found / (FULL_SCALE**2 / 2)), min(1.0, found / power))


def tone_seconds(sound: Sound, hz: float, *, window_s: float = 0.04, share: float = 0.7) -> float:
    """Return for how long a tone is heard: the sum of the windows in which it has at least `share` of the energy.

    A window of silence or of another sound does not count, so this falls short of the length where sound was lost.
    """
    size = round(window_s * sound.rate_hz)
    windows = (
        Sound(sound.samples[start : start + size], sound.rate_hz)
        for start in range(0, len(sound.samples) - size + 1, size)
    )
    # -60 dB: what G.711 makes of silence is no tone.
    return sum(window_s for window in windows if level_db(window) > -60 and tone_share(window, hz) >= share)


def _power(samples: Sequence[int]) -> float:
    return sum(sample * sample for sample in samples) / len(samples) if samples else 0.0


def _sine_power(sound: Sound, hz: float) -> float:
    """The mean power of the sine of `hz` in a sound, by Goertzel's recurrence."""
    coefficient = 2 * math.cos(2 * math.pi * hz / sound.rate_hz)
    last, before = 0.0, 0.0
    for sample in sound.samples:
        last, before = sample + coefficient * last - before, last
    magnitude = last * last + before * before - coefficient * last * before
    # A sine of amplitude A gives (A n / 2) squared, and has a mean power of A squared / 2.
    return 2 * magnitude / len(sound.samples) ** 2 if sound.samples else 0.0
