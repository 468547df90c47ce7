"""How a release was made: an in-toto statement (in-toto.io/Statement/v1) with SLSA's provenance (slsa.dev)."""

from __future__ import annotations

import json

from centralita.depot.record import Release
from centralita.depot.sbom import contents, purl

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:centralita:build:golden-image:1"
BUILDER = "urn:centralita:builder:self-hosted"


def provenance(release: Release) -> bytes:
    """The statement about the release's files and its raw disk. What it claims is as true as the record's signature."""
    subjects = [{"name": file.name, "digest": {"sha256": file.sha256, "sha512": file.sha512}} for file in release.files]
    subjects.append({"name": f"{release.appliance}.raw", "digest": {"sha256": release.golden_digest}})
    dependencies: list[dict[str, object]] = []
    if release.source.revision:
        dependencies.append(
            {
                "name": "source",
                "uri": "urn:centralita:source",
                "digest": {"gitCommit": release.source.revision},
                "annotations": {"changed": release.source.changed},
            }
        )
    dependencies += [
        {
            "name": package.name,
            "uri": purl(package.name, package.version, package.arch, package.suite or release.suite),
            "digest": {"sha256": package.sha256},
        }
        for package in contents(release)
    ]
    statement = {
        "_type": STATEMENT,
        "subject": subjects,
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"appliance": release.appliance, "version": release.version.partition("+")[0]},
                "internalParameters": {
                    "suite": release.suite,
                    "lock": release.lock_digest,
                    "asLocked": not release.unlocked,
                    "sourceDateEpoch": int(release.source_date.timestamp()),
                },
                "resolvedDependencies": dependencies,
            },
            "runDetails": {
                "builder": {"id": BUILDER, "version": dict(sorted(release.builder.items()))},
                "metadata": {"invocationId": release.version.partition("+")[2] or release.golden_digest[:12]},
            },
        },
    }
    return (json.dumps(statement, indent=1, ensure_ascii=False) + "\n").encode()
