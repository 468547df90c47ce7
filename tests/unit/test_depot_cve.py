"""A release judged by data in the format of Debian's security tracker, with vulnerable versions that were planted."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from centralita.depot.client import Depot
from centralita.depot.cve import Report, check, over, report, tracked
from centralita.depot.cve_data import TrackerData, load_data
from centralita.depot.documents import BOOT_LOADERS, embedded_packages
from centralita.depot.keys import Keys
from centralita.depot.reader import open_reader
from centralita.depot.record import Release, ReleasePackage
from centralita.depot.sbom import cyclonedx
from centralita.depot.verify import verify_folder
from centralita.desk import depots
from centralita.desk.cves import examiner, show_report
from centralita.ground.cache import digest_of
from centralita.ground.errors import CentralitaError
from centralita.ground.paths import cache_dir
from centralita.image.build import Golden
from centralita.image.record import MirrorEntry, PackageEntry, write_record
from centralita.packages.fetch import sha256_of
from centralita.packages.lockfile import load_lock
from centralita.packages.tools import TOOL_SETS
from tests.depot import NAME, image
from tests.unit.test_depot_documents import release as documented

pytestmark = pytest.mark.unit

DATA = Path(__file__).parents[1] / "data" / "cve" / "tracker.json"
ASTERISK = "1:22.10.1+dfsg+~cs6.17.60671434-1"


def package(name: str, version: str, source: str = "", suite: str = "") -> ReleasePackage:
    return ReleasePackage(name=name, version=version, arch="amd64", sha256="1" * 64, source=source, suite=suite)


PACKAGES = (
    package("asterisk", ASTERISK, "asterisk"),
    package("asterisk-modules", ASTERISK, "asterisk"),
    package("libc6", "2.43-7", "glibc"),
    package("linux-image-7.2.12+deb14-amd64", "7.2.12-1", "linux-signed-amd64 (7.2.12+1)"),
    package("bash", "5.3-4", "bash"),
)
LOADERS = (
    package("grub-efi-amd64-signed", "1+2.12+9+deb13u4", "grub-efi-amd64-signed", "trixie"),
    package("shim-signed", "1.51~1+deb13u1+16.1-2~deb13u1", "shim-signed (1.51~1+deb13u1)", "trixie"),
)


def judged(*packages: ReleasePackage, embedded: tuple[ReleasePackage, ...] = (), accept: str = "") -> Report:
    release = documented(packages=packages, embedded=embedded)
    return report(release, load_data(str(DATA)), accept=accept.split(","))


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return "".join(capsys.readouterr())


@pytest.fixture(autouse=True)
def own_folders(home: Path) -> None:
    """Nothing here reads or writes the user's cache."""


def test_a_planted_vulnerable_version_is_caught_and_the_mended_one_is_not() -> None:
    found = judged(*PACKAGES)
    planted = next(f for f in found.findings if f.issue == "CVE-2099-0001")
    assert (planted.source, planted.version, planted.packages) == (
        "asterisk", ASTERISK, ("asterisk", "asterisk-modules"),
    )  # fmt: skip
    assert (planted.state, planted.level, planted.fixed_in) == ("fix available", "high", "forky")
    assert planted.fixed_version == "1:22.10.2+dfsg+~cs6.17.60671434-1"
    mended = judged(package("asterisk", planted.fixed_version, "asterisk"))
    assert mended.findings == () and mended.resolved == 3
    # The same with a rebuild's and a security upload's version.
    for version in ("1:22.10.2+dfsg+~cs6.17.60671434-1+b1", "1:22.10.2+dfsg+~cs6.17.60671434-1+deb14u1"):
        assert judged(package("asterisk", version, "asterisk")).findings == ()
    assert judged(package("asterisk", "1:22.10.2~rc1+dfsg-1", "asterisk")).findings[0].issue == "CVE-2099-0001"


