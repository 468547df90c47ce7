"""The indexes of other clients: what is in them, and that skopeo and virt-builder read a depot with them."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from centralita.depot.indexes import GENERATORS, Alias, Site
from centralita.depot.indexes import simplestreams as streams
from centralita.depot.keys import make_keys
from centralita.depot.record import Release, ReleaseFile
from tests.depot import NAME, image, publish
from tests.unit.test_depot_documents import release

pytestmark = pytest.mark.unit

SITE = Site("Example & Co", "https://depot.example.org", datetime(2026, 11, 3, 12, 0, tzinfo=UTC), "A" * 40, "RWQ")


def incus_file(form: str, digit: str, fingerprint: str | None = None) -> ReleaseFile:
    """A file of Incus's image."""
    return ReleaseFile(
        format=form, path=f"releases/pbx-test/1_a/pbx-test.{form}", size_bytes=10, sha256=digit * 64,
        sha512=digit * 128, media_type="application/x-xz", incus_fingerprint=fingerprint,
    )  # fmt: skip


def with_incus(**changes: object) -> Release:
    """A release that Incus can take."""
    files = (
        incus_file("qcow2", "1", "5" * 64),
        incus_file("incus.tar.xz", "2"),
        incus_file("root.tar.xz", "3", "4" * 64),
    )
    return release(files=files, **changes)


def rendered(*releases: Release) -> dict[str, bytes | Alias]:
    """All indexes together."""
    return {path: content for render in GENERATORS for path, content in render(releases, SITE).items()}


def test_simplestreams_offers_a_container_and_a_machine() -> None:
    images = json.loads(bytes(streams.render([with_incus()], SITE)["streams/v1/images.json"]))  # type: ignore[arg-type]
    (product,) = images["products"].values()
    ((name, version),) = product["versions"].items()
    assert re.match(r"\d{8}_1\.0\.0", name)
    metadata = version["items"]["incus.tar.xz"]
    assert metadata["combined_rootxz_sha256"] == "4" * 64
    assert metadata["combined_disk1-img_sha256"] == "5" * 64
    assert version["items"]["disk1.img"]["ftype"] == "disk1.img"


def test_of_one_day_simplestreams_shows_the_last() -> None:
    first = with_incus()
    second = with_incus(version="1.0.1+b", created=first.created + timedelta(hours=1))
    later = with_incus(version="1.0.2+c", created=first.created + timedelta(days=1))
    images = json.loads(bytes(streams.render([first, second, later], SITE)["streams/v1/images.json"]))  # type: ignore[arg-type]
    (product,) = images["products"].values()
    assert [name.partition("_")[2] for name in product["versions"]] == ["1.0.1+b", "1.0.2+c"]


def test_indexes_are_the_same_bytes_and_stay_in_the_depot() -> None:
    one, two = rendered(with_incus()), rendered(with_incus())
    assert one == two
    index = bytes(one["index.asc"]).decode()  # type: ignore[arg-type]
    assert "expand=/dev/sda3\n" in index and "://" not in index
    assert one["oci/blobs/sha256/" + "1" * 64] == Alias("releases/pbx-test/1_a/pbx-test.qcow2")


def test_the_feed_is_atom() -> None:
    root = ElementTree.fromstring(bytes(rendered(with_incus())["feed.atom"]))  # type: ignore[arg-type]
    atom = "{http://www.w3.org/2005/Atom}"
    assert root.tag == f"{atom}feed"
    for element in (root, *root.iter(f"{atom}entry")):
        for needed in ("id", "title", "updated"):
            (found,) = element.findall(atom + needed)
            assert found.text
    assert root.find(f"{atom}author/{atom}name") is not None
    assert all(link.get("href", "").startswith("https://") for link in root.iter(f"{atom}link"))


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)
        self.links += [value for name, value in attrs if name in ("href", "src") and value]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_else() -> None:
    text = bytes(rendered(with_incus(untested=True))["index.html"]).decode()  # type: ignore[arg-type]
    page = _Page()
    page.feed(text)
    assert page.open == []
    assert "<script" not in text and "@import" not in text
    assert not [link for link in page.links if "://" in link]
    assert "Example &amp; Co" in text and "&lt;tests&gt;" in text
    assert "Released without tests" in text
    assert "Released without tests" not in bytes(rendered(with_incus())["index.html"]).decode()  # type: ignore[arg-type]


def test_skopeo_copies_a_release(home: Path) -> None:
    make_keys()
    depot = home / "depot"
    golden = image(home / "built", b"one" * 1000)
    publish(golden, depot)
    subprocess.run(["skopeo", "copy", "-q", f"oci:{depot}/oci:{NAME}", f"oci:{home}/copy:x"], check=True)
    there = {p.name: p.read_bytes() for p in (home / "copy/blobs/sha256").iterdir()}
    assert golden.qcow2_path.read_bytes() in there.values()
    # Blobs are the release's own files, not a second copy.
    (blob,) = [p for p in (depot / "oci/blobs/sha256").iterdir() if p.stat().st_nlink > 1 and b"QFI" in p.read_bytes()]
    assert blob.read_bytes() == golden.qcow2_path.read_bytes()


@pytest.fixture
def gnupg(home: Path) -> Iterator[Path]:
    """GnuPG's folder of a user who has nothing; its agent is ended."""
    folder = home / "gnupg"
    folder.mkdir(mode=0o700)
    yield folder
    subprocess.run(["gpgconf", "--homedir", folder, "--kill", "gpg-agent"], check=True)


def test_virt_builder_lists_a_depot(home: Path, gnupg: Path) -> None:
    keys = make_keys()
    depot = home / "depot"
    publish(image(home / "built", b"one" * 1000), depot)
    repos = home / "config/virt-builder/repos.d"
    repos.mkdir(parents=True)
    # The files of these names that came with virt-builder would ask the Internet.
    (repos / "opensuse.conf").write_text("")
    env = {**os.environ, "XDG_CONFIG_HOME": str(home / "config"), "GNUPGHOME": str(gnupg), "HOME": str(home)}
    subprocess.run(["gpg", "-q", "--batch", "--import", depot / "keys/openpgp.asc"], env=env, check=True)

    def listed(*options: str) -> subprocess.CompletedProcess[str]:
        argv = ["virt-builder", "--no-cache", "--list", *options]
        return subprocess.run(argv, env=env, check=False, capture_output=True, text=True)

    (repos / "libguestfs.conf").write_text("")
    native = ("--source", f"file://{depot}/index.asc", "--fingerprint", keys.openpgp)
    done = listed(*native)
    assert done.returncode == 0 and NAME in done.stdout, done.stderr
    (repos / "libguestfs.conf").write_text(
        f"[depot]\nuri=file://{depot}/\nformat=simplestreams\ngpgkey=file://{depot}/keys/openpgp.asc\n"
    )
    done = listed()
    assert done.returncode == 0 and NAME in done.stdout, done.stderr
    (repos / "libguestfs.conf").write_text("")
    changed = (depot / "index.asc").read_text().replace("size=3000", "size=3001")
    (depot / "index.asc").write_text(changed)
    assert listed(*native).returncode != 0
