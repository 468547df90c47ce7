"""Incus itself: the image imported, a container launched with a tenant's folder, and called."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from centralita.lab.incus import incus
from centralita.lab.net import LabNetwork
from tests.formats.conftest import BOOT_S, Formats, Seeded

pytestmark = pytest.mark.xdist_group("formats")
Record = Callable[[str, object], None]


def test_incus_launches_the_image(
    seeded: Seeded,
    formats: Formats,
    judged: Callable[[LabNetwork], None],
    tmp_path: Path,
    record_property: Record,
) -> None:
    metadata, root = formats("incus.tar.xz", "root.tar.xz")
    assert seeded.tenant.network.address is not None
    with seeded.network() as network, incus(network, tmp_path) as daemon:
        daemon.client("image", "import", daemon.bring(metadata.path), daemon.bring(root.path), "--alias", "pbx")
        (image,) = json.loads(daemon.client("image", "list", "--format", "json").stdout)
        assert (image["architecture"], image["type"]) == ("x86_64", "container")
        daemon.client("init", "pbx", "duo")
        tenant = daemon.bring(seeded.folder, "tenant")
        daemon.client("config", "device", "add", "duo", "tenant", "disk", f"source={tenant}", "path=/pbx-tenant",
                      "readonly=true")  # fmt: skip
        daemon.client("start", "duo")
        answer = daemon.daemon.wait_sip(seeded.tenant.network.address.ip, timeout_s=BOOT_S)
        record_property("first_sip_answer_s", round(answer.seconds, 1))
        judged(network)
        read = daemon.client("exec", "duo", "--", "cat", "/etc/machine-id", "/proc/sys/kernel/hostname").stdout.split()
        assert read == [seeded.identity.machine_id, "duo"]
        failed = daemon.client("exec", "duo", "--", "systemctl", "--failed", "--no-legend", "--plain").stdout
        record_property("failed_units", failed.split() or "none")
        record_property("incus", daemon.client("version").stdout.split()[-1])
