"""A depot in an OCI registry: one artifact, tagged `depot`, whose layers are the depot's files under their paths.

What counts is that tag's manifest: it is replaced at once, so that of a killed publish nothing is seen. Beside it stand
the tags of the OCI layout (`oci/`), and each release's container images, for clients that know no depots.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from centralita.depot.index import INDEX, LIMIT
from centralita.depot.indexes.oci import LAYOUT, MANIFEST
from centralita.depot.place import Upload, check_sources
from centralita.depot.reader import Progress, append, begun, within
from centralita.depot.registry_client import Registry
from centralita.ground.errors import CentralitaError
from centralita.ground.report import Step

TAG = "depot"
ARTIFACT = "application/vnd.centralita.depot.v1"
CONFIG = "application/vnd.centralita.depot.config.v1+json"
# What registries take: https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pushing-manifests
_MANIFEST_BYTES = 4 * 1024 * 1024
_TITLE = "org.opencontainers.image.title"
_TAGS = f"{LAYOUT}/index.json"
#: Formats that are container images, each an OCI layout in a tar: the end of their files' names and of their tags.
_IMAGES = {".containerdisk.tar": "containerdisk", ".oci.tar": "container"}


class RegistryPlace:
    """A repository of a registry. Files are put as blobs, and come to be in the depot with the index."""

    def __init__(self, address: str) -> None:
        """`oci://HOST[:PORT]/NAME`, or `oci+http://…` where the registry has no TLS. Raises CentralitaError."""
        parts = urlsplit(address)
        repository = parts.path.strip("/")
        if not parts.netloc or not repository or repository != repository.lower() or parts.query:
            raise CentralitaError(f"{address} names no repository", hint="oci://HOST[:PORT]/NAME, in small letters")
        self._registry = Registry(parts.netloc, repository, plain=True if parts.scheme == "oci+http" else None)
        self.name = f"oci://{self._registry.name}"
        # Paths: digest without its algorithm, and size.
        self._files: dict[str, tuple[str, int]] = {}
        # The manifest that is served; and what has been sent of container images, by their tags.
        self._served: bytes | None = None
        self._images: dict[str, bytes] = {}
        # The tags before the switch.
        self._before: set[str] = set()
        self._touched = self._switched = False

    @contextmanager
    def opened(self) -> Iterator[None]:
        """See Place."""
        self._registry.check()
        self._served = self._registry.manifest(TAG)
        self._files = _files(self._served, self.name) if self._served else {}
        self._images, self._before, self._touched, self._switched = {}, set(), False, False
        yield

    @contextmanager
    def locked(self) -> Iterator[None]:
        """See Place: nobody is kept out, as a registry has nothing for it; a publish that was overtaken is refused."""
        with self.opened():
            yield
            # After the switch; or after one whose publish was killed before it came to this.
            if self._touched:
                self._put_tags()

    def read(self, path: str, limit: int) -> bytes | None:
        """See Place."""
        if path not in self._files:
            return None
        digest, _size = self._files[path]
        with self._registry.open_blob(f"sha256:{digest}") as answer:
            return None if answer is None else within(answer.read(limit + 1), limit, path)

    def fetch(self, path: str, target: Path, size_bytes: int, progress: Progress) -> None:
        """See Place."""
        if path not in self._files:
            raise CentralitaError(f"{self.name} has no {path}")
        done = begun(target, size_bytes)
        if done == size_bytes and done:
            progress(done)
            return
        with self._registry.open_blob(f"sha256:{self._files[path][0]}", done) as answer:
            if answer is None:
                raise CentralitaError(f"{self.name} has lost {path}", hint="publish the release again")
            append(answer, target, done if answer.status == 206 else 0, size_bytes, progress, path)

    def missing(self, uploads: Sequence[Upload]) -> list[Upload]:
        """See Place: a blob's name is its digest, and the registry is asked whether it has it."""
        there: dict[str, bool] = {}

        def has(digest: str) -> bool:
            if digest not in there:
                there[digest] = self._registry.has_blob(f"sha256:{digest}")
            return there[digest]

        return [upload for upload in uploads if not (self._as_named(upload) and has(upload.entry.sha256))]

    def put(self, uploads: Sequence[Upload], step: Step) -> None:
        """See Place. Nobody sees any of it before the index is put, and then all of it."""
        self._touched = self._touched or bool(uploads)
        for upload in uploads:
            if upload.source is None:
                if not self._registry.has_blob(f"sha256:{upload.entry.sha256}"):
                    raise CentralitaError(f"{self.name} has lost {upload.alias}", hint="publish that release again")
                step.advance(upload.entry.size_bytes)
            else:
                self._send(upload, upload.source, step)
            self._files[upload.path] = (upload.entry.sha256, upload.entry.size_bytes)
            if upload.path == INDEX:
                self._switch()

    def delete(self, paths: Sequence[str]) -> None:
        """See Place. The registry's own garbage collection then frees the room."""
        for path in paths:
            self._files.pop(path, None)
        if self._switched and paths:
            self._show()

    def listing(self) -> list[str]:
        """See Place."""
        return sorted(self._files)

    def _as_named(self, upload: Upload) -> bool:
        if self._files.get(upload.path) != (upload.entry.sha256, upload.entry.size_bytes):
            return False
        if upload.path == _TAGS and upload.source is not None:
            # The tags follow the switch: a publish that was killed in between has left some as they were.
            return not self._stale(upload.source.read_bytes())
        image = _image_of(upload.path)
        return image is None or self._registry.manifest(image) is not None

    def _send(self, upload: Upload, source: Path, step: Step) -> None:
        try:
            self._registry.put_blob(f"sha256:{upload.entry.sha256}", source, upload.entry.size_bytes, step.advance)
        except CentralitaError:
            check_sources([upload])  # the registry only says that the digest is another
            raise
        if image := _image_of(upload.path):
            self._images[image] = self._send_image(source)

    def _send_image(self, archive: Path) -> bytes:
        """Put the blobs of an OCI layout in a tar, and return its one manifest."""
        try:
            with tarfile.open(archive) as tar:

                def content(digest: str) -> IO[bytes]:
                    found = tar.extractfile(f"blobs/sha256/{digest.removeprefix('sha256:')}")
                    if found is None:
                        raise KeyError(digest)
                    return found

                index = tar.extractfile("index.json")
                assert index is not None
                data = content(json.load(index)["manifests"][0]["digest"]).read()
                manifest = json.loads(data)
                for blob in (manifest["config"], *manifest["layers"]):
                    self._registry.put_blob(blob["digest"], content(blob["digest"]), blob["size"], lambda _bytes: None)
        except (tarfile.TarError, KeyError, ValueError) as error:
            raise CentralitaError(f"{archive} is no OCI archive: {error}", hint="build again, publish again") from error
        return data

    def _switch(self) -> None:
        if self._registry.manifest(TAG) != self._served:
            raise CentralitaError(
                f"another publish has changed {self.name} meanwhile", hint="publish again: it builds on the other"
            )
        self._before = self._tags_of(self._served)
        self._show()
        self._switched = True

    def _put_tags(self) -> None:
        for tag, data in self._images.items():
            self._registry.put_manifest(tag, data, MANIFEST)
        for tag, digest in self._stale(self.read(_TAGS, LIMIT) or b"{}"):
            if manifest := self._manifest_of(digest):
                self._registry.put_manifest(tag, manifest, MANIFEST)
        tags = self._tags_of(self._served)
        if not self._before - tags:
            return
        kept = {self._registry.manifest(tag) for tag in tags}
        for tag in sorted(self._before - tags):
            # A registry removes manifests, with all of their tags: one that another release has too stays.
            if self._registry.manifest(tag) not in kept:
                self._registry.drop(tag)

    def _show(self) -> None:
        """Replace the one manifest that makes a depot of blobs."""
        config = b"{}"
        self._registry.put_blob(_digest(config), config, len(config), lambda _bytes: None)
        layers = [
            {
                "mediaType": "application/octet-stream",
                "digest": f"sha256:{digest}",
                "size": size,
                "annotations": {_TITLE: path},
            }
            for path, (digest, size) in sorted(self._files.items())
        ]
        data = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "artifactType": ARTIFACT,
                "config": {"mediaType": CONFIG, "digest": _digest(config), "size": len(config)},
                "layers": layers,
            },
            separators=(",", ":"),
        ).encode()
        if len(data) > _MANIFEST_BYTES:
            raise CentralitaError(
                f"{self.name} would have more files than a registry's manifest can name", hint="invoke depot.prune"
            )
        self._registry.put_manifest(TAG, data, MANIFEST)
        self._served = data

    def _stale(self, layout: bytes) -> list[tuple[str, str]]:
        """The tags of the OCI layout, and of the newest container images, that are not yet as they should be."""
        wanted = _layout_tags(layout)
        versions = {digest: tag for tag, digest in wanted.items() if "." in tag}
        for newest in [tag for tag in wanted if "." not in tag]:
            for kind in _IMAGES.values():
                data = self._registry.manifest(f"{versions.get(wanted[newest], newest)}-{kind}")
                if data is not None:
                    wanted[f"{newest}-{kind}"] = _digest(data)
        return [(tag, d) for tag, d in wanted.items() if _digest(self._registry.manifest(tag) or b"") != d]

    def _manifest_of(self, digest: str) -> bytes | None:
        path = f"{LAYOUT}/blobs/sha256/{digest.removeprefix('sha256:')}"
        return self.read(path, LIMIT) or self._registry.manifest(digest)

    def _tags_of(self, depot: bytes | None) -> set[str]:
        """The tags that a depot's state stands for, those of container images included."""
        files = _files(depot, self.name) if depot else {}
        tags = {image for path in files if (image := _image_of(path))}
        if _TAGS in files:
            with self._registry.open_blob(f"sha256:{files[_TAGS][0]}") as answer:
                tags |= set(_layout_tags(answer.read() if answer else b"{}"))
        return tags


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _layout_tags(layout: bytes) -> dict[str, str]:
    """Tags and digests of an OCI layout's index."""
    entries = json.loads(layout).get("manifests", [])
    return {entry["annotations"]["org.opencontainers.image.ref.name"]: entry["digest"] for entry in entries}


def _files(manifest: bytes, name: str) -> dict[str, tuple[str, int]]:
    """What a depot's manifest says: paths, digests and sizes. Raises CentralitaError where it is another thing's."""
    try:
        read = json.loads(manifest)
        if read["config"]["mediaType"] != CONFIG:
            raise ValueError(read["config"]["mediaType"])
        layers = read["layers"]
        return {x["annotations"][_TITLE]: (x["digest"].removeprefix("sha256:"), int(x["size"])) for x in layers}
    except (ValueError, KeyError, TypeError) as error:
        raise CentralitaError(f"what is tagged {TAG} in {name} is no depot", hint="publish to another name") from error


def _image_of(path: str) -> str | None:
    """The tag of the container image that a release's file is; None for any other file."""
    parts = path.split("/")
    kind = next((kind for suffix, kind in _IMAGES.items() if path.endswith(suffix)), None)
    return f"{parts[1]}-{parts[2]}-{kind}" if kind and parts[0] == "releases" and len(parts) == 4 else None
