"""Centralita: golden Asterisk PBX appliances for Xen and KVM. `invoke --list` shows the tasks."""

from __future__ import annotations

import sys

from invoke.collection import Collection
from invoke.context import Context

from centralita.desk import depot_tasks, tenant_tasks
from centralita.desk.frame import APPLIANCE, TENANT, task


@task(
    first="appliance",
    help={
        "appliance": APPLIANCE,
        "mirror": "take packages from this mirror",
        "locked": "fail rather than build with packages other than the locked ones",
    },
)
def build(c: Context, appliance: str, mirror: str = "", locked: bool = False, progress: str = "auto") -> None:
    """Build an appliance's golden image into output/NAME/VERSION/."""
    from centralita.formats.output import build as make

    make(appliance, mirror=mirror or None, locked=locked)


@task(shown_as="list")
def list_(c: Context, progress: str = "auto") -> None:
    """List the declared appliances and what was last built of them."""
    from centralita.desk.overview import show_list

    show_list()


@task(first="appliance", help={"appliance": APPLIANCE, "json": "as JSON, for programs"})
def show(c: Context, appliance: str, json: bool = False, progress: str = "auto") -> None:
    """Show an appliance resolved, and which stages are cached and why."""
    from centralita.desk.overview import show as show_appliance

    show_appliance(appliance, as_json=json)


@task(help={"refresh": "boot a test kernel again instead of remembering whether KVM works"})
def doctor(c: Context, refresh: bool = False, progress: str = "auto") -> None:
    """Tell what this host has and lacks, and whether KVM really works."""
    from centralita.desk.overview import show_doctor

    if not show_doctor(refresh):
        sys.exit(1)


@task(
    first="appliance",
    help={
        "appliance": APPLIANCE + "; or tools, for the build's own tools",
        "mirror": "resolve against this mirror",
        "dry_run": "show the difference and write nothing",
    },
)
def lock(c: Context, appliance: str, mirror: str = "", dry_run: bool = False, progress: str = "auto") -> None:
    """Renew an appliance's package lock and show the difference."""
    from centralita.desk.locking import renew

    renew(appliance, mirror=mirror or None, dry_run=dry_run)


@task(
    first="appliance",
    help={
        "appliance": APPLIANCE,
        "tenant": "the tenant's YAML file",
        "console": "attach the terminal to the serial console (Ctrl-] leaves)",
        "firmware": "bios, uefi or uefi-secure",
        "target": "kvm, or a guest of the lab's Xen host: xen-pv, xen-pvh, xen-hvm, xen-pvgrub, xen-pvh-grub",
        "lab_options": "add the lab's kernel options, which halve an emulated boot",
    },
)
def run(
    c: Context,
    appliance: str,
    tenant: str,
    console: bool = False,
    firmware: str = "bios",
    target: str = "kvm",
    lab_options: bool = True,
    progress: str = "auto",
) -> None:
    """Boot a throw-away clone for a tenant and tell how to reach it."""
    if target != "kvm":
        from centralita.lab.xen.session import run_xen_session

        run_xen_session(appliance, tenant, target, console=console, lab_options=lab_options)
        return
    from centralita.lab.session import run_session

    run_session(appliance, tenant, console=console, firmware=firmware, lab_options=lab_options)


@task(
    help={
        "tier": "lint, unit, image, calls, targets, formats, xen: with commas; if empty all but formats and xen",
        "appliance": "the appliance whose image is tested",
        "target": "only their rows of the matrix: kvm, container, xen-pv, xen-pvh, xen-hvm, xen-pvgrub, xen-pvh-grub",
        "gate": "run what a publish of the appliance asks for: its targets, and its formats where it declares more",
        "keyword": "pytest's -k",
        "exit_first": "stop at the first failure",
        "repeat": "boot Xen targets and call so often, for the rate of failures; nothing else is tested",
    }
)
def test(
    c: Context,
    tier: str = "",
    appliance: str = "pbx-small",
    target: str = "",
    keyword: str = "",
    exit_first: bool = False,
    repeat: int = 0,
    gate: bool = False,
    progress: str = "auto",
) -> None:
    """Run the tests: linters, units, the image, calls through it, targets."""
    from centralita.desk.testing import run_tests

    sys.exit(run_tests(tier, appliance, keyword, exit_first, target, repeat, gate=gate))


@task(
    help={
        "orphans": "release only what killed runs left: loops, mounts, namespaces, processes, folders",
        "packages": "also remove downloaded package files",
        "output": "also remove output/",
        "dry_run": "only say what would be freed",
    }
)
def clean(
    c: Context,
    orphans: bool = False,
    packages: bool = False,
    output: bool = False,
    dry_run: bool = False,
    progress: str = "auto",
) -> None:
    """Empty the build cache and say how much that freed; identities of tenants stay."""
    from centralita.desk.cleaning import clean_caches, clean_orphans

    if orphans:
        clean_orphans()
    else:
        clean_caches(packages=packages, output=output, dry_run=dry_run)


