"""A private apt: resolves a request for packages against one mirror without touching the build host's apt."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from centralita.ground.errors import CentralitaError
from centralita.ground.run import run
from centralita.packages.lockfile import LockedPackage

STUB_VERSION = "1.0"

CONFIGURATION = """\
Dir "{root}";
Dir::State::status "{root}/var/lib/dpkg/status";
Dir::Etc::sourcelist "{root}/etc/apt/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::main "/dev/null";
Dir::Etc::parts "/dev/null";
Dir::Etc::trusted "{keyring}";
Dir::Etc::trustedparts "/dev/null";
Dir::Bin::solvers "/usr/lib/apt/solvers";
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::Check-Valid-Until "{check_valid_until}";
"""


def stub_stanza(provides: Iterable[str]) -> str:
    """A dpkg status stanza for what the build makes itself (an initramfs, Asterisk's configuration).

    The same stanza stands in the image's own dpkg database, so that its dependencies are seen to be met.
    """
    return (
        "Package: centralita-base\n"
        "Status: install ok installed\n"
        "Priority: required\n"
        "Section: admin\n"
        "Maintainer: Centralita <root@localhost>\n"
        "Architecture: all\n"
        "Multi-Arch: foreign\n"
        f"Version: {STUB_VERSION}\n"
        f"Provides: {', '.join(provides)}\n"
        "Description: what the appliance's build provides in place of packages\n"
        "\n"
    )


def parse_stanzas(text: str) -> Iterator[dict[str, str]]:
    """Fields of each stanza of a Packages file or of ``apt-cache show``; continuation lines are dropped."""
    for block in re.split(r"\n{2,}", text.strip()):
        stanza: dict[str, str] = {}
        for line in block.splitlines():
            if line[:1].isspace() or ":" not in line:
                continue
            name, value = line.split(":", 1)
            stanza[name] = value.strip()
        if stanza:
            yield stanza


def _relations(text: str) -> Iterator[list[str]]:
    """Names in each alternative group of a dependency field (Debian Policy 7.1), versions dropped."""
    for group in text.split(","):
        names = [re.split(r"[\s:(]", alternative.strip(), maxsplit=1)[0] for alternative in group.split("|")]
        if names != [""]:
            yield names


def essential_closure(stanzas: Sequence[dict[str, str]]) -> set[str]:
    """Names of the essential packages and of all that they depend on, within the given set."""
    providers: dict[str, str] = {}
    for s in stanzas:
        for name, *_rest in _relations(s.get("Provides", "")):
            providers.setdefault(name, s["Package"])
    by_name = {s["Package"]: s for s in stanzas}
    wanted = [s["Package"] for s in stanzas if s.get("Essential") == "yes"]
    closure: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name in closure:
            continue
        closure.add(name)
        for key in ("Depends", "Pre-Depends"):
            for group in _relations(by_name[name].get(key, "")):
                found = next((a for a in group if a in by_name), None) or next(
                    (providers[a] for a in group if a in providers), None
                )
                if found:
                    wanted.append(found)
    return closure


@dataclass
class PrivateApt:
    """apt with every folder, source and key of its own below ``root`` (a path without spaces).

    ``provides`` names virtual packages that count as installed.
    """

    root: Path
    mirror: str
    suite: str
    components: Sequence[str]
    keyring: Path
    accept_expired: bool = False
    provides: Sequence[str] = ()
    _config: Path = field(init=False)

    def __post_init__(self) -> None:
        for folder in ("var/lib/dpkg", "var/lib/apt/lists/partial", "var/cache/apt/archives/partial", "etc/apt"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        status = stub_stanza(self.provides) if self.provides else ""
        (self.root / "var/lib/dpkg/status").write_text(status)
        (self.root / "etc/apt/sources.list").write_text(
            f"deb [signed-by={self.keyring}] {self.mirror} {self.suite} {' '.join(self.components)}\n"
        )
        self._config = self.root / "etc/apt/apt.conf"
        self._config.write_text(
            CONFIGURATION.format(
                root=self.root, keyring=self.keyring, check_valid_until="false" if self.accept_expired else "true"
            )
        )

    def _apt(self, *argv: str) -> str:
        return run(list(argv), env={"APT_CONFIG": str(self._config)}).stdout

    def update(self) -> None:
        """Fetch the mirror's index; apt checks its signature and digests."""
        self._apt("apt-get", "update", "--error-on=any")

    def resolve(self, request: Sequence[str], *, bootable: bool = True) -> list[LockedPackage]:
        """The packages that *request* (and, for a ``bootable`` tree, the essential ones) need, in apt's own order.

        Raises CentralitaError where a name is unknown or the dependencies cannot be met.
        """
        self._reject_unknown(request)
        # apt counts itself as essential; an appliance that is replaced and never upgraded has no use for it.
        base = ["?and(?essential, ?not(?exact-name(apt)))"] if bootable else []
        text = self._apt("apt-get", "install", "--print-uris", "-y", "-qq", *base, *request)
        order: list[tuple[str, str, str]] = []
        for line in text.splitlines():
            match = re.match(r"^'([^']+)' (\S+)_(\S+)_(\S+)\.deb \d+", line)
            if match:
                order.append((match.group(2), match.group(3).replace("%3a", ":"), match.group(4)))
        shown = self._apt("apt-cache", "show", *(f"{n}:{a if a != 'all' else 'amd64'}={v}" for n, v, a in order))
        stanzas = {s["Package"]: s for s in parse_stanzas(shown)}
        essential = essential_closure(list(stanzas.values()))
        return [
            LockedPackage(
                name=name,
                version=version,
                arch=arch,
                size_bytes=int(stanzas[name]["Size"]),
                sha256=stanzas[name]["SHA256"],
                path=stanzas[name]["Filename"],
                essential=name in essential,
            )
            for name, version, arch in order
        ]

    def _reject_unknown(self, request: Sequence[str]) -> None:
        done = run(["apt-cache", "policy", *request], env={"APT_CONFIG": str(self._config)}, check=False)
        candidates = set(re.findall(r"^(\S+):\n(?:.*\n)?\s+Candidate: (?!\(none\))", done.stdout, re.MULTILINE))
        missing = [name for name in request if name not in candidates]
        if missing:
            raise CentralitaError(
                f"{self.mirror} {self.suite} has no package {', '.join(missing)}",
                hint="correct the names under `packages:` (or the sounds' languages), or name another suite or mirror",
            )
