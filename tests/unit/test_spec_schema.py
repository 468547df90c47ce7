"""The JSON Schemas are those of the models, and take what the models take."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from ruamel.yaml import YAML

from centralita.ground.paths import repo_root
from centralita.spec.schema import rendered, schemas

pytestmark = pytest.mark.unit

jsonschema: Any = importlib.import_module("jsonschema")  # it has no types


def errors(name: str, value: object) -> list[str]:
    validator = jsonschema.Draft202012Validator(schemas()[name])
    return [error.message for error in validator.iter_errors(value)]


def read(relative: str) -> Any:  # noqa: ANN401 - YAML
    return YAML(typ="safe").load((repo_root() / relative).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", sorted(rendered()))
def test_the_files_in_docs_are_current(name: str) -> None:
    text = (repo_root() / "docs" / "schema" / name).read_text(encoding="utf-8")
    assert text == rendered()[name], "run `python -m centralita.spec.schema`"


@pytest.mark.parametrize(
    ("schema", "folder"),
    [
        ("appliance.schema.json", "appliances"),
        ("tenant.schema.json", "tests/data"),
        ("tenant.schema.json", "examples"),
    ],
)
def test_the_shipped_files_are_valid_and_point_at_their_schema(schema: str, folder: str) -> None:
    files = sorted((repo_root() / folder).glob("*.yaml"))
    assert files
    for path in files:
        assert errors(schema, read(f"{folder}/{path.name}")) == []
        first = path.read_text(encoding="utf-8").splitlines()[0]
        assert first.startswith("# yaml-language-server: $schema=")
        assert (path.parent / first.split("=", 1)[1]).resolve() == repo_root() / "docs" / "schema" / schema


def test_the_schemas_refuse_what_the_models_refuse() -> None:
    assert errors("appliance.schema.json", {"descripton": "x"})
    assert errors("appliance.schema.json", {"packages": {"add": ["x"], "del": ["y"]}})
    assert not errors("appliance.schema.json", {"packages": {"add": ["xx"]}})
    tenant = read("tests/data/duo.yaml")
    tenant["extensions"][0]["number"] = "*97"
    assert errors("tenant.schema.json", tenant)