def test_what_the_tracker_says_is_told_as_it_means_it() -> None:
    found = {f.issue: f for f in judged(*PACKAGES).findings}
    said = {issue: (f.state, f.level) for issue, f in found.items()}
    assert said == {
        "CVE-2099-0001": ("fix available", "high"),
        "CVE-2099-0010": ("open", "medium"),
        "CVE-2099-0011": ("no-dsa", "low"),
        "CVE-2099-0012": ("ignored", "low"),
        "CVE-2099-0013": ("postponed", "low"),
        "CVE-2099-0014": ("undetermined", "undetermined"),
        "TEMP-0990015-A1B2C3": ("open", "unimportant"),
        "CVE-2099-0020": ("fix available", "medium"),
    }
    assert (found["CVE-2099-0010"].fixed_in, found["CVE-2099-0010"].fixed_version) == ("sid", "2.43-9")
    assert found["CVE-2099-0011"].reason == "Minor issue; in the next point release"
    assert [f.level for f in judged(*PACKAGES).findings][:2] == ["high", "medium"]
    # As new as sid's mended version, though the data call the suite vulnerable still.
    assert "CVE-2099-0010" not in [f.issue for f in judged(package("libc6", "2.43-9", "glibc")).findings]


def test_sources_are_those_of_the_tracker() -> None:
    assert tracked(PACKAGES[3]) == ("linux", "7.2.12-1")
    assert [tracked(loader) for loader in LOADERS] == [("grub2", "2.12-9+deb13u4"), ("shim", "16.1-2~deb13u1")]
    helpers = package("shim-helpers-amd64-signed", "1+16.1+2~deb13u1", "shim-helpers-amd64-signed")
    assert tracked(helpers) == ("shim", "16.1-2~deb13u1")
    assert tracked(package("acpid", "1:2.0.34-1+b1", "acpid (1:2.0.34-1)")) == ("acpid", "1:2.0.34-1")
    # A package that has the name of a source, but is another's.
    assert judged(package("glibc", "1", "other")).findings == ()


def test_boot_loaders_are_judged_by_the_suite_that_they_are_from() -> None:
    found = judged(embedded=LOADERS)
    assert [(f.issue, f.suite, f.fixed_version) for f in found.findings] == [
        ("CVE-2099-0030", "trixie", "2.12-9+deb13u5")
    ]
    assert found.resolved == 1


def test_boot_loaders_of_this_tools_tree_are_in_the_papers(home: Path) -> None:
    golden = image(home / "built", b"x")
    tools = {"disk": digest_of("tools", load_lock(TOOL_SETS["disk"].lock_path).packages)}
    found = embedded_packages(golden.record.model_copy(update={"tools": tools}))
    assert {p.name for p in found} == set(BOOT_LOADERS) and {p.suite for p in found} == {"trixie"}
    assert embedded_packages(golden.record) == ()
    components = json.loads(cyclonedx(documented(embedded=LOADERS)))["components"]
    assert next(c["purl"] for c in components if c["name"] == "shim-signed").endswith("distro=trixie")


def test_what_cannot_be_judged_is_told_and_passes_no_threshold() -> None:
    found = judged(package("libold", "1.0-1", "gone"), package("mystery", "1"), package("x", "1.0-1", "elsewhere"))
    assert (found.unknown, found.unwatched) == (("mystery",), ("gone",))
    assert [(f.issue, f.suite) for f in found.findings] == [("CVE-2099-0060", "sid")]
    with pytest.raises(CentralitaError, match=r"(?s)source is not recorded: mystery.*no longer watches: gone"):
        check(found, "high")
    check(found, "none")


@pytest.mark.parametrize(
    ("words", "issues"),
    [
        ("high", "1"),
        ("medium", "1 10 20"),
        ("low", "1 10 20 11 12 13"),
        ("any", "1 10 20 11 12 13 15 14"),
        ("fixed", "1 20"),
        ("high,fixed", "1 20"),
        ("none", ""),
    ],
)
def test_thresholds(words: str, issues: str) -> None:
    found = over(judged(*PACKAGES), words.split(","))
    assert {int(f.issue.split("-")[2 if f.issue[0] == "C" else 1][-2:]) for f in found} == set(map(int, issues.split()))


