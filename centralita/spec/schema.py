"""The JSON Schemas for editors: ``python -m centralita.spec.schema`` writes them to docs/schema/ from the models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from centralita.ground.paths import repo_root
from centralita.spec.appliance import ApplianceFile
from centralita.spec.tenant import Tenant

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schemas() -> dict[str, dict[str, Any]]:
    """Return the schemas by file name."""
    appliance = _schema(ApplianceFile, "A Centralita appliance")
    _inheritable(appliance)
    return {
        "appliance.schema.json": appliance,
        "tenant.schema.json": _schema(Tenant, "A Centralita tenant"),
    }


def rendered() -> dict[str, str]:
    """Return the schema files' texts by name."""
    return {
        name: json.dumps(schema, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
        for name, schema in schemas().items()
    }


def _schema(model: type[BaseModel], title: str) -> dict[str, Any]:
    schema = model.model_json_schema(by_alias=True, mode="validation")
    return {"$schema": _DIALECT, **schema, "title": title}


def _inheritable(schema: dict[str, Any]) -> None:
    """Let a child leave out what its parent says, and edit an inherited list by ``{add: […], remove: […]}``."""
    for part in (schema, *schema.get("$defs", {}).values()):
        part.pop("required", None)
        for name, field in part.get("properties", {}).items():
            if field.get("type") == "array":
                part["properties"][name] = _editable(field)


def _editable(field: dict[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    plain: dict[str, Any] = {}
    for key, value in field.items():
        (shown if key in ("description", "title", "default", "examples") else plain)[key] = value
    some = {"type": "array", "items": field.get("items", {})}
    edit = {
        "type": "object",
        "properties": {"add": some, "remove": some},
        "additionalProperties": False,
        "minProperties": 1,
    }
    return {**shown, "anyOf": [plain, edit]}


def write(folder: Path | None = None) -> list[Path]:
    """Write the schema files and return their paths."""
    folder = folder or repo_root() / "docs" / "schema"
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in rendered().items():
        path = folder / name
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written


if __name__ == "__main__":
    for written_path in write():
        print(written_path)
