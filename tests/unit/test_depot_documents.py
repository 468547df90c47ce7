"""The papers of a release: bills of materials that their own validators accept, provenance, changes, licences."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation import make_schemabased_validator
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from centralita.depot.changelog import changelog
from centralita.depot.documents import make_papers
from centralita.depot.licences import combined, licences_of, spdx_expression
from centralita.depot.record import Release, ReleaseFile, ReleasePackage, Source
from centralita.depot.sbom import cyclonedx, purl, source_of, spdx

pytestmark = pytest.mark.unit

PACKAGES = (
    ReleasePackage(
        name="asterisk", version="1:22.10.1+dfsg+~cs6-1", arch="amd64", sha256="1" * 64, source="asterisk",
        licences=("GPL-2.0-only", "LGPL-2.0-or-later OR LicenseRef-Debian-GPL-2-Asterisk"),
    ),
    ReleasePackage(
        name="acpid", version="1:2.0.34-1+b1", arch="amd64", sha256="2" * 64, source="acpid (1:2.0.34-1)",
        licences=("GPL-2.0-or-later",),
    ),
    ReleasePackage(name="libc6", version="2.43-7", arch="amd64", sha256="3" * 64, source="glibc (2.43-7)"),
)  # fmt: skip


def release(**changes: object) -> Release:
    """A release as publish makes it."""
    values: dict[str, Any] = {
        "appliance": "pbx-test",
        "description": "An exchange for <tests> & others",
        "version": "1.0.0+aaaaaaaaaaaa",
        "golden_digest": "a" * 64,
        "created": datetime(2026, 11, 3, 12, 0, tzinfo=UTC),
        "source_date": datetime(2026, 10, 30, 8, 8, 1, tzinfo=UTC),
        "untested": False,
        "tests_digest": "b" * 64,
        "targets": ({"target": "kvm", "outcome": "passed", "passed": 9},),
        "files": (
            ReleaseFile(
                format="qcow2", path="releases/pbx-test/1.0.0_aaaaaaaaaaaa/pbx-test.qcow2", size_bytes=80_000_000,
                sha256="c" * 64, sha512="d" * 128, media_type="application/x-qemu-disk", virtual_size_bytes=1 << 30,
            ),
        ),
        "packages": PACKAGES,
        "languages": ("en",),
        "memory_mib": 512,
        "vcpus": 1,
        "disk_size_bytes": 1 << 30,
        "root_uuid": "281a869b-bfbf-5769-831a-f4a80a61da9c",
        "root_partition": 3,
        "kernel_version": "7.0.4",
        "kernel_cmdline": ("root=UUID=281a", "ro"),
        "suite": "forky",
        "unlocked": False,
        "lock_digest": "e" * 64,
        "source": Source(revision="f" * 40),
        "builder": {"centralita": "0.3.0"},
        **changes,
    }  # fmt: skip
    return Release(**values)


def test_licences_of_debian_as_spdx_expressions() -> None:
    assert spdx_expression("GPL-2+ or Artistic") == "GPL-2.0-or-later OR Artistic-1.0-Perl"
    assert spdx_expression("Expat and LGPL-2.1+") == "MIT AND LGPL-2.1-or-later"
    assert spdx_expression("GPL-3 or BSD-3-clause, and Expat") == "(GPL-3.0-only OR BSD-3-Clause) AND MIT"
    assert spdx_expression("GPL-2+ with OpenSSL exception") == "LicenseRef-Debian-GPL-2-or-later-with-OpenSSL-exception"
    assert spdx_expression("GPL") == "GPL-1.0-or-later"
    assert combined(("MIT", "GPL-2.0-only OR Zlib")) == "MIT AND (GPL-2.0-only OR Zlib)"
    header = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: x\n\n"
    text = header + "Files: *\nCopyright: 2020 A\nLicense: GPL-2+\n\nFiles: b\nLicense: Expat\n\nLicense: Zlib\n text\n"
    assert licences_of(text) == ("GPL-2.0-or-later", "MIT")
    assert licences_of("It is free: see /usr/share/common-licenses/LGPL-2.1.") == ("LGPL-2.1-only",)


def test_source_packages_and_purls() -> None:
    assert source_of(PACKAGES[1]) == ("acpid", "1:2.0.34-1")
    assert source_of(PACKAGES[0]) == ("asterisk", "1:22.10.1+dfsg+~cs6-1")
    found = purl("libstdc++6", "1:2+b~1", "amd64", "forky")
    assert found == "pkg:deb/debian/libstdc%2B%2B6@1%3A2%2Bb~1?arch=amd64&distro=forky"


def test_spdx_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "bill.spdx.json"
    path.write_bytes(spdx(release()))
    document = parse_file(str(path))
    assert [str(message) for message in validate_full_spdx_document(document)] == []
    assert len(document.packages) == 1 + 3 + 3
    assert spdx(release()) == spdx(release())


def test_cyclonedx_is_valid() -> None:
    text = cyclonedx(release()).decode()
    validator = make_schemabased_validator(OutputFormat.JSON, SchemaVersion.V1_6)
    assert validator.validate_str(text) is None
    components = json.loads(text)["components"]
    assert {c["name"] for c in components} == {"asterisk", "acpid", "libc6"}


def test_provenance_names_files_packages_and_source() -> None:
    papers = {paper.kind: paper for paper in make_papers(release(), None)}
    statement = json.loads(papers["provenance"].data)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert {"name": "pbx-test.raw", "digest": {"sha256": "a" * 64}} in statement["subject"]
    definition = statement["predicate"]["buildDefinition"]
    assert definition["resolvedDependencies"][0]["digest"] == {"gitCommit": "f" * 40}
    assert len(definition["resolvedDependencies"]) == 1 + len(PACKAGES)
    assert statement["predicate"]["runDetails"]["builder"]["id"]


def test_changelog_tells_packages_configuration_and_size() -> None:
    before = release()
    newer = PACKAGES[0].model_copy(update={"version": "1:22.10.2-1"})
    extra = ReleasePackage(name="tcpdump", version="4", arch="amd64", sha256="5" * 64)
    file = before.files[0].model_copy(update={"size_bytes": 82_000_000})
    after = release(
        version="1.1.0+bbbbbbbbbbbb", packages=(newer, PACKAGES[1], extra), memory_mib=1024, files=(file,),
        languages=("en", "fr"), golden_digest="9" * 64,
    )  # fmt: skip
    text = changelog(after, before)
    assert "- asterisk 1:22.10.1+dfsg+~cs6-1 → 1:22.10.2-1" in text
    assert "- tcpdump 4: new" in text and "- libc6 2.43-7: gone" in text
    assert "- memory: 512 MiB → 1024 MiB" in text and "- languages: new fr" in text
    assert "- qcow2: 80.0 MB → 82.0 MB (+2.0 MB)" in text
    assert "acpid" not in text
    assert "The first release here." in changelog(before, None)
