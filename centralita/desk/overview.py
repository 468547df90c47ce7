"""What there is and what would be done: `invoke list`, `invoke show`, `invoke doctor`."""

from __future__ import annotations

import json
import sys
from io import StringIO
from typing import Any

from rich.console import Console
from rich.table import Table
from ruamel.yaml import YAML

from centralita.ground import cache, doctor, paths
from centralita.ground.errors import CentralitaError, SpecError
from centralita.ground.report import get_reporter
from centralita.image.build import latest, loaded, lock_path, request_of
from centralita.image.disk import disk_key
from centralita.image.ostree import tree_key
from centralita.packages.fetch import deb_path
from centralita.packages.lockfile import load_lock
from centralita.packages.source import PackageSet, current_lock
from centralita.packages.tools import TOOL_SETS, tools_tree
from centralita.spec.appliance import list_appliances, load_appliance


def _print(table: Table) -> None:
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def show_list() -> None:
    """One line an appliance: what it is, and the last image that was built of it."""
    table = Table(box=None, pad_edge=False)
    for heading in ("appliance", "version", "MiB", "CPUs", "last built", "what"):
        table.add_column(heading)
    for name, path in list_appliances().items():
        try:
            appliance = load_appliance(path)
        except SpecError as error:
            table.add_row(
                name, "", "", "", "broken", f"{len(error.problems)} problems; `invoke show {name}` lists them"
            )
            continue
        built = "abstract" if appliance.abstract else "never"
        if not appliance.abstract:
            try:
                built = latest(appliance.name).record.full_version
            except CentralitaError:
                built = "never"
        size = (str(appliance.memory_mib), str(appliance.vcpus))
        table.add_row(appliance.name, appliance.version, *size, built, appliance.description)
    _print(table)


def _stage(name: str, key: str | None, stage: str, why_not: str) -> tuple[str, str, str]:
    if key is None:
        return name, "unknown", why_not
    if cache.Store().get(stage, key) is not None:
        return name, "cached", f"same inputs as {key[:12]}"
    others = cache.Store().keys(stage)
    return name, "to be made", f"no result with inputs {key[:12]}; {len(others)} of other inputs are there"


def stages_of(name: str) -> list[tuple[str, str, str]]:
    """For each stage: its name, whether it is cached, and why."""
    appliance = loaded(name)
    request = request_of(appliance, None)
    path = lock_path(appliance)
    lock = current_lock(path, request)
    if lock is None:
        why = "it was made for other packages" if path.is_file() else "there is no lock yet"
        rows = [("packages", "to be resolved", f"{path.name}: {why}")]
        return [*rows, *((s, "unknown", "depends on the packages") for s in ("OS tree", "golden disk"))]
    absent = [p for p in lock.packages if not deb_path(p).is_file()]
    size_mb = sum(p.size_bytes for p in absent) / 1e6
    state = ("to be fetched", f"{len(absent)} of {len(lock.packages)}, {size_mb:.0f} MB") if absent else ("cached", "")
    rows = [("packages", *state)]
    tree = tree_key(appliance, PackageSet(lock, (), None, 0))
    rows.append(_stage("OS tree", tree, "ostree", ""))
    tools = TOOL_SETS["disk"]
    tools_lock = current_lock(tools.lock_path, tools.request)
    key = None
    if tools_lock is not None and cache.Store().get("tools", cache.digest_of("tools", tools_lock.packages)):
        key = disk_key(appliance, tree, tools_tree("disk"))
    rows.append(_stage("golden disk", key, "disk", "the tools tree is not unpacked yet"))
    return rows


def show(name: str, as_json: bool = False) -> None:
    """The resolved declaration, and for each stage whether it is cached and why."""
    appliance = loaded(name)
    resolved: dict[str, Any] = appliance.resolved()
    stages = stages_of(name)
    if as_json:
        rows = [{"stage": s, "state": state, "why": why} for s, state, why in stages]
        print(json.dumps({"appliance": resolved, "stages": rows}, indent=1))
        return
    text = StringIO()
    yaml = YAML()
    yaml.width = 120
    yaml.dump(resolved, text)
    print(text.getvalue())
    table = Table(box=None, pad_edge=False)
    for heading in ("stage", "state", "why"):
        table.add_column(heading)
    for row in stages:
        table.add_row(*row)
    _print(table)
    lock = lock_path(appliance)
    if lock.is_file():
        print(f"\nlock: {lock} ({len(load_lock(lock).packages)} packages)")
    try:
        golden = latest(name)
    except CentralitaError:
        print(f"image: none yet in {paths.output_dir() / appliance.name}")
        return
    record = golden.record
    print(f"image: {golden.folder}\ngolden digest: sha256:{record.golden_digest}")
    kernel = record.facts.get("kernel", {})
    if kernel:
        print("\nkernel modules in bytes (* also in the initramfs):")
        for module, size in sorted(kernel["modules"].items(), key=lambda item: -item[1]):
            print(f"  {size:>9}  {module}{' *' if module in kernel['initramfs_modules'] else ''}")


def show_doctor(refresh: bool) -> bool:
    """Examine the host; returns whether all that is required is there."""
    checks = doctor.examine(refresh=refresh)
    table = Table(box=None, pad_edge=False)
    for heading in ("", "check", "found", "fix"):
        table.add_column(heading)
    for check in checks:
        table.add_row("ok" if check.ok else "NO", check.name, check.detail, "" if check.ok else check.fix)
    _print(table)
    wrong = [c for c in checks if not c.ok and c.required]
    if wrong:
        get_reporter().error(f"{len(wrong)} things are missing on this host")
    return not wrong
