"""OCI images (image-spec 1.0) in one file each: a layout in a tar, `oci-archive:` to skopeo and podman."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from centralita.formats.disks import add
from centralita.formats.subject import Subject
from centralita.formats.trees import write_tree
from centralita.ground.run import run
from centralita.packages.fetch import sha256_of
from centralita.packages.tools import ToolsTree

IMAGE = "application/vnd.oci.image"
# The user "qemu" of KubeVirt's launcher: the file is read by it and nobody else needs it.
QEMU_USER = 107


@dataclass(frozen=True)
class Layer:
    """A layer: its file, its media type, and the digest of its tar before compression."""

    path: Path
    media_type: str
    plain_sha256: str


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def write_archive(target: Path, subject: Subject, layer: Layer, config: Mapping[str, object]) -> None:
    """Write an image of one layer; ``config`` is the part of that name of its configuration."""
    created = datetime.fromtimestamp(subject.epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    labels = {
        "org.opencontainers.image.title": subject.name,
        "org.opencontainers.image.description": subject.title,
        "org.opencontainers.image.version": subject.version,
        "org.opencontainers.image.created": created,
    }
    shown: dict[str, object] = {**config, "Labels": labels}
    document = _json(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": created,
            "config": shown,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.plain_sha256}"]},
            "history": [{"created": created, "created_by": "centralita"}],
        }
    )
    layer_digest = sha256_of(layer.path)
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": f"{IMAGE}.manifest.v1+json",
            "config": _described(document, f"{IMAGE}.config.v1+json"),
            "layers": [
                {
                    "mediaType": layer.media_type,
                    "digest": f"sha256:{layer_digest}",
                    "size": layer.path.stat().st_size,
                }
            ],
            "annotations": labels,
        }
    )
    entry: dict[str, object] = {
        **_described(manifest, f"{IMAGE}.manifest.v1+json"),
        "platform": {"architecture": "amd64", "os": "linux"},
        "annotations": {"org.opencontainers.image.ref.name": _tag(subject.version)},
    }
    index = _json({"schemaVersion": 2, "mediaType": f"{IMAGE}.index.v1+json", "manifests": [entry]})
    blobs: list[tuple[str, bytes | Path]] = [(layer_digest, layer.path)]
    blobs += [(hashlib.sha256(data).hexdigest(), data) for data in (document, manifest)]
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as out:
        add(out, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}), subject.epoch)
        add(out, "index.json", index, subject.epoch)
        add(out, "blobs", None, subject.epoch, mode=0o755)
        add(out, "blobs/sha256", None, subject.epoch, mode=0o755)
        for digest, content in sorted(blobs, key=lambda blob: blob[0]):
            add(out, f"blobs/sha256/{digest}", content, subject.epoch)


def _tag(version: str) -> str:
    """Return a version as a tag: a plus sign may not stand in one."""
    return version.replace("+", "-")


def _described(data: bytes, media_type: str) -> dict[str, object]:
    return {"mediaType": media_type, "digest": f"sha256:{hashlib.sha256(data).hexdigest()}", "size": len(data)}


def make_containerdisk(subject: Subject, target: Path, qcow2: Path) -> None:
    """Write KubeVirt's containerDisk: one file below /disk, owned by 107:107, mode 0440, and nothing else."""
    plain = target.with_name("layer.tar")
    with tarfile.open(plain, "w", format=tarfile.PAX_FORMAT) as out:
        add(out, "disk", None, subject.epoch, mode=0o555, owner=QEMU_USER)
        add(out, f"disk/{subject.name}.qcow2", qcow2, subject.epoch, mode=0o440, owner=QEMU_USER)
    # Compressed already: to pack it again would cost time and gain nothing.
    write_archive(target, subject, Layer(plain, f"{IMAGE}.layer.v1.tar", sha256_of(plain)), {})
    plain.unlink()


def make_oci(subject: Subject, target: Path, tools: ToolsTree) -> None:
    """Write a system container: systemd is its first process."""
    plain = target.with_name("layer.tar")
    write_tree(subject, plain)
    digest = sha256_of(plain)
    run([*tools.command("gzip"), "-n", "-6", plain])
    packed = target.with_name("layer.tar.gz")
    config: dict[str, object] = {
        "Cmd": ["/sbin/init"],
        # What systemd in a container shuts down by (systemd(1), SIGNALS).
        "StopSignal": "SIGRTMIN+3",
        "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "container=oci"],
        "ExposedPorts": {"5060/udp": {}, "5060/tcp": {}},
        "Volumes": {"/var/spool/asterisk": {}},
    }
    write_archive(target, subject, Layer(packed, f"{IMAGE}.layer.v1.tar+gzip", digest), config)
    packed.unlink()