def test_a_threshold_says_what_and_the_ways_round() -> None:
    with pytest.raises(CentralitaError) as caught:
        check(judged(*PACKAGES), "fixed")
    line = f"CVE-2099-0001 in asterisk {ASTERISK}: high, fix available, fixed in forky by 1:22.10.2"
    assert line in str(caught.value) and caught.value.hint is not None
    assert "invoke lock pbx-test" in caught.value.hint and "--accept CVE-2099-0001,CVE-2099-0020" in caught.value.hint
    accepted = judged(*PACKAGES, accept="CVE-2099-0001,CVE-2099-0020")
    check(accepted, "fixed")
    assert [f.issue for f in accepted.findings if f.accepted] == ["CVE-2099-0001", "CVE-2099-0020"]
    with pytest.raises(CentralitaError, match="no threshold"):
        check(accepted, "hihg")


def test_data_that_are_not_the_trackers_are_refused(tmp_path: Path) -> None:
    cases = {
        "cut.json": (DATA.read_bytes()[:900], "no whole JSON"),
        "cut.gz": (gzip.compress(DATA.read_bytes())[:300], "no whole JSON"),
        "list.json": (b"[]", "does not hold"),
        "empty.json": (b"{}", "does not hold"),
    }
    for name, (data, message) in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(CentralitaError, match=message):
            load_data(str(tmp_path / name))
    with pytest.raises(CentralitaError, match="cannot read"):
        load_data(str(tmp_path / "none.json"))
    strange = {"asterisk": {"CVE-2099-1": {"releases": {"forky": "vulnerable"}}}}
    with pytest.raises(CentralitaError, match="not in the format"):
        report(documented(packages=PACKAGES), TrackerData("x", datetime.now(UTC), "0" * 64, strange))
    with pytest.raises(CentralitaError, match="says nothing of Debian's duke"):
        report(documented(packages=PACKAGES, suite="duke"), load_data(str(DATA)))


def test_the_age_of_data_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "tracker.json.gz"
    path.write_bytes(gzip.compress(DATA.read_bytes()))
    old = (datetime.now(UTC) - timedelta(days=30)).timestamp()
    os.utime(path, (old, old))
    assert load_data(str(path)).age_days() == 30
    assert "30 days old" in said(capsys)
    load_data(str(path), max_age_days=31)
    assert "days old" not in said(capsys)


class Tracker(BaseHTTPRequestHandler):
    """A web server that has the data since a certain time."""

    since = "Fri, 20 Nov 2026 10:00:00 GMT"
    answers: ClassVar[list[int]] = []

    def do_GET(self) -> None:
        """Send the data, or say that they are still the same."""
        status = 304 if self.headers.get("If-Modified-Since") == self.since else 200
        self.answers.append(status)
        self.send_response(status)
        self.send_header("Last-Modified", self.since)
        self.end_headers()
        if status == 200:
            self.wfile.write(DATA.read_bytes())

    def log_message(self, *_words: object) -> None:
        """Say nothing."""


