"""The tasks `tenant.…`: check a tenant's file, show it, explain it, provision its phones."""

from __future__ import annotations

from invoke.collection import Collection
from invoke.context import Context

from centralita.desk.frame import TENANT, task


@task(first="tenant", shown_as="tenant.check", help={"tenant": TENANT})
def check(c: Context, tenant: str, progress: str = "auto") -> None:
    """Check a tenant's file and tell everything that is wrong with it."""
    from pathlib import Path

    from centralita.spec.tenant import load_tenant

    loaded = load_tenant(Path(tenant))
    print(f"{tenant}: {loaded.name}, {len(loaded.extensions)} extensions, no problem")


@task(
    first="tenant", shown_as="tenant.show", help={"tenant": TENANT, "svg": "write an SVG with this name, print nothing"}
)
def show_tenant(c: Context, tenant: str, svg: str = "", progress: str = "auto") -> None:
    """Draw a tenant's dial plan: who calls in, who is inside, what goes out."""
    from centralita.desk.tenants import show_plan

    show_plan(tenant, svg)


@task(
    first="tenant",
    shown_as="tenant.explain",
    help={
        "tenant": TENANT,
        "from": "the extension that calls, or the trunk that brings the call",
        "dial": "the number that is called",
        "at": 'the moment of the call, e.g. "2026-12-25 10:30"; without it schedules show all their ways',
    },
)
def explain(c: Context, tenant: str, from_: str, dial: str, at: str = "", progress: str = "auto") -> None:
    """Tell step by step what would happen to a call."""
    from centralita.desk.tenants import explain as tell

    tell(tenant, from_, dial, at)


@task(
    first="tenant",
    shown_as="tenant.provision",
    help={"tenant": TENANT, "to": "the folder for the files; by default clones/NAME/provisioning"},
)
def provision(c: Context, tenant: str, to: str = "", progress: str = "auto") -> None:
    """Write the settings of a tenant's desk phones (Yealink, Snom, Grandstream), a file each."""
    from centralita.desk.tenants import provision as write

    write(tenant, to)


tenants = Collection("tenant", check)
tenants.add_task(show_tenant, "show")
tenants.add_task(explain, "explain")
tenants.add_task(provision, "provision")
