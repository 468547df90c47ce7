"""What reaches people by e-mail: voicemail and faxes of examples/hotel.yaml, to a mail server of the lab."""

from __future__ import annotations

import struct
import wave
from collections.abc import Iterator
from datetime import datetime
from io import BytesIO
from pathlib import Path

import pytest

from centralita.ground.paths import repo_root
from centralita.lab.audio import read_wav, tone_seconds
from centralita.spec.tenant import load_tenant
from tests.office.company import Company, company, until
from tests.office.mail_sink import MailSink

pytestmark = [pytest.mark.calls, pytest.mark.xdist_group("mail")]

TONE_HZ = 745.0
WIDTH, HEIGHT = 1728, 600  # of a fax page: 8 lines a millimetre across, standard resolution down


@pytest.fixture(scope="module")
def hotel(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    """The hotel's office, after lunch: the restaurant is closed."""
    tenant = load_tenant(repo_root() / "examples" / "hotel.yaml")
    closed = datetime(2026, 10, 14, 16, 0)
    folder = tmp_path_factory.mktemp("mail")
    with company(tenant, request.config.getoption("--appliance"), folder, at=closed) as made:
        yield made


@pytest.fixture(scope="module")
def sink(hotel: Company) -> Iterator[MailSink]:
    """The server that the hotel's file names."""
    assert hotel.tenant.mail is not None
    with MailSink(hotel.pbx.network, hotel.tenant.mail.port) as made:
        yield made


def test_a_voicemail_comes_by_email_with_its_sound(hotel: Company, sink: MailSink, tmp_path: Path) -> None:
    call = hotel.from_outside("telco", "600111222", "971000110")
    call.wait_answered(timeout_s=40)
    call.tone(TONE_HZ)
    call.go_on(1.5)
    call.dtmf("#")
    call.go_on(5)
    call.hangup()
    message = sink.wait("restaurant@hotel.example.com")
    assert "centralita@hotel.example.com" in str(message["From"]) and "600111222" in str(message["Subject"])
    (sound,) = list(message.iter_attachments())
    content = sound.get_payload(decode=True)
    assert isinstance(content, bytes)
    with wave.open(BytesIO(content)) as opened:
        assert opened.getframerate() == 8000
    path = tmp_path / "message.wav"
    path.write_bytes(content)
    assert tone_seconds(read_wav(path), TONE_HZ) > 3
    # `delete: true`: what was sent is not kept.
    box = hotel.pbx.root / "var/spool/asterisk/voicemail/default/110"
    until(lambda: not list(box.rglob("msg*.wav")), "the message to be deleted")


def page(path: Path) -> None:
    """Write a page with a black frame as TIFF (one strip, one bit a pixel, not compressed)."""
    row = b"\x00" * (WIDTH // 8)
    edge = b"\xff" * (WIDTH // 8)
    data = edge * 20 + (b"\xff" * 4 + row[8:] + b"\xff" * 4) * (HEIGHT - 40) + edge * 20
    tags = [
        (256, 4, 1, WIDTH), (257, 4, 1, HEIGHT), (258, 3, 1, 1), (259, 3, 1, 1), (262, 3, 1, 0), (266, 3, 1, 1),
        (273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, HEIGHT), (279, 4, 1, len(data)), (296, 3, 1, 2),
    ]  # fmt: skip
    resolution = 8 + len(data)
    tags += [(282, 5, 1, resolution), (283, 5, 1, resolution + 8)]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags)) + b"\0" * 4
    numbers = struct.pack("<IIII", 204, 1, 98, 1)
    path.write_bytes(struct.pack("<2sHI", b"II", 42, resolution + 16) + data + numbers + directory)


def send_fax(hotel: Company) -> None:
    """Let the world send a page to the hotel's fax number."""
    spool = hotel.world.root / "var/spool/asterisk"
    page(spool / "page.tiff")
    call = ["Channel: PJSIP/971000190@telco", "CallerID: <600111222>", "Application: SendFAX"]
    call += ["Data: /var/spool/asterisk/page.tiff,F"]
    new = spool / "tmp" / "fax.call"
    new.write_text("\n".join(call) + "\n")
    new.chmod(0o666)
    new.rename(spool / "outgoing" / new.name)


def test_a_fax_comes_by_email_as_pdf(hotel: Company, sink: MailSink) -> None:
    sink.messages.clear()
    send_fax(hotel)
    message = sink.wait("fax@hotel.example.com", seconds=150)
    (pdf,) = list(message.iter_attachments())
    assert pdf.get_content_type() == "application/pdf" and str(pdf.get_filename()).endswith(".pdf")
    content = pdf.get_payload(decode=True)
    assert isinstance(content, bytes) and content.startswith(b"%PDF-") and b"%%EOF" in content[-16:]
    assert f"/Width {WIDTH}".encode() in content
    assert list((hotel.pbx.root / "var/spool/asterisk/fax").glob("*-190-*.tiff"))
