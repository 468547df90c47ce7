"""Removes from an OS tree what an appliance does not use. Run by the element `trim`.

Shared libraries go only when nothing left in the tree needs them: ELF DT_NEEDED entries are followed, and the
``.note.dlopen`` notes of programs that load libraries by name (https://systemd.io/ELF_DLOPEN_METADATA/).
"""

from __future__ import annotations

import fnmatch
import json
import re
import shutil
import struct
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile

from centralita.spec.asterisk_docs import slim_documentation

LIBRARY_DIR = "usr/lib/x86_64-linux-gnu"
# Asterisk keeps its documentation in memory, 27 MB of it, and checks its configuration against a small part of it.
DOCUMENTATION = "usr/share/asterisk/documentation/core-en_US.xml"
MODULE_DIR = f"{LIBRARY_DIR}/asterisk/modules"
# Loaded by name from within glibc (thread cancellation, name services) or from PAM's stack: no header tells.
ALWAYS_KEPT = ("libgcc_s.so.*", "libnss_*", "libpam*", "libc.so.*", "libm.so.*", "libresolv.so.*", "ld-linux*")
# Loaded by name by another library, which says so nowhere: libsrtp's cryptography is NSS, whose modules these are.
LOADED_BY = {"libnss3.so": ("libsoftokn3.so", "libfreebl3.so", "libfreeblpriv3.so")}


@dataclass(frozen=True)
class Trimmed:
    """Bytes removed, by reason, and the names of libraries and Asterisk modules that went."""

    purged_bytes: int
    module_bytes: int
    library_bytes: int
    modules: tuple[str, ...]
    libraries: tuple[str, ...]


def _size(path: Path) -> int:
    if path.is_symlink() or not path.exists():
        return 0
    if path.is_file():
        return path.lstat().st_size
    return sum(p.lstat().st_size for p in path.rglob("*") if p.is_file() and not p.is_symlink())


def _remove(path: Path) -> int:
    size = _size(path)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    return size


def expand_braces(pattern: str) -> list[str]:
    """``a/{b,c}`` as a shell would write it out: ``a/b`` and ``a/c``. Braces do not nest."""
    match = re.search(r"\{([^{}]*)\}", pattern)
    if match is None:
        return [pattern]
    head, tail = pattern[: match.start()], pattern[match.end() :]
    return [whole for choice in match.group(1).split(",") for whole in expand_braces(head + choice + tail)]


def purge(root: Path, globs: Iterable[str]) -> int:
    """Remove what the absolute *globs* match below *root* (``{a,b}`` is either); returns bytes."""
    removed = 0
    for pattern in (plain for written in globs for plain in expand_braces(written)):
        for path in sorted(root.glob(pattern.lstrip("/"))):
            if path.exists() or path.is_symlink():
                removed += _remove(path)
    return removed


def needed_libraries(path: Path) -> set[str]:
    """Sonames that an ELF file needs or says that it may load; empty for any other file."""
    with path.open("rb") as stream:
        if stream.read(4) != b"\x7fELF":
            return set()
        stream.seek(0)
        elf = ELFFile(stream)
        names: set[str] = set()
        dynamic = elf.get_section_by_name(".dynamic")
        if isinstance(dynamic, DynamicSection):
            names |= {tag.needed for tag in dynamic.iter_tags("DT_NEEDED")}  # type: ignore[attr-defined]
        note = elf.get_section_by_name(".note.dlopen")
        if note is not None:
            names |= set(_dlopen_names(note.data()))
        return names


def _dlopen_names(data: bytes) -> Iterator[str]:
    offset = 0
    while offset + 12 <= len(data):
        name_size, desc_size, _kind = struct.unpack_from("<III", data, offset)
        start = offset + 12 + (name_size + 3) // 4 * 4
        text = data[start : start + desc_size].rstrip(b"\0")
        for entry in json.loads(text):
            yield from entry.get("soname", [])
        offset = start + (desc_size + 3) // 4 * 4


def unused_libraries(root: Path) -> list[Path]:
    """Top-level shared libraries that no program, plug-in or kept library of the tree needs."""
    folder = root / LIBRARY_DIR
    libraries: dict[str, Path] = {}
    files: dict[Path, set[str]] = {}
    for path in sorted(folder.iterdir()):
        if ".so" in path.name and not path.is_dir():
            libraries[path.name] = path
    reached: set[str] = {n for n in libraries if any(fnmatch.fnmatch(n, k) for k in ALWAYS_KEPT)}
    queue = list(reached)
    for top in ("usr/bin", "usr/sbin", "usr/lib", "usr/libexec", "usr/local"):
        for path in (root / top).rglob("*"):
            if path.is_symlink() or not path.is_file() or (path.parent == folder and path.name in libraries):
                continue
            if path.suffix in (".ko", ".xz") or ("/modules/" in str(path) and "/asterisk/" not in str(path)):
                continue
            queue += needed_libraries(path)
    while queue:
        name = queue.pop()
        if name not in libraries:
            continue
        reached.add(name)
        queue += LOADED_BY.get(name, ())
        real = (folder / name).resolve()
        # A link may be absolute and then leaves the tree: take it as a name in the same folder.
        real = folder / real.name
        reached.add(real.name)
        if real.is_file() and real not in files:
            files[real] = needed_libraries(real)
            queue += files[real]
    return [path for name, path in libraries.items() if name not in reached]


def trim(root: Path, purge_paths: Sequence[str], asterisk_modules: Sequence[str]) -> Trimmed:
    """Purge paths, Asterisk modules that are not listed, and libraries that nothing needs any more."""
    purged = purge(root, purge_paths)
    kept = {f"{name}.so" for name in asterisk_modules}
    gone_modules = [p for p in sorted((root / MODULE_DIR).glob("*.so")) if p.name not in kept]
    module_bytes = sum(_remove(p) for p in gone_modules)
    gone = unused_libraries(root)
    library_bytes = sum(_remove(p) for p in gone)
    return Trimmed(
        purged, module_bytes, library_bytes, tuple(p.stem for p in gone_modules), tuple(p.name for p in gone)
    )


def main(argv: Sequence[str]) -> int:
    """``python -m centralita.image.trim ROOT SPEC.json FACTS.json``."""
    root, spec_path, facts = map(Path, argv)
    spec = json.loads(spec_path.read_text())
    trimmed = trim(root, spec["purge_paths"], spec["asterisk_modules"])
    documentation = root / DOCUMENTATION
    if documentation.is_file():
        documentation.write_bytes(slim_documentation(documentation.read_bytes()))
    facts.write_text(json.dumps(asdict(trimmed), indent=1))
    print(
        f"trimmed {trimmed.purged_bytes} bytes of paths, {trimmed.module_bytes} of {len(trimmed.modules)} Asterisk"
        f" modules, {trimmed.library_bytes} of {len(trimmed.libraries)} libraries"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
