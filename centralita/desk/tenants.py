"""`invoke tenant.check`, `tenant.show` and `tenant.explain`: a tenant's file as a person reads it."""

from __future__ import annotations

import sys
from datetime import datetime
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.tree import Tree

from centralita.clone.identity import IdentityStore
from centralita.clone.provisioning import FOLDER, phone_files, write_phone_files
from centralita.ground.errors import CentralitaError
from centralita.spec import routing
from centralita.spec.numbering import KINDS
from centralita.spec.problems import choose_from
from centralita.spec.story import Step, Teller
from centralita.spec.tenant import Tenant, load_tenant


def _tree(step: Step) -> Tree:
    tree = Tree(escape(step.text), guide_style="dim")
    _grow(tree, step)
    return tree


def _grow(tree: Tree, step: Step) -> None:
    for then in step.then:
        _grow(tree.add(escape(then.text)), then)


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 160, highlight=False)


def plan(tenant: Tenant) -> Step:
    """Return the whole dial plan as steps: who calls in, who is inside, what goes out."""
    teller = Teller(tenant)
    incoming = []
    for did in routing.dids(tenant):
        by = f" by trunk {did.trunk}" if did.trunk else ""
        incoming.append(Step(f"{did.number}{by}", (teller.follow(did.target),)))
    kinds = tuple(KINDS)
    inside = [
        Step(f"{kind} ({len(getattr(tenant, kind))})", tuple(
            teller.follow(f"{KINDS[kind]}:{item.number}") for item in getattr(tenant, kind)))
        for kind in kinds if getattr(tenant, kind)
    ]  # fmt: skip
    if tenant.parking:
        inside.append(Step(f"parking {tenant.parking.number}, places {tenant.parking.slots}"))
    outside = [
        Step(f"{rule.service}: {', '.join(rule.patterns)}", (Step(_sending(rule.strip, rule.prepend, rule.trunks)),))
        for rule in routing.rules(tenant)
    ]
    if tenant.refused:
        outside.append(Step(f"never: {', '.join(tenant.refused)}"))
    parts = [("calls that come in", incoming), ("inside", inside), ("calls that go out", outside)]
    return Step(f"{tenant.company or tenant.name}", tuple(Step(title, tuple(steps)) for title, steps in parts if steps))


def _sending(strip: int, prepend: str, trunks: tuple[str, ...]) -> str:
    words = [f"without its first {strip}" if strip else "", f"with {prepend} before it" if prepend else ""]
    return " ".join(word for word in (*words, f"over {', then '.join(trunks)}") if word)


def show_plan(path: str, svg: str = "") -> None:
    """Print a tenant's dial plan as a tree, or write it as SVG. Raises SpecError for what is wrong with the file."""
    tree = _tree(plan(load_tenant(Path(path))))
    if not svg:
        _console().print(tree)
        return
    console = Console(record=True, width=140, file=StringIO(), highlight=False)
    console.print(tree)
    try:
        Path(svg).write_text(console.export_svg(title=path), encoding="utf-8")
    except OSError as error:
        raise CentralitaError(
            f"{svg} cannot be written: {error.strerror}", hint="name a file in a folder that is there"
        ) from None
    print(svg)


def provision(path: str, to: str = "") -> None:
    """Write the files of a tenant's desk phones into a folder. Raises SpecError for what is wrong with the file."""
    tenant = load_tenant(Path(path))
    files = phone_files(tenant, IdentityStore().get_or_create(tenant))
    if not files:
        raise CentralitaError(
            f"{path} names no phone to be set up by a file",
            hint='give an extension `phone: {maker: yealink, mac: "80:5e:c0:11:22:33"}`',
        )
    folder = Path(to) if to else Path("clones") / tenant.name / FOLDER
    write_phone_files(files, folder)
    print("\n".join(str(folder / name) for name in files))


def explain(path: str, caller: str, number: str, at: str = "") -> None:
    """Print what would happen to a call of an extension or by a trunk, step by step."""
    if not caller or not number:
        missing = "--dial" if caller else "--from"
        raise CentralitaError(f"{missing} is missing", hint=f"invoke tenant.explain {path} --from 101 --dial 102")
    tenant = load_tenant(Path(path))
    try:
        moment = datetime.fromisoformat(at) if at else None
    except ValueError:
        raise CentralitaError(f"{at!r} is not a moment", hint='e.g. --at "2026-12-25 10:30"') from None
    teller = Teller(tenant, moment)
    if caller in {extension.number for extension in tenant.extensions}:
        step = teller.from_extension(caller, number)
    elif caller in {trunk.name for trunk in tenant.trunks}:
        step = teller.from_trunk(caller, number)
    else:
        raise CentralitaError(
            f"{caller} is neither an extension nor a trunk of {path}",
            hint="--from "
            + choose_from(caller, [item.number for item in tenant.extensions] + [item.name for item in tenant.trunks]),
        )
    _console().print(_tree(step))
