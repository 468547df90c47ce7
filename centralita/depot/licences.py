"""Where a package comes from and under which licences, read from its .deb file: a trimmed image has no papers.

Debian's copyright files (copyright-format 1.0) name licences in words of their own; SPDX has a list of identifiers.
What that list lacks becomes a ``LicenseRef-Debian-…`` (SPDX 2.3, annex D).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tarfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from centralita.ground import cache, paths
from centralita.ground.cache import digest_of
from centralita.image.record import PackageEntry

FORMAT = "copyright-format/1.0"
REF = "LicenseRef-Debian-"
# How Debian calls what SPDX calls otherwise; compared in lower case.
_NAMES = {
    "apache-2": "Apache-2.0", "apache-2.0": "Apache-2.0", "artistic": "Artistic-1.0-Perl",
    "artistic-1": "Artistic-1.0", "artistic-2": "Artistic-2.0", "artistic-2.0": "Artistic-2.0",
    "bsd-2-clause": "BSD-2-Clause", "bsd-2": "BSD-2-Clause", "bsd-3-clause": "BSD-3-Clause", "bsd-3": "BSD-3-Clause",
    "bsd-4-clause": "BSD-4-Clause", "bsd-4-clause-uc": "BSD-4-Clause-UC", "bsl-1": "BSL-1.0", "bsl-1.0": "BSL-1.0",
    "0bsd": "0BSD", "cc0": "CC0-1.0", "cc0-1.0": "CC0-1.0", "cc-by-3.0": "CC-BY-3.0", "cc-by-4.0": "CC-BY-4.0",
    "cc-by-sa-3.0": "CC-BY-SA-3.0", "cc-by-sa-4.0": "CC-BY-SA-4.0", "curl": "curl", "expat": "MIT", "mit": "MIT",
    "mit-0": "MIT-0", "isc": "ISC", "fsfap": "FSFAP", "fsful": "FSFUL", "fsfullr": "FSFULLR", "mpl-1.1": "MPL-1.1",
    "mpl-2.0": "MPL-2.0", "openssl": "OpenSSL", "psf-2": "PSF-2.0", "psf-2.0": "PSF-2.0", "python-2.0": "Python-2.0",
    "unlicense": "Unlicense", "zlib": "Zlib", "x11": "X11", "hpnd": "HPND", "ntp": "NTP", "tcl": "TCL",
    "wtfpl": "WTFPL", "beerware": "Beerware", "unicode-dfs-2016": "Unicode-DFS-2016", "blessing": "blessing",
    "sleepycat": "Sleepycat", "icu": "ICU",
}  # fmt: skip
_GNU = {
    "gpl": ("1.0", "2.0", "3.0"), "lgpl": ("2.0", "2.1", "3.0"), "agpl": ("3.0",), "gfdl": ("1.1", "1.2", "1.3"),
}  # fmt: skip
_GNU_NAME = re.compile(r"(a?gpl|lgpl|gfdl)-?v?(\d(?:\.\d)?)?(\+|-or-later|-only)?", re.IGNORECASE)
_COMMON = re.compile(r"/usr/share/common-licenses/([A-Za-z0-9.+-]*[A-Za-z0-9+])")


@dataclass(frozen=True)
class Paper:
    """What a package's own file says: source and its version, and SPDX expressions (none where it does not say)."""

    source: str = ""
    source_version: str = ""
    licences: tuple[str, ...] = ()


def spdx_name(word: str) -> str:
    """The SPDX identifier of one licence of Debian's, or a LicenseRef."""
    word = word.strip().strip(".;")
    gnu = _GNU_NAME.fullmatch(word)
    if gnu is not None:
        family, number, later = gnu[1].lower(), gnu[2] or "", gnu[3] or ""
        if not number and family in ("gpl", "lgpl"):
            # Without a number any version will do (GPL-1, section 9; LGPL-2, section 13).
            number, later = ("1.0", "+") if family == "gpl" else ("2.0", "+")
        full = number if "." in number else f"{number}.0"
        if full in _GNU[family]:
            return f"{family.upper()}-{full}-{'or-later' if later in ('+', '-or-later') else 'only'}"
    if word.lower() in _NAMES:
        return _NAMES[word.lower()]
    return REF + (re.sub(r"[^A-Za-z0-9.]+", "-", word.replace("+", "-or-later")).strip("-") or "unnamed")


