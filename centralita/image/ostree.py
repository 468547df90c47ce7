"""The OS tree: diskimage-builder run over our elements, with exactly the locked packages."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import centralita.image
import centralita.spec.asterisk_docs
from centralita.ground import cache, ledger, paths
from centralita.ground.cache import digest_of
from centralita.ground.errors import CentralitaError
from centralita.ground.report import Step
from centralita.ground.run import run
from centralita.image.tree import normalise
from centralita.packages.apt import stub_stanza
from centralita.packages.fetch import deb_path
from centralita.packages.source import PackageSet, Request
from centralita.spec.appliance import Appliance
from centralita.spec.asterisk_modules import render_modules_conf, with_requirements

# What the build itself makes, and Debian's packages would otherwise bring.
PROVIDES = ("linux-initramfs-tool", "asterisk-config-custom")
# Every tree has these; the appliance's elements come beside them.
FRAME_ELEMENTS = ("debian-locked", "tree-only", "static-files")
# Its console script would name the virtual environment by its real path, which may hold spaces.
RUN_DIB = "import sys; sys.argv[0] = 'disk-image-create'; from diskimage_builder.disk_image_create import main; main()"
CODE = ("ostree.py", "tree.py", "trim.py", "kernel.py", "kmods.py", "cpio.py")


@dataclass(frozen=True)
class OsTree:
    """A tree's canonical tar and what is known of it. Sizes are bytes of regular files."""

    tar: Path
    key: str
    tree_bytes: int
    package_count: int
    facts: dict[str, Any]
    cached: bool


def _elements(appliance: Appliance) -> tuple[str, ...]:
    return (*FRAME_ELEMENTS, *(e for e in appliance.elements if e not in FRAME_ELEMENTS))


def _modules(appliance: Appliance) -> tuple[str, ...]:
    return (*appliance.asterisk.modules, *appliance.asterisk.third_party_modules)


def element_packages(appliance: Appliance) -> set[str]:
    """Debian packages that the appliance's elements need: a name a line in elements/NAME/packages."""
    names: set[str] = set()
    for element in _elements(appliance):
        listed = paths.repo_root() / "elements" / element / "packages"
        if listed.is_file():
            names |= {line for line in listed.read_text().split("\n") if line and not line.startswith("#")}
    return names


def package_request(appliance: Appliance) -> Request:
    """What an appliance asks of its mirror."""
    mirror = appliance.mirror
    sounds = appliance.asterisk.sound_packages()
    names = {*appliance.packages, appliance.kernel.package, *sounds, *element_packages(appliance)}
    return Request(
        names=tuple(sorted(names)),
        suite=mirror.suite,
        components=mirror.components,
        mirror=mirror.url,
        accept_expired=mirror.accept_expired,
        snapshots=mirror.snapshots,
        keyring=Path(mirror.keyring) if mirror.keyring else None,
        provides=PROVIDES,
    )


def hook_spec(appliance: Appliance) -> dict[str, Any]:
    """What the elements are told of the appliance, and nothing else of it: the cache key covers just this."""
    return {
        "purge_paths": list(appliance.purge_paths),
        "asterisk_modules": list(with_requirements(_modules(appliance))),
        "kernel": {
            "modules": list(appliance.kernel.modules),
            "initramfs_modules": list(appliance.kernel.initramfs_modules),
        },
    }


def _inputs_of(element: Path) -> dict[str, Path]:
    """What of an element can change a tree: all of it but its README."""
    return {p.name: p for p in sorted(element.iterdir()) if p.name not in ("README.md", "__pycache__")}


def tree_key(appliance: Appliance, packages: PackageSet) -> str:
    """The digest of all that can change the tree: packages, elements, declared lists, our code, diskimage-builder."""
    code = Path(centralita.image.__file__).parent
    elements = paths.repo_root() / "elements"
    return digest_of(
        "ostree",
        [(p.name, p.version, p.arch, p.sha256, p.essential) for p in packages.lock.packages],
        packages.lock.source_date_epoch,
        hook_spec(appliance),
        render_modules_conf(_modules(appliance)),
        {name: _inputs_of(elements / name) for name in _elements(appliance)},
        [code / name for name in CODE],
        Path(centralita.spec.asterisk_docs.__file__),
        importlib.metadata.version("diskimage-builder"),
    )


