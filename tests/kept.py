"""Where a run of the tests keeps what it found about an appliance's image."""

from __future__ import annotations

from pathlib import Path

import pytest

from centralita.ground import paths


def appliance_of(config: pytest.Config) -> str:
    """The tested appliance's name, also where it was named by its file."""
    return Path(config.getoption("--appliance")).stem


def keep(config: pytest.Config, name: str, text: str) -> Path:
    """Write a file into the appliance's folder in output/, whole or not at all, and return its path."""
    path = paths.output_dir() / appliance_of(config) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{name}.part")
    part.write_text(text)
    part.rename(path)
    return path
