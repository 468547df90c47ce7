"""Two releases of the real image that differ in one small package: what an upgrade downloads, and what comes out."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from centralita.depot.client import Depot
from centralita.depot.deltas import make_delta, raw_disk
from centralita.depot.diff import difference
from centralita.depot.keys import make_keys
from centralita.depot.pull import pull
from centralita.depot.reader import FolderReader
from centralita.depot.verify import verify_folder
from centralita.image.build import Golden, build, loaded
from centralita.packages.tools import tools_tree
from tests.depot import publish
from tests.web import serving

pytestmark = pytest.mark.xdist_group("deltas")
Record = Callable[[str, object], None]
PACKAGE = "tree"


def with_one_more_package(golden: Golden, folder: Path) -> Golden:
    """The same appliance in its next version, with one more small package."""
    yaml = YAML()
    name = golden.record.appliance
    declared = yaml.load(Path(loaded(name).sources[0]))
    major, minor, patch = golden.record.version.split(".")
    declared["version"] = f"{major}.{minor}.{int(patch) + 1}"
    declared.setdefault("packages", {}).setdefault("add", []).append(PACKAGE)
    folder.mkdir()
    with (folder / f"{name}.yaml").open("w") as stream:
        yaml.dump(declared, stream)
    return build(str(folder / f"{name}.yaml"))


def test_an_upgrade_to_one_more_package(
    golden: Golden, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Record
) -> None:
    monkeypatch.setenv("CENTRALITA_OUTPUT", str(tmp_path / "built"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1790000000")
    keys = make_keys()
    newer = with_one_more_package(golden, tmp_path / "appliance")
    name = golden.record.appliance
    for folder in ("one", "two"):
        for image in (golden, newer):
            publish(image, tmp_path / folder)
    subprocess.run(["diff", "-r", tmp_path / "one", tmp_path / "two"], check=True)
    verify_folder(tmp_path / "one")

    depot = Depot.open(FolderReader(tmp_path / "one"), keys.minisign)
    (delta,) = depot.find(name).deltas
    # Not taken from the cache: made anew, the delta is the same.
    started = time.monotonic()
    with raw_disk(golden.record, golden.qcow2_path) as old, raw_disk(newer.record, newer.qcow2_path) as new:
        make_delta(old, new, tmp_path / "again", tools_tree("formats"))
    record_property("made_s", round(time.monotonic() - started, 1))
    subprocess.run(["cmp", tmp_path / "again", tmp_path / "one" / delta.path], check=True)

    found = difference(depot, golden.record.full_version, newer.record.full_version)
    assert [(p.name, p.old) for p in found.packages] == [(PACKAGE, None)]
    assert found.files is not None
    paths = {file.path: file.what for file in found.files}
    assert paths[f"/usr/bin/{PACKAGE}"] == "new"
    assert paths["/var/lib/dpkg/status"] == "content"
    assert len(paths) < 40, paths

    monkeypatch.setenv("CENTRALITA_OUTPUT", str(tmp_path / "client"))
    full = newer.qcow2_path.stat().st_size
    with serving(tmp_path / "one") as web:
        pull(name, web.url, version=golden.record.full_version, key=keys.minisign)
        web.sent.clear()
        started = time.monotonic()
        pulled = pull(name, web.url, key=None)
        record_property("applied_s", round(time.monotonic() - started, 1))
    subprocess.run(["cmp", newer.qcow2_path, pulled.qcow2_path], check=True)
    record_property("full_bytes", full)
    record_property("delta_bytes", delta.size_bytes)
    record_property("downloaded_bytes", web.total())
    record_property("percent", round(100 * web.total() / full, 2))
    # Everything that was sent counts, records and signatures too.
    assert web.total() <= 0.15 * full
