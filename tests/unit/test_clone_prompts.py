"""Prompts and music: what is a sound that Asterisk plays, what is refused, and where it lies in the guest."""

from __future__ import annotations

import io
import shutil
import wave
from pathlib import Path

import pytest

from centralita.clone import prompts
from centralita.clone.prompts import sound_files, spoken
from centralita.ground.errors import CentralitaError
from centralita.spec.tenant import load_tenant

pytestmark = pytest.mark.unit


def write_wav(path: Path, rate: int = 8000, channels: int = 1) -> None:
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(channels)
        sound.setsampwidth(2)
        sound.setframerate(rate)
        sound.writeframes(bytes(320))


def tenant_file(folder: Path, prompt: str, music: str = "") -> Path:
    path = folder / "t.yaml"
    lines = ["name: t", "extensions: [{number: 101, name: Ana}]"]
    lines.append(f"menus: [{{number: 900, name: M, prompt: {prompt}}}]")
    if music:
        lines.append(f"music: [{{name: jazz, files: [{music}]}}]")
    path.write_text("\n".join(lines) + "\n")
    return path


def test_files_are_taken_from_beside_the_tenant_s_file(tmp_path: Path) -> None:
    write_wav(tmp_path / "hello.wav")
    (tmp_path / "a.ulaw").write_bytes(b"\xff" * 160)
    files = {file.path: file for file in sound_files(load_tenant(tenant_file(tmp_path, "{file: hello.wav}", "a.ulaw")))}
    assert files["/etc/centralita/sounds/menu-900.wav"].content == (tmp_path / "hello.wav").read_bytes()
    assert files["/etc/centralita/music/jazz/00.ulaw"].content == b"\xff" * 160
    assert files["/etc/centralita/sounds"].directory and files["/etc/centralita/music/jazz"].directory


@pytest.mark.parametrize(("rate", "channels"), [(44100, 1), (8000, 2)])
def test_a_wav_that_asterisk_does_not_play_is_refused(tmp_path: Path, rate: int, channels: int) -> None:
    write_wav(tmp_path / "hello.wav", rate, channels)
    with pytest.raises(CentralitaError, match=f"{rate} Hz, 16 bit, {channels} channels"):
        sound_files(load_tenant(tenant_file(tmp_path, "{file: hello.wav}")))


def test_a_file_that_is_no_wav_is_refused(tmp_path: Path) -> None:
    (tmp_path / "hello.wav").write_bytes(b"no sound")
    with pytest.raises(CentralitaError, match=r"hello\.wav cannot be read"):
        sound_files(load_tenant(tenant_file(tmp_path, "{file: hello.wav}")))


def test_without_a_synthesiser_a_text_is_an_error_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(CentralitaError) as caught:
        spoken("Welcome.", "en")
    assert "espeak-ng" in (caught.value.hint or "")


def test_a_text_is_read_once_and_never_an_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompts, "cache_dir", lambda: tmp_path)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    calls: list[tuple[list[str], bytes | None]] = []

    def pretend(argv: list[object], stdin: bytes | None = None) -> None:
        calls.append(([str(word) for word in argv], stdin))
        if "sox" in str(argv[0]):
            write_wav(Path(str(next(word for word in argv if str(word).endswith("prompt.wav")))))

    monkeypatch.setattr(prompts, "run", pretend)
    text = "--version; ñ"
    first = spoken(text, "es")
    assert spoken(text, "es") == first and len(calls) == 2
    assert calls[0][1] == text.encode() + b"\n" and text not in calls[0][0]
    with wave.open(io.BytesIO(first)) as sound:
        assert sound.getframerate() == 8000
