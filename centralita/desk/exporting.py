"""`invoke clone --format`: clones as files for other hypervisors and container managers."""

from __future__ import annotations

from pathlib import Path

from centralita.clone.export import export_clone
from centralita.clone.identity import IdentityStore
from centralita.clone.registry import Registry
from centralita.desk.cloning import claims_of, tenants_of
from centralita.formats.catalogue import FORMATS, expand, file_name
from centralita.ground.report import get_reporter
from centralita.image.build import Golden, latest


def export(
    appliance: str,
    *,
    tenant: str,
    tenants: str,
    to: str,
    form: str,
    golden: Golden | None = None,
    dry_run: bool = False,
) -> list[Path]:
    """Write the clones of tenants' files into ``to``/NAME in the formats ``form`` (with commas); return the files.

    ``dry_run`` says which files that would be, and writes nothing.
    """
    names = expand([name for name in form.split(",") if name])
    wanted = tenants_of(tenant, tenants)
    golden = golden or latest(appliance)
    if dry_run:
        files = {item.name: ", ".join(file_name(item.name, name) for name in names) for item in wanted}
        rows = {name: f"{Path(to).absolute() / name}: {text}" for name, text in files.items()}
        get_reporter().summary(f"{len(wanted)} clones of {appliance} {golden.record.full_version} would be made", rows)
        return []
    store = IdentityStore()
    folders = [Path(to).absolute() / item.name for item in wanted]
    claims = claims_of(wanted, folders, [store.get_or_create(item).mac for item in wanted])
    reporter = get_reporter()
    made: list[Path] = []
    with Registry().claimed(claims), reporter.step("clones", total=len(wanted)) as step:
        for item, folder in zip(wanted, folders, strict=True):
            step.note(item.name)
            made += export_clone(golden, item, names, folder, store)
            step.advance(1)
    rows = {path.name: f"{path}, {path.stat().st_size / 1e6:.1f} MB" for path in made}
    rows |= {f"start {name}": FORMATS[name].start for name in names}
    reporter.summary(f"{len(wanted)} clones of {appliance} {golden.record.full_version}", rows)
    return made
