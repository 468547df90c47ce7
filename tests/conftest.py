"""What all tests share: the tier of each test, and one booted clone for all that look at it or call it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from centralita.clone.identity import IdentityStore
from centralita.image.build import Golden, build
from centralita.lab.guest import Guest, powered_on, prepare
from centralita.lab.sip import SipAnswer
from centralita.lab.xen.lab import XenGuest
from centralita.spec.tenant import Tenant, load_tenant
from tests.matrix import ABOUT, TARGET, show_matrix
from tests.repeats import KIND, show_repeats
from tests.results import PROOF, TIERS, remember_golden
from tests.sentences import show_sentences

TESTS = Path(__file__).parent
# Deadlines, not expectations: what is emulated on a crowded host takes its time.
BOOT_S = 240.0


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of our own."""
    parser.addoption("--appliance", default="pbx-small", help="the appliance whose image is tested")
    parser.addoption("--target", default="", help="targets to test, with commas; by default those that are quick")
    parser.addoption("--repeat", default="0", help="how often a boot with a call is repeated on each target")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test is of the tier that it names, else of the one that its folder is called by."""
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0]
        if folder in TIERS and not any(item.get_closest_marker(tier) for tier in TIERS):
            item.add_marker(folder)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse a pytest-xdist that ignores groups: each worker would boot the shared clone for itself."""
    if getattr(session.config.option, "loadgroup", False):
        alone = [i.nodeid for i in session.items if i.get_closest_marker("xdist_group") and "@" not in i.nodeid]
        if alone:
            raise pytest.UsageError(f"pytest-xdist and pytest do not fit: {alone[0]} is in no group")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show what the tests measured, and the matrix of targets and checks."""
    reports = [*terminalreporter.stats.get("passed", []), *terminalreporter.stats.get("failed", [])]
    figures = [(report.nodeid.rpartition("::")[2], report.user_properties) for report in reports]
    figures = [
        (test, [f for f in found if not f[0].startswith((ABOUT, TARGET, PROOF, KIND))]) for test, found in figures
    ]
    measured = {test: ", ".join(f"{name} {value}" for name, value in found) for test, found in figures if found}
    if measured:
        terminalreporter.section("figures")
        for test, shown in measured.items():
            terminalreporter.line(f"{test}: {shown}")
    show_matrix(terminalreporter, config)
    show_repeats(terminalreporter, config)
    show_sentences(terminalreporter, config)


@dataclass(frozen=True)
class Boot:
    """What was seen when the shared clone had just come up, before any test touched it."""

    answer: SipAnswer
    asterisk_log: str
    meminfo: dict[str, int]
    free: str


@dataclass(frozen=True)
class Pbx:
    """The shared clone. Tests may call through it and look at it; they leave it as they found it."""

    guest: Guest | XenGuest
    boot: Boot

    @property
    def tenant(self) -> Tenant:
        """The tenant as declared, with the lab's admin."""
        return self.guest.prepared.tenant

    def secret(self, number: str) -> str:
        """The SIP secret of an extension."""
        extension = next(e for e in self.tenant.extensions if e.number == number)
        return extension.secret or self.guest.prepared.identity.sip_secrets[number]

    def pin(self, number: str) -> str:
        """The voicemail PIN of an extension."""
        extension = next(e for e in self.tenant.extensions if e.number == number)
        assert extension.voicemail is not None
        return extension.voicemail.pin or self.guest.prepared.identity.voicemail_pins[number]

    def asterisk(self, command: str) -> str:
        """Run a command of Asterisk's command line."""
        return self.guest.ssh.run(f"asterisk -rx '{command}'").stdout


def just_booted(guest: Guest | XenGuest, answer: SipAnswer) -> Pbx:
    """Wait for the line that the system prints when it is up, and see what is true of it then."""
    guest.machine.wait_console(r"^centralita: up, tenant duo$", timeout_s=BOOT_S)
    log = guest.ssh.run("cat /var/log/asterisk/messages.log").stdout
    lines = guest.ssh.run("cat /proc/meminfo").stdout.splitlines()
    meminfo = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    return Pbx(guest, Boot(answer, log, meminfo, guest.ssh.run("free -k").stdout))


@pytest.fixture(scope="session")
def golden(request: pytest.FixtureRequest) -> Golden:
    """The golden image: built, or taken from the cache."""
    image = build(request.config.getoption("--appliance"))
    remember_golden(request.config, image)
    return image


@pytest.fixture(scope="session")
def duo() -> Tenant:
    """The smallest tenant: extensions 101 and 102."""
    return load_tenant(TESTS / "data" / "duo.yaml")


@pytest.fixture(scope="session")
def pbx(golden: Golden, duo: Tenant, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pbx]:
    """A clone for the tenant duo, booted once by BIOS and its own GRUB, as the appliance declares it."""
    workdir = tmp_path_factory.mktemp("duo")
    prepared = prepare(golden, duo, workdir, IdentityStore(workdir / "state/centralita/identities"))
    with powered_on(prepared) as guest:
        answer = guest.machine.wait_sip(guest.address, timeout_s=BOOT_S)
        yield just_booted(guest, answer)
        guest.machine.powerdown()
