"""A release's bill of materials as SPDX 2.3 and as CycloneDX 1.6, in JSON: the same bytes for the same release."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from centralita.depot.licences import REF, combined
from centralita.depot.record import Release, ReleasePackage

NAMESPACE = uuid.UUID("5b0a7c1e-4f0b-5d6e-9a35-6c1a4a0f7e21")
_REFERENCE = re.compile(re.escape(REF) + r"[A-Za-z0-9.-]+")
_SOURCE = re.compile(r"(\S+)(?: \((\S+)\))?")


def source_of(package: ReleasePackage) -> tuple[str, str]:
    """A package's source package and its version; both are the package's own where it does not say otherwise."""
    match = _SOURCE.fullmatch(package.source)
    if match is None:
        return package.name, package.version
    return match[1], match[2] or package.version


def contents(release: Release) -> tuple[ReleasePackage, ...]:
    """All of Debian that is in an image: its packages and its boot loaders."""
    return (*release.packages, *release.embedded)


def purl(name: str, version: str, arch: str, suite: str) -> str:
    """A package URL (github.com/package-url/purl-spec, type deb); arch is ``source`` for a source package."""
    distro = f"&distro={quote(suite, safe='')}" if suite else ""
    return f"pkg:deb/debian/{quote(name.lower(), safe='')}@{quote(version, safe='.~-_')}?arch={arch}{distro}"


def serial(release: Release) -> uuid.UUID:
    """A name for the bill that follows from what it is of."""
    return uuid.uuid5(NAMESPACE, f"{release.appliance}/{release.version}/{release.golden_digest}")


def _dump(value: object) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


def _time(release: Release) -> str:
    return release.created.strftime("%Y-%m-%dT%H:%M:%SZ")


def _tools(release: Release) -> str:
    return f"centralita-{release.builder.get('centralita', '0')}"


def _sources(packages: Iterable[ReleasePackage]) -> dict[tuple[str, str], list[ReleasePackage]]:
    found: dict[tuple[str, str], list[ReleasePackage]] = {}
    for package in packages:
        found.setdefault(source_of(package), []).append(package)
    return dict(sorted(found.items()))


def _spdx_id(*words: str) -> str:
    # A letter of a version may be no letter of an identifier: what is left must still tell two versions apart.
    text = "-".join(words)
    plain = re.sub(r"[^A-Za-z0-9.-]", "-", text)
    return f"SPDXRef-{plain}" + ("" if plain == text else f"-{uuid.uuid5(NAMESPACE, text).hex[:8]}")


def _spdx_package(identifier: str, name: str, version: str, reference: str, **more: object) -> dict[str, Any]:
    return {
        "SPDXID": identifier,
        "name": name,
        "versionInfo": version,
        "supplier": "Organization: Debian",
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
        **more,
        "externalRefs": [
            {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": reference}
        ],
    }


def spdx(release: Release) -> bytes:
    """The bill as SPDX 2.3 (spdx.github.io/spdx-spec/v2.3): the image, its packages, and what they were built from."""
    image = "SPDXRef-image"
    packages: list[dict[str, Any]] = [
        {
            "SPDXID": image,
            "name": release.appliance,
            "versionInfo": release.version,
            "summary": release.description,
            "primaryPackagePurpose": "OPERATING-SYSTEM",
            "supplier": "NOASSERTION",
            "downloadLocation": "NOASSERTION",
            "filesAnalyzed": False,
            "licenseConcluded": "NOASSERTION",
            "licenseDeclared": "NOASSERTION",
            "copyrightText": "NOASSERTION",
            "checksums": [{"algorithm": "SHA256", "checksumValue": release.golden_digest}],
        }
    ]
    links = [("SPDXRef-DOCUMENT", "DESCRIBES", image)]
    references: dict[str, list[str]] = {}
    identifiers = {}
    for package in sorted(contents(release), key=lambda p: (p.name, p.arch)):
        identifier = identifiers[package.name, package.arch] = _spdx_id("Package", package.name, package.arch)
        declared = combined(package.licences)
        for reference in _REFERENCE.findall(declared):
            references.setdefault(reference, []).append(package.name)
        packages.append(
            _spdx_package(
                identifier, package.name, package.version,
                purl(package.name, package.version, package.arch, package.suite or release.suite),
                primaryPackagePurpose="LIBRARY" if package.name.startswith("lib") else "APPLICATION",
                licenseDeclared=declared or "NOASSERTION",
                checksums=[{"algorithm": "SHA256", "checksumValue": package.sha256}],
            )
        )  # fmt: skip
        links.append((image, "CONTAINS", identifier))
    for (name, version), made in _sources(contents(release)).items():
        identifier = _spdx_id("Source", name, version)
        packages.append(
            _spdx_package(
                identifier,
                name,
                version,
                purl(name, version, "source", made[0].suite or release.suite),
                primaryPackagePurpose="SOURCE",
            )
        )
        links += [(identifiers[p.name, p.arch], "GENERATED_FROM", identifier) for p in made]
    document: dict[str, Any] = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"{release.appliance}-{release.version}",
        "documentNamespace": f"urn:uuid:{serial(release)}",
        "creationInfo": {"created": _time(release), "creators": [f"Tool: {_tools(release)}"]},
        "packages": packages,
        "relationships": [
            {"spdxElementId": one, "relationshipType": kind, "relatedSpdxElement": other} for one, kind, other in links
        ],
    }
    if references:
        document["hasExtractedLicensingInfos"] = [
            {
                "licenseId": reference,
                "name": reference.removeprefix(REF),
                "extractedText": "The text stands under this name in the copyright file of "
                + ", ".join(sorted(set(named))),
            }
            for reference, named in sorted(references.items())
        ]
    return _dump(document)


def cyclonedx(release: Release) -> bytes:
    """The bill as CycloneDX 1.6 (cyclonedx.org/docs/1.6/json)."""
    image = f"image:{release.appliance}@{release.version}"
    components = []
    for package in sorted(contents(release), key=lambda p: (p.name, p.arch)):
        source, source_version = source_of(package)
        reference = purl(package.name, package.version, package.arch, package.suite or release.suite)
        component: dict[str, Any] = {
            "type": "library" if package.name.startswith("lib") else "application",
            "bom-ref": reference,
            "supplier": {"name": "Debian"},
            "name": package.name,
            "version": package.version,
            "hashes": [{"alg": "SHA-256", "content": package.sha256}],
        }
        declared = combined(package.licences)
        if declared:
            component["licenses"] = [{"expression": declared, "acknowledgement": "declared"}]
        component["purl"] = reference
        component["properties"] = [
            {"name": "debian:source", "value": source},
            {"name": "debian:source-version", "value": source_version},
        ]
        components.append(component)
    return _dump(
        {
            "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "serialNumber": f"urn:uuid:{serial(release)}",
            "version": 1,
            "metadata": {
                "timestamp": _time(release),
                "tools": {
                    "components": [
                        {
                            "type": "application",
                            "name": "centralita",
                            "version": release.builder.get("centralita", "0"),
                        }
                    ]
                },
                "component": {
                    "type": "operating-system",
                    "bom-ref": image,
                    "name": release.appliance,
                    "version": release.version,
                    "description": release.description,
                    "hashes": [{"alg": "SHA-256", "content": release.golden_digest}],
                },
            },
            "components": components,
            "dependencies": [{"ref": image, "dependsOn": [component["bom-ref"] for component in components]}],
        }
    )