@task(
    first="appliance",
    help={
        "appliance": APPLIANCE,
        "tenant": TENANT,
        "tenants": "a pattern of tenants' files, in quotes: 'tenants/*.yaml'",
        "to": "the folder in which each clone gets a folder of its own",
        "from": "a depot's address (http(s)://… or a folder): clone its newest release instead of what was built here",
        "key": "with --from: the publisher's minisign public key, or a file with it",
        "target": "kvm, xen-pv, xen-pvh or xen-hvm",
        "full": "a whole system disk instead of an overlay of the golden image; always so for Xen",
        "disk_path": "for Xen: the system disk's path in dom0, with NAME for the clone's; its data disk is beside it",
        "data_mib": "size of the data disk (it takes what is written to it)",
        "network": "libvirt's network",
        "bridge": "a bridge of the host, instead of a network of libvirt; for Xen xenbr0 unless named",
        "format": "files to import elsewhere, with commas: ova, vhdx, vhd, xva, vdi, oci, incus… (docs/formats.md)",
        "batch": "so many clones with one launch of libguestfs; 0: as many as it and the free memory allow",
        "dry_run": "say what would be made, or why it would be refused, and write nothing",
    },
)
def clone(
    c: Context,
    appliance: str,
    tenant: str = "",
    tenants: str = "",
    to: str = "clones",
    from_: str = "",
    key: str = "",
    target: str = "kvm",
    data_mib: int = 8192,
    network: str = "default",
    bridge: str = "",
    full: bool = False,
    disk_path: str = "/dev/pbx/NAME-system",
    format: str = "",
    batch: int = 0,
    dry_run: bool = False,
    progress: str = "auto",
) -> None:
    """Make a tenant's PBX, or many, of the last built golden image, ready to be started on a host."""
    from centralita.desk.cloning import clone as make
    from centralita.desk.depots import pull as bring
    from centralita.desk.exporting import export

    golden = None
    if from_:
        golden = bring(appliance, url=from_, version="", formats="qcow2", key=key, dry_run=dry_run)
    if format:
        export(appliance, tenant=tenant, tenants=tenants, to=to, form=format, golden=golden, dry_run=dry_run)
        return
    make(
        appliance,
        golden=golden,
        tenant=tenant,
        tenants=tenants,
        to=to,
        target=target,
        data_mib=data_mib,
        network=network,
        bridge=bridge,
        full=full,
        disk_path=disk_path,
        batch=batch,
        dry_run=dry_run,
    )


CLONE = "the clone's name, or the path of its folder"
FROM = "the folder that holds the clone's folder; by default where it was made"


@task(
    first="clone",
    help={
        "clone": CLONE,
        "host": "qemu:///system, qemu+ssh://USER@HOST/system, xen+ssh://USER@HOST/, xl: or xl:USER@HOST",
        "from": FROM,
        "to": "the host's folder for golden images and clones",
        "dry_run": "only say what would be done",
        "start": "start it and wait for its SIP answer",
        "replace": "put this clone's system disk in the place of an older one; data stay",
    },
)
def deploy(
    c: Context,
    clone: str,
    host: str = "",
    from_: str = "",
    to: str = "/var/lib/centralita",
    dry_run: bool = False,
    start: bool = True,
    replace: bool = False,
    progress: str = "auto",
) -> None:
    """Bring a clone onto its host, start it there and wait until it answers; do what is left to do, and no more."""
    from centralita.desk.deploying import deploy as bring

    bring(clone, host=host, from_=from_, to=to, dry_run=dry_run, start=start, replace=replace)


@task(
    first="tenant",
    help={
        "tenant": TENANT,
        "dry_run": "only show the difference",
        "yes": "do not ask, at a terminal, before anything is changed",
        "address": "where the clone is, or what --ssh-config calls it; by default as its file or its host says",
        "key": "the admin's private SSH key; by default what ssh finds, its agent included",
        "ssh_config": "an ssh_config(5) for the way to it; the host keys that count are those of the identity store",
        "from": FROM,
    },
)
def apply(
    c: Context,
    tenant: str,
    dry_run: bool = False,
    yes: bool = False,
    address: str = "",
    key: str = "",
    ssh_config: str = "",
    from_: str = "",
    progress: str = "auto",
) -> None:
    """Show how a tenant's running clone differs from its file, and change that without dropping a call."""
    from centralita.desk.applying import apply as bring

    bring(tenant, address=address, key=key, ssh_config=ssh_config, from_=from_, dry_run=dry_run, yes=yes)


@task(first="clone", help={"clone": CLONE, "from": FROM, "purge": "remove its data from the host too"})
def undeploy(c: Context, clone: str, from_: str = "", purge: bool = False, progress: str = "auto") -> None:
    """Take a clone from its host; its data stay there unless --purge, and its folder here."""
    from centralita.desk.deploying import undeploy as take

    take(clone, from_=from_, purge=purge)


@task(
    first="clone",
    help={"clone": CLONE, "from": FROM, "purge": "remove its data too", "dry_run": "only say what would be done"},
)
def remove(
    c: Context, clone: str, from_: str = "", purge: bool = False, dry_run: bool = False, progress: str = "auto"
) -> None:
    """Remove a clone, from its host too, and free its name, MAC and address; its data stay unless --purge."""
    from centralita.desk.removing import remove as take

    take(clone, from_=from_, purge=purge, dry_run=dry_run)


@task(help={"json": "as JSON, for programs"})
def status(c: Context, json: bool = False, progress: str = "auto") -> None:
    """List the clones, their hosts, and what they do there."""
    from centralita.desk.deploying import show_status

    show_status(json)


@task(
    first="tenant",
    help={"tenant": TENANT, "to": "NAME.iso (a disc), NAME.img (a disk), or a folder for a container to mount"},
)
def seed(c: Context, tenant: str, to: str = "", progress: str = "auto") -> None:
    """Write a tenant on a medium that any image takes at its first boot."""
    from centralita.desk.seeding import seed as make

    make(tenant, to)


namespace = Collection(
    build,
    show,
    doctor,
    lock,
    run,
    clone,
    seed,
    deploy,
    apply,
    undeploy,
    remove,
    status,
    test,
    clean,
    depot_tasks.keys,
    depot_tasks.publish,
    depot_tasks.pull,
)
namespace.add_task(list_, "list")
namespace.add_collection(tenant_tasks.tenants)
namespace.add_collection(depot_tasks.depots)
