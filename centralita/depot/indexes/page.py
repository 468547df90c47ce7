"""The page for people: what there is, how it is started on each host, what was tested, the digests. No script."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from centralita.depot.indexes.base import Alias, Site
from centralita.depot.record import Release, ReleaseFile, newest
from centralita.formats.catalogue import FORMATS

PAGE = "index.html"
TEMPLATE = Path(__file__).with_name("page.html.j2")
#: How the documents' kinds are called on the page.
NAMES = {
    "spdx": "bill of materials (SPDX)",
    "cyclonedx": "bill of materials (CycloneDX)",
    "provenance": "provenance (in-toto, SLSA)",
    "changelog": "changes",
    "cve": "known vulnerabilities",
    "results": "test results",
    "results-signature": "their signature",
    "golden": "build record",
}


@dataclass(frozen=True)
class Row:
    """A format as the page shows it."""

    file: ReleaseFile
    hosts: str
    start: str
    size: str


@dataclass(frozen=True)
class Shown:
    """An appliance: its newest release, and those before it, newest first."""

    newest: Release
    older: tuple[Release, ...]
    rows: tuple[Row, ...]


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes >= 100_000 else f"{max(size_bytes / 1e3, 0.1):.1f} kB"


def _row(release: Release, file: ReleaseFile) -> Row:
    form = FORMATS.get(file.format)
    start = form.start.replace("NAME", release.appliance).replace("512", str(release.memory_mib)) if form else ""
    return Row(file, ", ".join(form.hypervisors) if form else file.format, start, _size(file.size_bytes))


def _shown(releases: Sequence[Release], appliance: str) -> Shown:
    own = [release for release in reversed(releases) if release.appliance == appliance]
    top = newest(own, appliance)
    assert top is not None
    rows = tuple(_row(top, file) for file in top.files)
    return Shown(top, tuple(release for release in own if release is not top), rows)


def _remote(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9-]+", "-", name).strip("-").lower() or "centralita"


def render(releases: Sequence[Release], site: Site) -> Mapping[str, bytes | Alias]:
    """`index.html`, all in one file."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True)
    environment.filters["remote"] = _remote
    names = sorted({release.appliance for release in releases})
    text = environment.from_string(TEMPLATE.read_text()).render(
        site=site,
        url=site.url or "https://depot.example.org",
        appliances=[_shown(releases, name) for name in names],
        first=names[0] if names else "pbx-small",
        names=NAMES,
    )
    return {PAGE: text.encode()}
