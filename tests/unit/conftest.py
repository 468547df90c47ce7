"""What unit tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from centralita.depot.keys import Keys, make_keys


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders of our own for output, cache and state."""
    for variable, name in (("XDG_STATE_HOME", "state"), ("XDG_CACHE_HOME", "cache"), ("CENTRALITA_OUTPUT", "output")):
        monkeypatch.setenv(variable, str(tmp_path / name))
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    return tmp_path


@pytest.fixture
def keys(home: Path) -> Keys:
    """Throw-away keys."""
    return make_keys()
