"""What `invoke test` asks pytest for."""

from __future__ import annotations

import os

import pytest

from centralita.desk.testing import NOT_BY_DEFAULT, run_tests
from centralita.ground.errors import CentralitaError


class Replaced(Exception):
    """The process would be pytest now."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The arguments that pytest would get."""
    seen: list[str] = []

    def execv(_program: str, argv: list[str]) -> None:
        seen.extend(argv)
        raise Replaced

    monkeypatch.setattr(os, "execv", execv)
    monkeypatch.chdir(".")
    return seen


def value(argv: list[str], option: str) -> str:
    """What follows the last of an option: the first `-m` names the module."""
    return argv[len(argv) - argv[::-1].index(option)]


def test_without_a_tier_all_run_but_those_by_name_only(asked: list[str]) -> None:
    with pytest.raises(Replaced):
        run_tests("", "pbx-small", "", exit_first=False)
    assert value(asked, "-m") == " and ".join(f"not {tier}" for tier in NOT_BY_DEFAULT)
    assert "--target" not in asked


def test_targets_alone_are_rows_of_the_matrix(asked: list[str]) -> None:
    with pytest.raises(Replaced):
        run_tests("", "pbx-small", "", exit_first=False, target="xen-pv,kvm")
    assert (value(asked, "-m"), value(asked, "--target")) == ("row", "xen-pv,kvm")


def test_a_tier_with_targets_is_the_whole_tier(asked: list[str]) -> None:
    with pytest.raises(Replaced):
        run_tests("targets", "pbx-small", "", exit_first=False, target="xen-hvm")
    assert (value(asked, "-m"), value(asked, "--target")) == ("targets", "xen-hvm")


def test_a_rate_is_measured_alone(asked: list[str]) -> None:
    with pytest.raises(Replaced):
        run_tests("", "pbx-small", "", exit_first=False, target="xen-pv", repeat=3)
    assert (value(asked, "-m"), value(asked, "--repeat")) == ("repeat", "3")
    with pytest.raises(CentralitaError, match="is for targets of Xen"):
        run_tests("", "pbx-small", "", exit_first=False, target="kvm", repeat=3)
