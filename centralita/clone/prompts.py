"""Prompts and music of a tenant: its own files, texts that a speech synthesiser reads, names that Asterisk has."""

from __future__ import annotations

import os
import shutil
import wave
from pathlib import Path

from centralita.clone.files import GuestFile
from centralita.ground import cache, ledger
from centralita.ground.errors import CentralitaError
from centralita.ground.paths import cache_dir
from centralita.ground.run import run
from centralita.spec.office import Prompt
from centralita.spec.tenant import Tenant

SOUNDS = "/etc/centralita/sounds"
MUSIC = "/etc/centralita/music"

_VOICES = {"en": "en-us", "es": "es", "fr": "fr-fr", "it": "it", "ru": "ru"}


def sounds_of(name: str, prompt: Prompt | None) -> tuple[str, ...]:
    """Return what Playback and Background are given for a prompt; ``name`` is what its own file is called."""
    if prompt is None:
        return ()
    return prompt.sounds or (f"{SOUNDS}/{name}",)


def sound_files(tenant: Tenant) -> list[GuestFile]:
    """Return the sound files that the tenant's machine needs beside Asterisk's own.

    Raises CentralitaError for a file that cannot be read or is not what Asterisk plays, and where a text is to be read
    and no speech synthesiser is installed.
    """
    wanted = [(f"menu-{menu.number}", menu.prompt) for menu in tenant.menus]
    wanted += [(f"queue-{queue.number}", queue.greeting) for queue in tenant.queues if queue.greeting]
    files = []
    for name, prompt in wanted:
        if prompt.file is not None:
            path = tenant.folder / prompt.file
            files.append(_file(f"{SOUNDS}/{name}{path.suffix}", _read(path)))
        elif prompt.text is not None:
            files.append(_file(f"{SOUNDS}/{name}.wav", spoken(prompt.text, tenant.language)))
    for music in tenant.music:
        for index, given in enumerate(music.files):
            path = tenant.folder / given
            files.append(_file(f"{MUSIC}/{music.name}/{index:02}{path.suffix}", _read(path)))
    folders = sorted({str(Path(file.path).parent) for file in files})
    if any(folder.startswith(MUSIC) for folder in folders):
        folders.insert(0, MUSIC)
    return [*(GuestFile(folder, b"", 0o755, directory=True) for folder in folders), *files]


def _file(path: str, content: bytes) -> GuestFile:
    return GuestFile(path, content, 0o644)


def _read(path: Path) -> bytes:
    try:
        if path.suffix == ".wav":
            with wave.open(str(path)) as sound:
                form = (sound.getframerate(), sound.getsampwidth(), sound.getnchannels())
            if form != (8000, 2, 1):
                message = f"{path} has {form[0]} Hz, {form[1] * 8} bit, {form[2]} channels"
                hint = f"sox {path.name} -r 8000 -b 16 -c 1 new.wav"
                raise CentralitaError(message, hint=hint)
        return path.read_bytes()
    except (OSError, EOFError, wave.Error) as error:
        raise CentralitaError(f"{path} cannot be read: {error}", hint="check the tenant's file") from None


def spoken(text: str, language: str) -> bytes:
    """Return a text read aloud, as WAV of 8 kHz, 16 bit, mono; what was read once is remembered.

    By piper where it is installed with a voice for the language, else by espeak-ng.

    Raises CentralitaError where neither is there, or sox is missing.
    """
    store = cache.Store(cache_dir() / "speech")
    argv = _reader(language)
    if argv is None or shutil.which("sox") is None:
        raise CentralitaError(
            "a prompt's text is to be read aloud, and no speech synthesiser is installed",
            hint="apt-get install espeak-ng sox, or record the prompt and give `file:`",
        )
    key = cache.digest_of("speech", 2, text, [str(word) for word in argv])
    if (found := store.get("prompt", key)) is not None:
        return (found / "prompt.wav").read_bytes()
    with store.put("prompt", key) as folder, ledger.default().tempdir("centralita-speech-") as work:
        raw = work / "raw.wav"
        # The text goes by standard input: it may start with a hyphen. Piper reads a line at a time.
        run([*argv, raw], stdin=text.encode() + b"\n")
        run(["sox", "-q", raw, "-r", "8000", "-b", "16", "-c", "1", folder / "prompt.wav", "norm", "-3"])
        return (folder / "prompt.wav").read_bytes()


def _reader(language: str) -> list[str | Path] | None:
    """Return the program that reads a text from its standard input; the name of the WAV file comes last."""
    voices = Path(os.environ.get("PIPER_VOICES", "/usr/share/piper-voices"))
    voice = next(iter(sorted(voices.rglob(f"{language}_*.onnx"))), None)
    if voice is not None and (piper := shutil.which("piper")):
        return [piper, "--model", voice, "--output_file"]
    if espeak := shutil.which("espeak-ng"):
        return [espeak, "-v", _VOICES[language], "-s", "150", "--stdin", "-w"]
    return None
