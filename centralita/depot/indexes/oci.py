"""An OCI image layout of the whole depot: each release is an artifact whose blobs are the release's own files.

`skopeo copy oci:DEPOT/oci:pbx-small docker://REGISTRY/pbx-small` pushes one, and the same the other way round pulls it
(image-spec 1.1, image-layout.md, and manifest.md: "Guidelines for artifact usage").
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from centralita.depot.indexes.base import Alias, Site
from centralita.depot.record import Release, newest, path_version

LAYOUT = "oci"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
# A kind of our own, not the empty one: older clients take a configuration that is none for an image's.
CONFIG = "application/vnd.centralita.release.config.v1+json"
ARTIFACT = "application/vnd.centralita.release.v1"


def _dump(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _blob(data: bytes) -> str:
    return f"{LAYOUT}/blobs/sha256/{hashlib.sha256(data).hexdigest()}"


def _described(data: bytes, media_type: str) -> dict[str, object]:
    return {"mediaType": media_type, "digest": f"sha256:{hashlib.sha256(data).hexdigest()}", "size": len(data)}


def _manifest(release: Release, config: bytes) -> bytes:
    layers = []
    for file in release.files:
        layers.append(
            {
                "mediaType": file.media_type,
                "digest": f"sha256:{file.sha256}",
                "size": file.size_bytes,
                "annotations": {"org.opencontainers.image.title": file.name},
            }
        )
    return _dump(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": ARTIFACT,
            "config": _described(config, CONFIG),
            "layers": layers,
            "annotations": {
                "org.opencontainers.image.title": release.appliance,
                "org.opencontainers.image.description": release.description,
                "org.opencontainers.image.version": release.version,
                "org.opencontainers.image.created": release.created.strftime("%Y-%m-%dT%H:%M:%SZ"),
            },
        }
    )


def render(releases: Sequence[Release], site: Site) -> Mapping[str, bytes | Alias]:
    """The layout in `oci/`. Tags: an appliance's name for its newest release, and name-version for each."""
    made: dict[str, bytes | Alias] = {}
    manifests = []
    for release in releases:
        made |= {f"{LAYOUT}/blobs/sha256/{file.sha256}": Alias(file.path) for file in release.files}
        config = _dump({"appliance": release.appliance, "version": release.version, "golden": release.golden_digest})
        manifest = _manifest(release, config)
        made |= {_blob(config): config, _blob(manifest): manifest}
        tags = [f"{release.appliance}-{path_version(release.version)}"]
        if newest(releases, release.appliance) is release:
            tags.append(release.appliance)
        for tag in tags:
            entry = {**_described(manifest, MANIFEST), "artifactType": ARTIFACT}
            manifests.append({**entry, "annotations": {"org.opencontainers.image.ref.name": tag}})
    made[f"{LAYOUT}/oci-layout"] = _dump({"imageLayoutVersion": "1.0.0"})
    made[f"{LAYOUT}/index.json"] = _dump(
        {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": manifests}
    )
    return made
