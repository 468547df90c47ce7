"""Linters are tests: the whole tree is clean under each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.lint

ROOT = Path(__file__).parents[2]


def files() -> list[Path]:
    """The project's files: what git tracks or would track."""
    listed = subprocess.run(
        ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def run_clean(argv: list[str]) -> None:
    """Run a linter; what it prints is the failure."""
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def shell_scripts() -> list[str]:
    """Every tracked file that begins with a shell's #! line."""
    found = []
    for path in files():
        with path.open("rb") as stream:
            first = stream.readline(64)
        if first.startswith(b"#!") and first.rstrip().endswith((b"/sh", b"bash")):
            found.append(str(path))
    return found


def test_ruff() -> None:
    """ruff finds nothing."""
    run_clean([sys.executable, "-m", "ruff", "check", "--no-cache", "."])


def test_mypy() -> None:
    """mypy --strict finds nothing."""
    run_clean([sys.executable, "-m", "mypy"])


def test_shellcheck() -> None:
    """shellcheck finds nothing in any script, the guest's included."""
    scripts = shell_scripts()
    assert len(scripts) > 10
    run_clean(["shellcheck", *scripts])


def test_yamllint() -> None:
    """yamllint --strict finds nothing."""
    run_clean([sys.executable, "-m", "yamllint", "--strict", "."])


def test_modules_import_downwards_only() -> None:
    """ground < spec < packages < image < clone < lab < desk: no floor imports one above it."""
    floors = ["ground", "spec", "packages", "image", "formats", "clone", "hosts", "lab", "depot", "desk"]
    wrong = []
    for path in files():
        parts = path.relative_to(ROOT).parts
        if parts[0] != "centralita" or path.suffix != ".py" or len(parts) < 3:
            continue
        level = floors.index(parts[1])
        for line in path.read_text().splitlines():
            words = line.split()
            if len(words) > 1 and words[0] in ("from", "import") and words[1].startswith("centralita."):
                other = words[1].split(".")[1]
                if other in floors and floors.index(other) > level:
                    wrong.append(f"{'/'.join(parts)}: {line.strip()}")
    assert not wrong


def test_every_element_has_a_readme() -> None:
    """An element says what its one duty is."""
    for folder in sorted((ROOT / "elements").iterdir()):
        assert (folder / "README.md").is_file(), f"{folder.name} has no README.md"