def _prepare(folder: Path, appliance: Appliance, packages: PackageSet) -> dict[str, str]:
    """Lay out what diskimage-builder reads; returns its environment.

    diskimage-builder does not quote its paths, so all that it sees lies in *folder*, whose name is plain: the checkout
    and the cache may have spaces in theirs.
    """
    debs, elements, facts = folder / "debs", folder / "elements", folder / "facts"
    for made in (debs, elements, facts, folder / "bin", folder / "dib-cache", folder / "locks"):
        made.mkdir()
    order = []
    for package in packages.lock.packages:
        try:
            os.link(deb_path(package), debs / package.file_name)
        except OSError:  # another file system
            shutil.copyfile(deb_path(package), debs / package.file_name)
        order.append(f"{package.file_name} {'E' if package.essential else '-'}")
    (folder / "order").write_text("\n".join(order) + "\n")
    (folder / "stub").write_text(stub_stanza(PROVIDES))
    (folder / "spec.json").write_text(json.dumps(hook_spec(appliance)))
    for name in _elements(appliance):
        shutil.copytree(paths.repo_root() / "elements" / name, elements / name, symlinks=True, dirs_exist_ok=True)
    generated = elements / "generated" / "generated.files/etc/asterisk"
    generated.mkdir(parents=True)
    (generated / "modules.conf").write_text(render_modules_conf(_modules(appliance)))
    # diskimage-builder calls sudo even as root; a fresh Debian has none.
    sudo = folder / "bin/sudo"
    sudo.write_text('#!/bin/sh\nwhile [ "${1#-}" != "$1" ]; do shift; done\nexec "$@"\n')
    sudo.chmod(0o755)
    (folder / "venv").symlink_to(sys.prefix)
    (folder / "code").symlink_to(paths.repo_root())
    return {
        "PATH": f"{folder}/bin:{folder}/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PYTHONPATH": f"{folder}/code",
        "PYTHONDONTWRITEBYTECODE": "1",
        "ELEMENTS_PATH": str(elements),
        "TMP_DIR": str(folder),
        "TMPDIR": str(folder),
        "DIB_IMAGE_CACHE": f"{folder}/dib-cache",
        "DIB_LOCKFILES": f"{folder}/locks",
        "DIB_PYTHON_EXEC": f"{folder}/venv/bin/python",
        "DIB_NO_TIMESTAMP": "1",
        "DIB_IMAGE_SIZE": "2",
        "CENTRALITA_DEBS": str(debs),
        "CENTRALITA_ORDER": f"{folder}/order",
        "CENTRALITA_STUB": f"{folder}/stub",
        "CENTRALITA_SPEC": f"{folder}/spec.json",
        "CENTRALITA_FACTS": str(facts),
        "SOURCE_DATE_EPOCH": str(packages.lock.source_date_epoch),
        "TZ": "UTC0",
    }


def private_mounts() -> list[str]:
    """Arguments that give a program a mount namespace of its own, whose mounts vanish with it.

    In a chroot the root is no mount point and its propagation cannot be set; the ledger undoes the mounts there.
    """
    roots = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return ["unshare", "--mount", "--propagation", "private"] if "/" in roots else []


def _run_dib(folder: Path, elements: Sequence[str], env: dict[str, str], log: Path, step: Step) -> Path:
    packages = sum(1 for _ in (folder / "order").open())
    seen = {"unpacked": 0, "configured": 0}

    def on_line(line: str) -> None:
        if line.startswith("Unpacking "):
            seen["unpacked"] += 1
        elif line.startswith("Setting up "):
            seen["configured"] += 1
        else:
            return
        step.advance(1)
        if sum(seen.values()) % 50 == 0:
            step.note(f"{seen['unpacked']} unpacked, {seen['configured']} of {packages} configured")

    run(
        [
            # What the hooks make must not depend on the umask of whoever builds.
            "sh", "-c", 'umask 022; exec "$@"', "sh", *private_mounts(), env["DIB_PYTHON_EXEC"],
            "-c", RUN_DIB, "-n", "-u", "-t", "tar", "-o", f"{folder}/tree", *elements,
        ],
        env=env, cwd=folder, log=log, on_line=on_line,
    )  # fmt: skip
    made = folder / "tree.tar"
    if not made.is_file():
        raise CentralitaError("diskimage-builder ended well but wrote no tree", log=log)
    return made


def build_ostree(appliance: Appliance, packages: PackageSet, log: Path, step: Step) -> OsTree:
    """The appliance's OS tree from the cache, or made. Counts two advances of *step* a package."""
    store = cache.Store()
    key = tree_key(appliance, packages)
    cached = store.get("ostree", key)
    if cached is None:
        with ledger.default().tempdir("centralita-tree-", parent=Path("/var/tmp"), mode=0o755) as folder:
            env = _prepare(folder, appliance, packages)
            elements = [*_elements(appliance), "generated"]
            made = _run_dib(folder, elements, env, log, step)
            with store.put("ostree", key) as result:
                tree_bytes = normalise(made, result / "tree.tar", packages.lock.source_date_epoch)
                facts = {p.stem: json.loads(p.read_text()) for p in sorted((folder / "facts").glob("*.json"))}
                record = {"tree_bytes": tree_bytes, "packages": len(packages.lock.packages), "facts": facts}
                (result / "record.json").write_text(json.dumps(record, indent=1))
    found = store.get("ostree", key)
    assert found is not None
    record = json.loads((found / "record.json").read_text())
    return OsTree(
        tar=found / "tree.tar",
        key=key,
        tree_bytes=record["tree_bytes"],
        package_count=record["packages"],
        facts=record["facts"],
        cached=cached is not None,
    )