def spdx_expression(synopsis: str) -> str:
    """The expression of a licence line: ``GPL-2+ or Artistic`` is ``GPL-2.0-or-later OR Artistic-1.0-Perl``."""
    # "A or B, and C" groups by the comma.
    groups = []
    for group in re.split(r",\s*(?:and\s+)?|\s*;\s*", synopsis.strip()):
        choices = []
        for choice in re.split(r"\s+(?:or|\|)\s+", group.strip(), flags=re.IGNORECASE):
            together = [spdx_name(w) for w in re.split(r"\s+(?:and|&)\s+", choice, flags=re.IGNORECASE) if w.strip()]
            if together:
                choices.append(" AND ".join(together))
        if not choices:
            continue
        text = " OR ".join(f"({c})" if " AND " in c and len(choices) > 1 else c for c in choices)
        groups.append(text)
    return " AND ".join(f"({g})" if " OR " in g and len(groups) > 1 else g for g in groups)


def licences_of(copyright_text: str) -> tuple[str, ...]:
    """The expressions of a copyright file, each once and sorted.

    A file in no machine-readable form is asked for the common licences that it refers to.
    """
    head = copyright_text[:2000]
    if FORMAT not in head and "/copyright-format" not in head and "dep5" not in head.lower():
        common = {spdx_name(name) for name in _COMMON.findall(copyright_text)}
        return tuple(sorted(common))
    found = set()
    for paragraph in re.split(r"\n\s*\n", copyright_text):
        fields = dict(re.findall(r"^([A-Za-z-]+):[ \t]*(.*)$", paragraph, re.MULTILINE))
        named = {name.lower(): value for name, value in fields.items()}
        if "files" in named or "format" in named:
            expression = spdx_expression(named.get("license", ""))
            if expression:
                found.add(expression)
    return tuple(sorted(found))


def combined(licences: Iterable[str]) -> str:
    """One expression for all of them; empty for none."""
    parts = list(licences)
    return " AND ".join(f"({p})" if " OR " in p and len(parts) > 1 else p for p in parts)


def _copyrights(deb: Path, name: str) -> tuple[str, str]:
    """The text of a .deb's own copyright file, or the package to whose folder its documents are a link."""
    argv: list[str | os.PathLike[str]] = ["dpkg-deb", "--fsys-tarfile", deb]
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    folder = f"usr/share/doc/{name}"
    try:
        with tarfile.open(fileobj=process.stdout, mode="r|") as tar:
            for member in tar:
                path = member.name.removeprefix("./")
                if path in (folder, f"{folder}/copyright") and member.issym():
                    parts = [part for part in member.linkname.split("/") if part not in ("..", ".", "")]
                    return "", parts[-2] if path.endswith("copyright") and len(parts) > 1 else parts[-1]
                if path == f"{folder}/copyright":
                    stream = tar.extractfile(member)
                    return (stream.read().decode(errors="replace") if stream else ""), ""
    except tarfile.TarError:
        pass
    finally:
        process.kill()
        process.stdout.close()
        process.wait()
    return "", ""


def _read(deb: Path, name: str, version: str) -> dict[str, str | list[str]]:
    argv = ["dpkg-deb", "-f", str(deb), "Source"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    match = re.fullmatch(r"(\S+)(?: \((\S+)\))?", done.stdout.strip())
    text, elsewhere = _copyrights(deb, name)
    return {
        "source": match[1] if match else name,
        "source_version": match[2] if match and match[2] else version,
        "licences": list(licences_of(text)),
        "elsewhere": elsewhere,
    }


def papers(packages: Iterable[PackageEntry]) -> dict[str, Paper]:
    """What the store's files say of packages, by name; a package whose file is not there has an empty paper.

    What was read once is remembered in the cache, under the file's digest and this code.
    """
    entries = list(packages)
    store = cache.Store()

    def one(package: PackageEntry) -> dict[str, str | list[str]]:
        deb = paths.cache_dir() / "debs" / f"{package.sha256}.deb"
        key = digest_of("paper", package.sha256, Path(__file__))
        found = store.get("paper", key)
        if found is None:
            if not deb.is_file():
                return {}
            with store.put("paper", key) as folder:
                (folder / "paper.json").write_text(json.dumps(_read(deb, package.name, package.version)))
            found = store.get("paper", key)
            assert found is not None
        read: dict[str, str | list[str]] = json.loads((found / "paper.json").read_text())
        return read

    with ThreadPoolExecutor(max(2, os.cpu_count() or 2), thread_name_prefix="paper") as pool:
        read = dict(zip((p.name for p in entries), pool.map(one, entries), strict=True))
    return {name: _paper(name, read) for name in read}


def _paper(name: str, read: Mapping[str, Mapping[str, str | list[str]]]) -> Paper:
    own = read[name]
    licences, at, seen = own.get("licences", []), own, {name}
    while not licences and (other := str(at.get("elsewhere", ""))) in read and other not in seen:
        seen.add(other)
        at = read[other]
        licences = at.get("licences", [])
    return Paper(str(own.get("source", "")), str(own.get("source_version", "")), tuple(licences))
