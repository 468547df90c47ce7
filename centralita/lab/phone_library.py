"""Where the lab's phones come from: the pinned wheel of PJSUA2, and a Python that it was built for."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

from centralita.ground import cache
from centralita.ground.run import run
from centralita.packages.tools import tools_tree

REQUIREMENTS = Path(__file__).with_name("phones-requirements.txt")
# What the pinned wheel is for (PEP 425).
WHEEL_PYTHON, WHEEL_PLATFORM = (3, 11), "manylinux2014_x86_64"


def library() -> Path:
    """Return the folder that holds pjsua2, installed from the pinned wheel into the cache if it is not there yet.

    Raises:
        CentralitaError: pip cannot get the wheel, or it is not the pinned one.
    """
    store = cache.Store()
    key = cache.digest_of(REQUIREMENTS, WHEEL_PYTHON, WHEEL_PLATFORM)
    with cache.lock("phones"):
        found = store.get("phones", key)
        if found is not None:
            return found
        with store.put("phones", key) as folder:
            run(
                [
                    *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
                    *("--target", folder, "--no-compile", "--no-deps", "--require-hashes", "--only-binary", ":all:"),
                    *("--implementation", "cp", "--python-version", "".join(map(str, WHEEL_PYTHON))),
                    *("--platform", WHEEL_PLATFORM, "--root-user-action", "ignore", "--requirement", REQUIREMENTS),
                ]
            )
        found = store.get("phones", key)
    assert found is not None
    return found


@dataclass(frozen=True)
class Interpreter:
    """How the agent's Python is started: the beginning of an argument list, and what must be in its environment."""

    argv: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)


def interpreter() -> Interpreter:
    """Return the Python of the tools tree, which the pinned wheel is for, whatever the host's is.

    Raises:
        CentralitaError: the tree cannot be made (see centralita.packages.tools).
    """
    tree = tools_tree("phones")
    # Started through the tree's own loader, Python does not find its library by its own place.
    home = str(tree.root / "usr")
    return Interpreter(tuple(tree.command("python" + ".".join(map(str, WHEEL_PYTHON)))), {"PYTHONHOME": home})
