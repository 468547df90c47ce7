"""What takes many minutes of the Xen lab, and changes least: run when named."""

from __future__ import annotations

from pathlib import Path

import pytest

from centralita.lab.phones import Phones
from centralita.lab.sip import SipAnswer
from centralita.lab.xen.lab import XenGuest
from tests.calls.conftest import registered
from tests.conftest import Boot, Pbx
from tests.targets.conftest import BOOT_S, prepared
from tests.targets.test_xen_life import call_goes_through

__all__ = ["BOOT_S", "prepared"]

# Deadlines, not expectations.
HVM_BOOT_S = 2400.0
DOWN_S = 420.0


def boot_s(target: str) -> float:
    """How long a guest may take to its first answer; an HVM guest's devices are emulated twice."""
    return HVM_BOOT_S if target == "xen-hvm" else BOOT_S


def takes_a_call(guest: XenGuest, answer: SipAnswer, folder: Path) -> None:
    """Two phones register and hear each other for a moment."""
    pbx = Pbx(guest, Boot(answer, "", {}, ""))
    folder.mkdir(parents=True, exist_ok=True)
    with Phones(guest.network, workdir=folder) as phones:
        call_goes_through(registered(pbx, phones, "101"), registered(pbx, phones, "102"), folder)


@pytest.fixture(scope="session")
def many(pytestconfig: pytest.Config) -> int:
    """How often what is repeated is repeated."""
    return int(pytestconfig.getoption("--repeat")) or 2
