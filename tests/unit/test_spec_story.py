"""What `tenant.explain` tells of a call is what the dial plan does with it."""

from __future__ import annotations

from datetime import datetime

import pytest

from centralita.desk.tenants import plan
from centralita.ground.paths import repo_root
from centralita.spec.story import Teller
from centralita.spec.tenant import Tenant, load_tenant
from tests.unit.tenant_files import texts

pytestmark = pytest.mark.unit


def office() -> Tenant:
    return load_tenant(repo_root() / "tests" / "data" / "office.yaml")


def told(caller: str, number: str, at: str = "2026-11-25 10:00") -> str:
    teller = Teller(office(), datetime.fromisoformat(at))
    step = teller.from_extension(caller, number) if caller.isdigit() else teller.from_trunk(caller, number)
    return "\n".join(texts(step))


CALLS = [
    ("101", "102", "rings 102 for 6 s"),
    ("101", "0044123", "over trunk main: dials 0044123, shown as 911000100"),
    ("102", "0044123", "class local may not dial it"),
    ("150", "600123123", "goes outside as 0034600123123"),
    ("102", "912345678", "over trunk main: dials 912345678, shown as +34911000100"),
    ("103", "912345678", "class internal may not dial it"),
    ("103", "112", "an emergency number"),
    ("101", "806123456", "80[67]XXXXXX is barred"),
    ("101", "911000112", "the call stays inside"),
    ("101", "*97", "own voicemail"),
    ("101", "*99", "echo"),
    ("101", "*43", "no such number"),
    ("101", "199", "without PIN"),
    ("101", "*45700", "logs into queue 700"),
    ("101", "**102", "picks up"),
    ("101", "*281", "night mode of hours"),
    ("101", "715", "parked here"),
    ("101", "104", "is forwarded"),
    ("101", "555", "no such number"),
    ("101", "700&PJSIP/main/0044", "something else than"),
    ("main", "+34911000100", "menu 900 (Main)"),
    ("main", "911000101", "queue 700"),
    ("spare", "911000101", "none of our numbers"),
    ("main", "911000999", "none of our numbers"),
    ("main", "sip", "not made of digits"),
]


@pytest.mark.parametrize(("caller", "number", "text"), CALLS)
def test_a_call_is_told(caller: str, number: str, text: str) -> None:
    assert text in told(caller, number)


@pytest.mark.parametrize(
    ("at", "text"),
    [
        ("2026-11-25 08:59", "voicemail of 102"),
        ("2026-11-25 09:00", "menu 900"),
        ("2026-11-28 13:00", "menu 900"),
        ("2026-11-28 15:00", "voicemail of 102"),
        ("2026-11-29 12:00", "menu 900"),
        ("2026-12-31 12:00", "hangup"),
        ("2027-01-02 12:00", "hangup"),
        ("2027-01-03 15:00", "voicemail of 102"),
        ("2026-12-25 10:00", "hangup"),
        ("2027-03-26 10:00", "hangup"),
        ("2026-03-26 10:00", "menu 900"),
    ],
)
def test_a_schedule_goes_by_the_moment(at: str, text: str) -> None:
    assert text in told("main", "911000100", at)


def test_the_whole_plan_is_told() -> None:
    whole = "\n".join(texts(plan(office())))
    for part in ("911000101 by trunk main", "group 600 (All)", "conference 800 (Closed), with PIN", "never: 80",
                 "emergency: 112", "parking 710, places 711-719"):  # fmt: skip
        assert part in whole
