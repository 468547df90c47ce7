"""A tenant on the media that bring it to a golden image, and the calls by which a boot of one is judged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from centralita.clone.identity import Identity, IdentityStore
from centralita.clone.seed import write_seed
from centralita.lab.audio import read_wav, strongest_tone, tone_seconds
from centralita.lab.digest import options
from centralita.lab.net import LabNetwork
from centralita.lab.phones import Phones
from centralita.lab.ssh import AdminKey, make_key
from centralita.spec.tenant import Admin, Tenant

ECHO = "*43"
TONE_HZ = 525.0


@dataclass(frozen=True)
class Seeded:
    """A tenant and the media that bring it to an image: a disc, a disk, and a folder."""

    tenant: Tenant
    identity: Identity
    key: AdminKey
    disc: Path
    disk: Path
    folder: Path

    def network(self) -> LabNetwork:
        """A network like the tenant's; not entered yet."""
        wanted = self.tenant.network
        assert wanted.address is not None
        return LabNetwork(wanted.address.network, host_address=wanted.gateway, taken=[wanted.address.ip])


@pytest.fixture(scope="session")
def seeded(duo: Tenant, tmp_path_factory: pytest.TempPathFactory) -> Seeded:
    """The tenant duo, with the lab's admin, on its media."""
    workdir = tmp_path_factory.mktemp("seed")
    key = make_key(workdir)
    tenant = duo.model_copy(update={"admins": (Admin(name="lab", ssh_keys=(key.public,)),)})
    identity = IdentityStore(workdir / "identities").get_or_create(tenant)
    disc, disk, folder = workdir / "duo.iso", workdir / "duo.img", workdir / "folder"
    for target in (disc, disk, folder):
        write_seed(tenant, identity, target)
    return Seeded(tenant, identity, key, disc, disk, folder)


@pytest.fixture
def judged(seeded: Seeded, tmp_path: Path) -> Iterator[Callable[[LabNetwork], None]]:
    """Judges a PBX that runs: 200 to OPTIONS of an extension, and an echo call that is heard."""

    def judge(network: LabNetwork) -> None:
        assert seeded.tenant.network.address is not None
        address = seeded.tenant.network.address.ip
        secret = seeded.identity.sip_secrets["101"]
        answer = options(network, address, user="101", secret=secret, number=ECHO, timeout_s=30)
        assert (answer.status, answer.reason) == (200, "OK")
        with Phones(network, workdir=tmp_path / "phones") as phones:
            anna = phones.add("101", registrar=address, secret=secret)
            assert anna.wait_registered(timeout_s=60).code == 200
            call = anna.call(ECHO, tone_hz=TONE_HZ, record=tmp_path / "echo.wav")
            call.wait_answered(timeout_s=60)
            call.wait_heard(4, timeout_s=60)
            call.hangup()
            sound = read_wav(call.recorded())
        tone = strongest_tone(sound)
        assert tone is not None, "silence"
        assert abs(tone.hz - TONE_HZ) <= 2
        # Continuity is judged on KVM; what is emulated must be heard most of the time.
        assert tone_seconds(sound, TONE_HZ) >= 2

    yield judge
