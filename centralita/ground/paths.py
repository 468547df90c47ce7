"""Where things are: the checkout, and the user's cache and state folders (XDG Base Directory Specification)."""

from __future__ import annotations

import os
from pathlib import Path

from centralita.ground.errors import CentralitaError


def repo_root() -> Path:
    """The checkout: the folder that holds `tasks.py`, found upwards from this file.

    `CENTRALITA_ROOT` names it for an installed package. Raises CentralitaError where there is none.
    """
    named = os.environ.get("CENTRALITA_ROOT")
    if named:
        return Path(named).resolve()
    for folder in Path(__file__).resolve().parents:
        # pyproject.toml stands beside tasks.py; either marks the checkout.
        if (folder / "tasks.py").is_file() or (folder / "pyproject.toml").is_file():
            return folder
    raise CentralitaError(
        "no checkout of Centralita above " + str(Path(__file__).resolve().parent),
        hint="run from a checkout, or set CENTRALITA_ROOT to one",
    )


def _xdg(variable: str, default: str) -> Path:
    """A base folder; the specification says that a relative value is to be ignored."""
    value = os.environ.get(variable, "")
    return Path(value) if value.startswith("/") else Path.home() / default


def _made(path: Path, mode: int) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True, mode=mode)
    except OSError as error:
        raise CentralitaError(f"cannot make the folder {path}: {error.strerror}") from error
    return path


def cache_dir() -> Path:
    """`$XDG_CACHE_HOME/centralita`: can be thrown away at any time; only costs the next build time."""
    return _made(_xdg("XDG_CACHE_HOME", ".cache") / "centralita", 0o755)


def state_dir() -> Path:
    """`$XDG_STATE_HOME/centralita` (0700): ledger, logs, identities. Holds secrets; not to be thrown away."""
    path = _made(_xdg("XDG_STATE_HOME", ".local/state") / "centralita", 0o700)
    if path.stat().st_mode & 0o077:
        path.chmod(0o700)
    return path


def logs_dir() -> Path:
    """`state_dir()/logs` (0700)."""
    return _made(state_dir() / "logs", 0o700)


def output_dir() -> Path:
    """`output/` in the checkout: what was built. `CENTRALITA_OUTPUT` names another."""
    named = os.environ.get("CENTRALITA_OUTPUT")
    return _made(Path(named).resolve() if named else repo_root() / "output", 0o755)
