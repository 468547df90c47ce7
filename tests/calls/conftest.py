"""Two phones on the shared clone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from centralita.lab.phones import Phone, Phones
from tests.conftest import Pbx


@pytest.fixture(scope="session")
def phones(pbx: Pbx, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Phones]:
    """The phone agent beside the shared clone."""
    with Phones(pbx.guest.network, workdir=tmp_path_factory.mktemp("phones")) as agent:
        yield agent


def registered(pbx: Pbx, phones: Phones, number: str) -> Phone:
    """A phone of the tenant's that the PBX has accepted."""
    phone = phones.add(number, registrar=pbx.guest.address, secret=pbx.secret(number))
    answer = phone.wait_registered()
    assert (answer.code, answer.active) == (200, True)
    return phone


@pytest.fixture(scope="session")
def anna(pbx: Pbx, phones: Phones) -> Phone:
    """The phone of extension 101, registered."""
    return registered(pbx, phones, "101")


@pytest.fixture(scope="session")
def ben(pbx: Pbx, phones: Phones) -> Phone:
    """The phone of extension 102, registered."""
    return registered(pbx, phones, "102")


@pytest.fixture(autouse=True)
def no_call_left(phones: Phones) -> Iterator[None]:
    """A test that fails leaves no call to the next one."""
    yield
    phones.hangup_all()


@pytest.fixture
def wavs(tmp_path: Path) -> Path:
    """Where a test's recordings go."""
    return tmp_path
