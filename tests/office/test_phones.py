"""Phones of all kinds: one digest algorithm only, several an extension, lamps, encryption, recording, pickup."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from centralita.ground.paths import repo_root
from centralita.lab.audio import Sound, read_wav, tone_seconds
from centralita.lab.sip_client import PAYLOAD_BYTES, SipClient
from centralita.spec.tenant import load_tenant
from tests.office.company import TONE_HZ, Company, company, until

pytestmark = [pytest.mark.calls, pytest.mark.xdist_group("phones")]

PAYLOAD = bytes(0xD5 ^ round(90 * abs(math.sin(i * math.pi / 40))) for i in range(PAYLOAD_BYTES))


def _open(name: str, request: pytest.FixtureRequest, folder: Path) -> Iterator[Company]:
    tenant = load_tenant(repo_root() / "examples" / f"{name}.yaml")
    with company(tenant, request.config.getoption("--appliance"), folder) as made:
        yield made


@pytest.fixture(scope="module")
def centre(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    """The call centre: MD5 and SHA-256."""
    yield from _open("call-centre", request, tmp_path_factory.mktemp("centre"))


@pytest.fixture(scope="module")
def clinic(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    """The clinic: SHA-256 only, encrypted phones."""
    yield from _open("clinic", request, tmp_path_factory.mktemp("clinic"))


@pytest.fixture(autouse=True)
def no_call_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test leaves no call to the next one."""
    yield
    for name in ("centre", "clinic"):
        if name in request.fixturenames:
            request.getfixturevalue(name).hang_up()


def recording(office: Company, number: str) -> Sound:
    """The recording of a call that is over, once it is written."""
    monitor = office.pbx.root / "var/spool/asterisk/monitor"

    def written() -> list[Path]:
        return [path for path in monitor.rglob(f"*-{number}-*.wav") if path.stat().st_size > 20_000]

    until(written, "the recording")
    office.hang_up()
    return read_wav(written()[0])


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256"])
def test_a_phone_that_knows_one_algorithm_registers_calls_and_is_heard(centre: Company, algorithm: str) -> None:
    with SipClient(centre.pbx.network, centre.pbx.address, "1102", centre.secrets["1102"], (algorithm,)) as phone:
        assert phone.register().status == 200
        answer = phone.call("*10")
        assert answer.status == 200
        assert phone.echoed(answer, PAYLOAD, packets=100) > 20
        phone.hang_up(answer)


def test_a_company_of_sha_256_only_lets_no_md5_phone_in(clinic: Company) -> None:
    network, address, secret = clinic.pbx.network, clinic.pbx.address, clinic.secrets["303"]
    with SipClient(network, address, "303", secret, ("MD5",)) as old:
        assert old.register().status == 401
    with SipClient(network, address, "303", secret, ("SHA-256",)) as new:
        assert new.register().status == 200
        answer = new.call("*43")
        assert answer.status == 200 and new.echoed(answer, PAYLOAD, packets=100) > 20
        new.hang_up(answer)
        new.register(expires_s=0)


def test_a_lamp_shows_all_phones_of_an_extension(clinic: Company) -> None:
    desk, mobile = clinic.phone("301"), clinic.phone("301-mobil")
    with SipClient(clinic.pbx.network, clinic.pbx.address, "303", clinic.secrets["303"]) as watcher:
        assert watcher.register().status == 200
        assert watcher.watch("301").status == 200
        watcher.wait_notified("<state>terminated</state>")
        mark, marks = len(watcher.notified), [len(phone.phones.events) for phone in (desk, mobile)]
        call = clinic.phone("310").call("301", tone_hz=TONE_HZ)
        desk.wait_incoming(after=marks[0])
        incoming = mobile.wait_incoming(after=marks[1])
        watcher.wait_notified("<state>early</state>", after=mark)
        incoming.answer(tone_hz=440)
        call.wait_answered()
        watcher.wait_notified("<state>confirmed</state>", after=mark)
        mark = len(watcher.notified)
        call.hangup()
        watcher.wait_notified("<state>terminated</state>", after=mark)


