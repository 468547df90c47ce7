"""Four companies of quite different kinds: every call of their lists ends where their files say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

import pytest

from centralita.ground.paths import repo_root
from centralita.spec.tenant import load_tenant
from tests.office.company import Company, Told, call_list, company, place

pytestmark = pytest.mark.calls

#: Asterisk also logs what is cut off by hanging up.
CUT_OFF = "Failed to playback|res_fax.c: error|Couldn't read username|Fax [0-9]+ received nothing|unable to read"
CUT_OFF += "|forged|Unable to join queue"
#: A phone that is about to be called when its caller goes (chan_pjsip.c, call()).
CUT_OFF += "|Session already DISCONNECTED"
LISTS = sorted((repo_root() / "tests" / "data" / "calls").glob("*.yaml"))


class Opened:
    """The office that is open just now: one of a company at a time; another moment opens it anew."""

    def __init__(self, appliance: str, folder: Path) -> None:
        self.appliance = appliance
        self.folder = folder
        self.stack = ExitStack()
        self.open: tuple[str, datetime | None] | None = None
        self.office: Company | None = None

    def get(self, name: str, at: datetime | None) -> Company:
        """Return the company's office at a moment."""
        if self.open != (name, at):
            self.stack.close()
            tenant = load_tenant(repo_root() / "examples" / f"{name}.yaml")
            folder = self.folder / f"{name}-{at:%m%d%H%M}" if at else self.folder / name
            folder.mkdir(exist_ok=True)
            self.open = None
            self.office = self.stack.enter_context(company(tenant, self.appliance, folder, at=at))
            self.open = (name, at)
        assert self.office is not None
        return self.office


@pytest.fixture(scope="session")
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """One office at a time."""
    made = Opened(request.config.getoption("--appliance"), tmp_path_factory.mktemp("companies"))
    yield made
    made.stack.close()


def _calls() -> Iterator[object]:
    for path in LISTS:
        calls = call_list(path)
        moments = list(dict.fromkeys(told.at for told in calls))
        for told in sorted(calls, key=lambda told: moments.index(told.at)):
            group = pytest.mark.xdist_group(f"company-{path.stem}")
            yield pytest.param(path.stem, told, id=f"{path.stem}: {told.what}", marks=group)


@pytest.mark.parametrize(("name", "told"), _calls())
def test_every_call_ends_where_the_file_says(opened: Opened, name: str, told: Told) -> None:
    office = opened.get(name, told.at)
    before = len(office.pbx.log)
    try:
        place(office, told)
    finally:
        office.hang_up()
    bad = [line for line in office.pbx.log[before:].splitlines() if re.search(r"\] (WARNING|ERROR)\[", line)]
    unexpected = "\n".join(line for line in bad if not re.search(CUT_OFF, line))
    assert unexpected == "", unexpected