@pytest.fixture
def tracker() -> Iterator[ThreadingHTTPServer]:
    Tracker.answers.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Tracker) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_download_is_kept_asked_for_again_and_used_without_a_network(
    tracker: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"http://127.0.0.1:{tracker.server_address[1]}/tracker/data/json"
    first = load_data(url)
    assert first.date == datetime(2026, 11, 20, 10, 0, tzinfo=UTC)
    assert "2026-11-20 10:00 UTC" in said(capsys)
    load_data(url)
    assert Tracker.answers == [200], "what was fetched just now is not asked for again"
    monkeypatch.setattr("centralita.depot.cve_data._FRESH", timedelta(-1))
    assert load_data(url).sha256 == first.sha256
    assert Tracker.answers == [200, 304]
    tracker.shutdown()
    tracker.server_close()
    capsys.readouterr()
    assert load_data(url).date == first.date
    assert "cannot be reached" in said(capsys)
    kept = next((cache_dir() / "cve").glob("*.data"))
    kept.write_bytes(kept.read_bytes()[:500])  # a cache that was spoiled is no cache
    with pytest.raises(CentralitaError, match="cannot be reached"):
        load_data(url)


def with_packages(golden: Golden, home: Path) -> Golden:
    """An image of Debian's forky with asterisk as a real .deb file in the store, which says what its source is."""
    control = home / "deb" / "DEBIAN" / "control"
    control.parent.mkdir(parents=True)
    control.write_text(
        f"Package: asterisk-modules\nSource: asterisk\nVersion: {ASTERISK}\nArchitecture: amd64\n"
        "Maintainer: Tests <tests@example.org>\nDescription: stands for it\n"
    )
    deb = home / "asterisk.deb"
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", control.parents[1], deb], check=True, stdout=-3)
    digest = sha256_of(deb)
    store = cache_dir() / "debs" / f"{digest}.deb"
    store.parent.mkdir(parents=True, exist_ok=True)
    deb.rename(store)
    record = golden.record.model_copy(
        update={
            "packages": (PackageEntry(name="asterisk-modules", version=ASTERISK, arch="amd64", sha256=digest),),
            "mirror": MirrorEntry(
                url="http://mirror.example.org/debian", suite="forky", release_date=datetime(2026, 11, 1, tzinfo=UTC),
                age_days=1, expired=False,
            ),
        }
    )  # fmt: skip
    write_record(record, golden.folder / f"{NAME}.json")
    return Golden(golden.folder, record)


def release_in(depot: Path) -> Release:
    opened = Depot.open(open_reader(str(depot)))
    return opened.release(opened.find(NAME))


def test_a_publish_fails_over_the_threshold_and_keeps_the_report_below_it(
    keys: Keys, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("centralita.ground.report._reporter", None)  # and put back what there was
    golden, depot = with_packages(image(home / "built", b"one" * 1000), home), home / "depot"

    def publish(fail_on: str, accept: str = "") -> None:
        depots.publish_golden(
            golden, to=str(depot), untested=True, dry_run=False, name="test", url="",
            examine=examiner(fail_on, str(DATA), accept),
        )  # fmt: skip

    with pytest.raises(CentralitaError, match=r"(?s)--fail-on-cve fixed forbids:\n  CVE-2099-0001 in asterisk"):
        publish("fixed")
    assert not (depot / "index.json").exists(), "a release that is refused changes nothing"
    publish("fixed", "CVE-2099-0001")
    document = release_in(depot).document("cve")
    assert document is not None
    found = Report.model_validate_json((depot / document.path).read_bytes())
    assert [(f.issue, f.accepted) for f in found.findings] == [("CVE-2099-0001", True)]
    verify_folder(depot)
    capsys.readouterr()
    options = {"accept": "", "suite": "", "max_age_days": 7, "every": False, "key": ""}
    with pytest.raises(CentralitaError, match="--fail-on high forbids"):
        show_report(str(depot), NAME, data=str(DATA), fail_on="high", as_json=True, **options)  # type: ignore[arg-type]
    shown = json.loads(capsys.readouterr().out)
    assert shown["findings"][0]["issue"] == "CVE-2099-0001" and shown["data_sha256"] == sha256_of(DATA)
    show_report(str(depot), f"{NAME}@1.0.0", data=str(DATA), fail_on="", as_json=False, **options)  # type: ignore[arg-type]
    text = capsys.readouterr().out
    assert "asterisk" in text and "CVE-2099-0001" in text and "fix available" in text
