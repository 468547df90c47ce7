"""An Atom feed (RFC 4287): whoever subscribes hears of each release."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from xml.etree import ElementTree as xml

from centralita.depot.indexes.base import Alias, Site
from centralita.depot.record import Release

FEED = "feed.atom"
ATOM = "http://www.w3.org/2005/Atom"
NAMESPACE = uuid.UUID("0d6f3cf1-1b1b-5a8f-8c34-2f4b7c1c9a10")
SHOWN = 50


def _add(parent: xml.Element, name: str, text: str = "", **attributes: str) -> xml.Element:
    element = xml.SubElement(parent, name, attributes)
    element.text = text or None
    return element


def _moment(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _entry(feed: xml.Element, release: Release, site: Site, base: str) -> None:
    entry = _add(feed, "entry")
    _add(entry, "id", f"urn:uuid:{uuid.uuid5(NAMESPACE, f'{site.name}/{release.label}/{release.golden_digest}')}")
    _add(entry, "title", release.label + (" (untested)" if release.untested else ""))
    _add(entry, "updated", _moment(release.created))
    _add(entry, "published", _moment(release.created))
    _add(entry, "link", rel="alternate", type="text/html", href=f"{base}index.html#{release.appliance}")
    for file in release.files:
        attributes = {"type": file.media_type, "length": str(file.size_bytes), "title": file.format}
        _add(entry, "link", rel="enclosure", href=base + file.path, **attributes)
    _add(entry, "summary", release.description)
    if release.changelog:
        _add(entry, "content", release.changelog, type="text")


def render(releases: Sequence[Release], site: Site) -> Mapping[str, bytes | Alias]:
    """`feed.atom`, the newest release first."""
    base = f"{site.url}/" if site.url else ""
    feed = xml.Element("feed", {"xmlns": ATOM, "xml:lang": "en"})
    _add(feed, "id", f"urn:uuid:{uuid.uuid5(NAMESPACE, site.name)}")
    _add(feed, "title", f"Releases of {site.name}")
    _add(feed, "updated", _moment(site.updated))
    _add(_add(feed, "author"), "name", site.name)
    _add(feed, "link", rel="self", type="application/atom+xml", href=base + FEED)
    _add(feed, "link", rel="alternate", type="text/html", href=f"{base}index.html")
    for release in list(reversed(releases))[:SHOWN]:
        _entry(feed, release, site, base)
    xml.indent(feed, " ")
    return {FEED: b'<?xml version="1.0" encoding="utf-8"?>\n' + xml.tostring(feed, encoding="utf-8") + b"\n"}
