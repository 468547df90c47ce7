"""Kernel modules of a tree: which file a name is, and what it needs (modules.dep, modules.softdep; depmod(8))."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from centralita.ground.errors import CentralitaError


def canonical(name: str) -> str:
    """A module's name as the kernel writes it: hyphens are underscores."""
    return name.replace("-", "_")


def _module_name(path: str) -> str:
    return canonical(path.rsplit("/", 1)[-1].split(".ko", 1)[0])


def kernel_version(root: Path) -> str:
    """The version of the tree's only kernel, the name of its folder in /usr/lib/modules."""
    versions = sorted(p.name for p in (root / "usr/lib/modules").iterdir() if (p / "modules.dep").is_file())
    if len(versions) != 1:
        raise CentralitaError(
            f"the tree holds {len(versions)} kernels ({', '.join(versions) or 'none'}); it must hold one",
            hint="name exactly one kernel in the appliance's kernel.package, and no other under packages",
        )
    return versions[0]


@dataclass
class ModuleIndex:
    """Modules of one kernel. Paths are relative to ``folder`` (/usr/lib/modules/VERSION of a tree)."""

    folder: Path
    _paths: dict[str, str] = field(init=False, default_factory=dict)
    _needs: dict[str, list[str]] = field(init=False, default_factory=dict)
    _builtin: set[str] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        for line in (self.folder / "modules.dep").read_text().splitlines():
            path, needs = line.split(":", 1)
            name = _module_name(path)
            self._paths[name] = path
            self._needs[name] = [_module_name(n) for n in needs.split()]
        self._builtin = {_module_name(p) for p in (self.folder / "modules.builtin").read_text().split()}
        softdep = self.folder / "modules.softdep"
        for line in softdep.read_text().splitlines() if softdep.is_file() else []:
            words = line.split()
            if len(words) > 2 and words[0] == "softdep":
                extra = [canonical(w) for w in words[2:] if not w.endswith(":")]
                # A soft dependency may name an alias (crypto-crc32c): only real modules count.
                self._needs.setdefault(canonical(words[1]), []).extend(e for e in extra if e in self._paths)

    def closure(self, names: Iterable[str]) -> list[str]:
        """Paths of the named modules and of all that they need, sorted; built-in ones need no file.

        Raises CentralitaError that lists every name that this kernel does not have.
        """
        wanted = [canonical(n) for n in names]
        unknown = [n for n in wanted if n not in self._paths and n not in self._builtin]
        if unknown:
            raise CentralitaError(
                f"kernel {self.folder.name} has no module {', '.join(sorted(unknown))}",
                hint="correct kernel.modules or kernel.initramfs_modules of the appliance",
            )
        seen: set[str] = set()
        while wanted:
            name = wanted.pop()
            if name not in seen and name in self._paths:
                seen.add(name)
                wanted += self._needs.get(name, [])
        return sorted(self._paths[n] for n in seen)
