"""The golden image without an emulated machine: systemd-nspawn, User-mode Linux; and by its kernel alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from centralita.formats.subject import golden_subject
from centralita.ground import ledger as ledgers
from centralita.ground.run import run
from centralita.image.build import Golden
from centralita.lab.containers import bochs_argv, nspawn_argv, space_on, uml_argv
from centralita.lab.machine import Machine
from centralita.lab.net import LabNetwork
from centralita.lab.oci import bundle, crun_argv
from centralita.lab.options import EMULATION_OPTIONS
from centralita.lab.outside import Outside
from centralita.lab.qemu import DirectKernel, MachineSpec
from centralita.lab.ssh import ssh_access
from tests.formats.conftest import BOOT_S, Formats, Seeded

pytestmark = pytest.mark.xdist_group("formats")
Record = Callable[[str, object], None]
Judge = Callable[[LabNetwork], None]


def test_systemd_nspawn_boots_the_root_tarball(
    seeded: Seeded, formats: Formats, judged: Judge, tmp_path: Path, record_property: Record
) -> None:
    (tarball,) = formats("root.tar.xz")
    assert seeded.tenant.network.address is not None
    address = seeded.tenant.network.address.ip
    # Not below /tmp, which may be in memory and be searched by nobody else.
    with (
        ledgers.default().tempdir("centralita-nspawn-", parent=Path("/var/tmp"), mode=0o755) as root,
        seeded.network() as network,
        space_on(network) as space,
        ssh_access(network, address, seeded.identity, seeded.key, tmp_path) as ssh,
    ):
        run(["tar", "-C", root, "--numeric-owner", "-xpJf", tarball.path])
        argv = nspawn_argv(root, space, seeded.folder, "duo")
        with Outside(argv, network, tmp_path, name="nspawn") as guest:
            answer = guest.wait_sip(address, timeout_s=BOOT_S)
            record_property("first_sip_answer_s", round(answer.seconds, 1))
            guest.wait_console("centralita: took the tenant duo from /pbx-tenant", timeout_s=BOOT_S)
            judged(network)
            read = ssh.run("cat /etc/machine-id /proc/sys/kernel/hostname; systemd-detect-virt").stdout.split()
            assert read == [seeded.identity.machine_id, "duo", "systemd-nspawn"]
            assert ssh.run("systemctl --failed --no-legend --plain").stdout == ""
        # Once: a second boot has the tenant, and reads nothing.
        with Outside(argv, network, tmp_path, name="again") as guest:
            guest.wait_sip(address, timeout_s=BOOT_S)
            assert "took the tenant" not in guest.console


def test_crun_runs_the_oci_image(
    seeded: Seeded, formats: Formats, judged: Judge, tmp_path: Path, record_property: Record
) -> None:
    (archive,) = formats("oci")
    assert seeded.tenant.network.address is not None
    address = seeded.tenant.network.address.ip
    with (
        ledgers.default().tempdir("centralita-oci-", parent=Path("/var/tmp"), mode=0o755) as folder,
        seeded.network() as network,
        space_on(network) as space,
        ssh_access(network, address, seeded.identity, seeded.key, tmp_path) as ssh,
    ):
        bundle(archive.path, folder, space, seeded.folder)
        with Outside(crun_argv(folder, space), network, tmp_path, name="crun") as guest:
            answer = guest.wait_sip(address, timeout_s=BOOT_S)
            record_property("first_sip_answer_s", round(answer.seconds, 1))
            judged(network)
            read = ssh.run("cat /etc/machine-id /proc/sys/kernel/hostname").stdout.split()
            assert read == [seeded.identity.machine_id, "duo"]


def test_user_mode_linux_runs_the_golden_disk(
    seeded: Seeded, golden: Golden, judged: Judge, tmp_path: Path, record_property: Record
) -> None:
    assert seeded.tenant.network.address is not None
    address = seeded.tenant.network.address.ip
    disk = tmp_path / "disk.raw"
    with golden_subject(golden) as subject:
        run(["cp", "--sparse=always", subject.raw, disk])
    with (
        seeded.network() as network,
        ssh_access(network, address, seeded.identity, seeded.key, tmp_path) as ssh,
        # Its control socket's address has room for 107 bytes only.
        ledgers.default().tempdir("uml-", parent=Path("/var/tmp")) as folder,
    ):
        tap = network.add_tap()
        argv = uml_argv(disk, seeded.disk, tap, seeded.identity.mac, golden.record.memory_mib, folder, "duo")
        with Outside(argv, network, tmp_path, name="uml") as guest:
            answer = guest.wait_sip(address, timeout_s=BOOT_S)
            record_property("first_sip_answer_s", round(answer.seconds, 1))
            guest.wait_console("centralita: took the tenant duo from /dev/ubdb", timeout_s=BOOT_S)
            judged(network)
            read = ssh.run("cat /etc/machine-id /proc/sys/kernel/hostname; systemd-detect-virt").stdout.split()
            assert read == [seeded.identity.machine_id, "duo", "uml"]


def test_the_kernel_boots_without_a_boot_loader(
    seeded: Seeded, formats: Formats, judged: Judge, tmp_path: Path, record_property: Record
) -> None:
    kernel, initrd, cmdline, qcow2 = formats("direct", "qcow2")
    disk = tmp_path / "disk.qcow2"
    run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", qcow2.path, disk])
    words = " ".join((cmdline.path.read_text().strip(), *EMULATION_OPTIONS))
    spec = MachineSpec(
        name="direct", disk=disk, mac=seeded.identity.mac,
        direct_kernel=DirectKernel(kernel.path, initrd.path, words),
        extra_args=("-drive", f"file={seeded.disc},format=raw,if=none,id=seed,readonly=on,media=cdrom", "-device",
                    "ide-cd,bus=ide.2,drive=seed"),
    )  # fmt: skip
    assert seeded.tenant.network.address is not None
    with seeded.network() as network, Machine(spec, network, workdir=tmp_path / "machine") as machine:
        answer = machine.wait_sip(seeded.tenant.network.address.ip, timeout_s=BOOT_S)
        record_property("first_sip_answer_s", round(answer.seconds, 1))
        judged(network)


def test_bochs_boots_the_golden_disk(
    seeded: Seeded,
    golden: Golden,
    overlay: Callable[[Path, str], Path],
    judged: Judge,
    tmp_path: Path,
    record_property: Record,
) -> None:
    assert seeded.tenant.network.address is not None
    address = seeded.tenant.network.address.ip
    disk = tmp_path / "disk.raw"
    # Bochs interprets every instruction: it, too, is spared what the lab spares emulated machines.
    run(["qemu-img", "convert", "-O", "raw", overlay(golden.qcow2_path, "qcow2"), disk])
    with seeded.network() as network:
        argv = bochs_argv(disk, seeded.disc, network, seeded.identity.mac, 384, tmp_path)
        with Outside(argv, network, tmp_path, name="bochs") as guest:
            answer = guest.wait_sip(address, timeout_s=3 * BOOT_S)
            record_property("first_sip_answer_s", round(answer.seconds, 1))
            assert "centralita: took the tenant duo from /dev/sr0" in (tmp_path / "serial").read_text(errors="replace")
            judged(network)
