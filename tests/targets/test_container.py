"""The golden image's tree as a system container: it takes its tenant from a folder, answers, and carries a call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from centralita.formats.subject import golden_subject
from centralita.formats.trees import write_tree
from centralita.ground import ledger as ledgers
from centralita.ground.run import run
from centralita.image.build import Golden
from centralita.lab.containers import nspawn_argv, space_on
from centralita.lab.net import LabNetwork
from centralita.lab.outside import Outside
from centralita.lab.sip import SipAnswer
from centralita.lab.ssh import SshAccess, ssh_access
from tests.seeded import Seeded
from tests.targets.conftest import BOOT_S, CONTAINER

pytestmark = [pytest.mark.row, pytest.mark.xdist_group("container"), pytest.mark.proves(CONTAINER)]
Record = Callable[[str, object], None]


@dataclass(frozen=True)
class Running:
    """The container, when it has answered its first SIP request."""

    network: LabNetwork
    guest: Outside
    answer: SipAnswer
    ssh: SshAccess


@pytest.fixture(scope="module")
def running(golden: Golden, seeded: Seeded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """What the formats root.tar.xz and oci hold, run by systemd-nspawn."""
    workdir = tmp_path_factory.mktemp("container")
    assert seeded.tenant.network.address is not None
    address = seeded.tenant.network.address.ip
    # Not below /tmp, which may be in memory and be searched by nobody else.
    with (
        ledgers.default().tempdir("centralita-nspawn-", parent=Path("/var/tmp"), mode=0o755) as root,
        seeded.network() as network,
        space_on(network) as space,
        ssh_access(network, address, seeded.identity, seeded.key, workdir) as ssh,
    ):
        with golden_subject(golden) as subject:
            write_tree(subject, workdir / "tree.tar")
        run(["tar", "-C", root, "--numeric-owner", "-xpf", workdir / "tree.tar"])
        (workdir / "tree.tar").unlink()
        with Outside(nspawn_argv(root, space, seeded.folder, "duo"), network, workdir, name="nspawn") as guest:
            yield Running(network, guest, guest.wait_sip(address, timeout_s=BOOT_S), ssh)


def test_answers_sip(running: Running, golden: Golden, record_property: Record) -> None:
    assert running.answer.status == 401  # an unknown caller is challenged
    record_property("sip_s", round(running.answer.seconds, 1))
    record_property("golden_digest", golden.record.golden_digest[:12])


def test_is_the_tenant_s_system(running: Running, golden: Golden, seeded: Seeded) -> None:
    running.guest.wait_console("centralita: took the tenant duo from /pbx-tenant", timeout_s=BOOT_S)
    read = running.ssh.run("cat /etc/machine-id /proc/sys/kernel/hostname; systemd-detect-virt").stdout.split()
    assert read == [seeded.identity.machine_id, "duo", "systemd-nspawn"]
    assert running.ssh.run("systemctl --failed --no-legend --plain").stdout == ""


def test_echo_is_heard(running: Running, golden: Golden, judged: Callable[[LabNetwork], None]) -> None:
    judged(running.network)