def test_a_lamp_shows_night_mode(clinic: Company) -> None:
    with SipClient(clinic.pbx.network, clinic.pbx.address, "303", clinic.secrets["303"]) as watcher:
        assert watcher.register().status == 200
        assert watcher.watch("*80").status == 200
        for state in ("confirmed", "terminated"):
            mark = len(watcher.notified)
            call = clinic.phone("300").call("*80", tone_hz=TONE_HZ)
            call.wait_answered()
            watcher.wait_notified(f"<state>{state}</state>", after=mark)
            call.hangup()


def test_what_has_no_lamp_cannot_be_watched(clinic: Company) -> None:
    with SipClient(clinic.pbx.network, clinic.pbx.address, "303", clinic.secrets["303"]) as watcher:
        assert watcher.register().status == 200
        assert watcher.watch("112").status == 404 and watcher.watch("s").status == 404


def test_a_phone_with_tls_sends_its_sound_encrypted(clinic: Company) -> None:
    """Its account takes no other sound (the next test), and the phone offers none."""
    tls, plain = clinic.phone("300"), clinic.phone("310")
    marks = len(plain.phones.events)
    call = tls.call("310", tone_hz=745)
    plain.wait_incoming(after=marks).answer(tone_hz=440)
    call.wait_answered()
    call.wait_heard(1)
    assert re.search(r"Contact: +300/sip:300@\S+transport=tls", clinic.pbx.cli("pjsip show contacts"), re.I)
    # The laboratory's calls are recorded, both sides of them.
    call.go_on(2)
    call.hangup()
    sound = recording(clinic, "310")
    assert tone_seconds(sound, 745, share=0.2) > 1 and tone_seconds(sound, 440, share=0.2) > 1


def test_a_tls_phone_that_offers_plain_sound_is_refused(clinic: Company) -> None:
    with SipClient(clinic.pbx.network, clinic.pbx.address, "300", clinic.secrets["300"]) as phone:
        assert phone.call("310").status == 488


def test_a_group_s_call_is_picked_up_and_another_group_s_is_not(centre: Company) -> None:
    rung = centre.phone("1101")
    mark = len(rung.phones.events)
    call = centre.phone("1000").call("1101", tone_hz=TONE_HZ)
    rung.wait_incoming(after=mark)
    end = centre.phone("1102").call("*8").wait_ended()
    assert end.connected_s == 0
    picking = centre.phone("1100").call("*8", tone_hz=TONE_HZ)
    picking.wait_answered()
    call.wait_answered()
    call.hangup()


def test_a_call_leaves_a_record(centre: Company) -> None:
    rung = centre.phone("1101")
    mark = len(rung.phones.events)
    call = centre.phone("1000").call("1101", tone_hz=TONE_HZ)
    rung.wait_incoming(after=mark).answer()
    call.wait_answered()
    call.hangup()
    path = centre.pbx.root / "var/log/asterisk/cdr-csv/Master.csv"

    def rows() -> list[list[str]]:
        with path.open(encoding="utf-8") as stream:
            return [row for row in csv.reader(stream) if row[1] == "1000" and row[2] == "1101" and "ANSWERED" in row]

    until(lambda: path.exists() and rows(), "the record")


def test_an_agent_s_recording_has_both_sides(centre: Company) -> None:
    rung = centre.phone("1001")
    mark = len(rung.phones.events)
    call = centre.phone("1100").call("1001", tone_hz=745)
    rung.wait_incoming(after=mark).answer(tone_hz=440)
    call.wait_answered()
    call.go_on(3)
    call.hangup()
    sound = recording(centre, "1100")
    assert tone_seconds(sound, 745, share=0.2) > 1 and tone_seconds(sound, 440, share=0.2) > 1


def test_codecs_are_taken_in_the_order_of_the_file(clinic: Company) -> None:
    shown = clinic.pbx.cli("pjsip show endpoint 310")
    assert re.search(r"allow +: \(g722\|alaw\)", shown), shown
