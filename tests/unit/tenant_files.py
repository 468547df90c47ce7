"""A tenant's file written from its fields, as YAML of one line each; and a story as its lines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from centralita.spec.story import Step


def written(path: Path, fields: Mapping[str, str]) -> Path:
    """Write a file with the fields that are not empty, and return its path."""
    path.write_text("".join(f"{key}: {value}\n" for key, value in fields.items() if value), encoding="utf-8")
    return path


def texts(step: Step) -> list[str]:
    """Return what is told, a step an item."""
    return [step.text, *(text for then in step.then for text in texts(then))]
