"""Simplestreams: what `incus remote add` and virt-builder read. To Incus a release is a container and a machine.

The two files exist twice: as plain JSON (Incus) and clear-signed (virt-builder, which checks both).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from email.utils import format_datetime

from centralita.depot.indexes.base import Alias, Site
from centralita.depot.record import Release, ReleaseFile

STREAMS = "streams/v1"
METADATA, ROOT, DISK = "incus.tar.xz", "root.tar.xz", "qcow2"
# Incus goes by a file's `ftype`, virt-builder by its key: this one is a disk to both.
DISK_KEY = "disk1.img"


def _item(file: ReleaseFile, kind: str) -> dict[str, object]:
    return {
        "ftype": kind,
        "path": file.path,
        "size": file.size_bytes,
        "sha256": file.sha256,
        "sha512": file.sha512,
    }


def _items(release: Release) -> dict[str, dict[str, object]]:
    """The files of a release that a client of simplestreams has a use for."""
    items = {}
    disk, root, metadata = release.file(DISK), release.file(ROOT), release.file(METADATA)
    if disk is not None:
        items[DISK_KEY] = _item(disk, DISK_KEY)
    if metadata is not None:
        described = items[METADATA] = _item(metadata, METADATA)
        if root is not None:
            items[ROOT] = _item(root, ROOT)
            described["combined_rootxz_sha256"] = root.incus_fingerprint
        if disk is not None:
            described["combined_disk1-img_sha256"] = disk.incus_fingerprint
    return items


def _products(releases: Sequence[Release]) -> dict[str, dict[str, object]]:
    products: dict[str, dict[str, object]] = {}
    for release in releases:
        items = _items(release)
        if not items:
            continue
        key = f"centralita:{release.appliance}:{release.arch}:default"
        product = products.setdefault(key, {"versions": {}})
        versions = product["versions"]
        assert isinstance(versions, dict)
        # Incus orders versions by the day that they begin with: of one day's only the last is shown.
        day = f"{release.created:%Y%m%d}"
        for old in [name for name in versions if name.startswith(day)]:
            del versions[old]
        versions[f"{day}_{release.version}"] = {
            "items": items,
            "label": "UNTESTED" if release.untested else "release",
            "pubname": release.appliance,
        }
        # What is said of the product is what its newest version says.
        products[key] = {
            "aliases": release.appliance,
            "arch": release.arch,
            "os": "Centralita",
            "release": release.appliance,
            "release_title": release.appliance,
            "variant": "default",
            "version": release.version,
            "versions": versions,
        }
    return products


def render(releases: Sequence[Release], site: Site) -> Mapping[str, bytes | Alias]:
    """`streams/v1/index.json` and `images.json`, each with its clear-signed twin."""
    updated = format_datetime(site.updated)
    products = _products(releases)
    made: dict[str, bytes | Alias] = {}
    images = {
        "content_id": "images",
        "datatype": "image-downloads",
        "format": "products:1.0",
        "products": products,
        "updated": updated,
    }
    for suffix in ("json", "sjson"):
        path = f"{STREAMS}/images.{suffix}"
        index = {
            "format": "index:1.0",
            "index": {
                "images": {
                    "datatype": "image-downloads",
                    "format": "products:1.0",
                    "path": path,
                    "products": list(products),
                    "updated": updated,
                }
            },
            "updated": updated,
        }
        made[path] = _dump(images)
        made[f"{STREAMS}/index.{suffix}"] = _dump(index)
    return made


def _dump(value: object) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()
