"""Trunks: registered, by address and by TLS; where the first cannot take a call, the second does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from centralita.ground.paths import repo_root
from centralita.spec.tenant import load_tenant
from tests.office.company import Company, company, until

pytestmark = [pytest.mark.calls, pytest.mark.xdist_group("trunks")]


@pytest.fixture(scope="module", params=["dead", "refusing"])
def clinic(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    """The clinic, whose first trunk's provider is gone, or has no line free."""
    tenant = load_tenant(repo_root() / "examples" / "clinic.yaml")
    folder: Path = tmp_path_factory.mktemp("trunks")
    how = {request.param: ("primary",)}
    with company(tenant, request.config.getoption("--appliance"), folder, **how) as made:  # type: ignore[arg-type]
        yield made


def test_the_second_trunk_takes_over_encrypted(clinic: Company) -> None:
    call = clinic.phone("302").call("0043123456", tone_hz=745)
    until(lambda: "backup took +43123456 as +4969555302" in clinic.taken(), "the other trunk", 90)
    call.wait_answered()
    call.wait_heard(1)
    channels = clinic.world.cli("core show channels concise")
    assert "PJSIP/backup-" in channels
    call.hangup()
    clinic.hang_up()


def test_a_number_that_is_wrong_is_not_tried_again(clinic: Company) -> None:
    taken = len(clinic.taken())
    end = clinic.phone("302").call("009999123").wait_ended(timeout_s=60)
    assert end.code >= 400 and clinic.taken()[taken:] == []
    clinic.hang_up()
