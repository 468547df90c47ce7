"""tshark's table of RTP streams, as version 4 prints it."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from centralita.ground.errors import CentralitaError
from centralita.lab.capture import RtpStream, parse_streams

RULE = "=" * 62
HEADER = (
    "   Start time      End time     Src IP addr  Port    Dest IP addr  Port       SSRC          Payload  Pkts"
    "         Lost   Min Delta(ms)  Mean Delta(ms)   Max Delta(ms)  Min Jitter(ms) Mean Jitter(ms)  Max Jitter(ms)"
    " Problems?"
)
ROWS = (
    "     1.004210     9.984101       10.77.0.10 10422       10.77.0.1  4006 0x2C87C1E9            g711A   450"
    "     0 (0.0%)           2.105          19.999          41.207           0.102           0.874          14.396 ",
    "     1.002101     9.983111        10.77.0.1  4006      10.77.0.10 10422 0x6E1FD2B0  g711A, unknown   448"
    "     2 (0.4%)          18.000          20.012          22.100           0.011           0.250           0.700 X",
)


def table(*rows: str) -> str:
    return "\n".join(("=" * 24 + " RTP Streams " + "=" * 24, HEADER, *rows, RULE, ""))


def test_both_directions_are_read() -> None:
    ours, theirs = IPv4Address("10.77.0.1"), IPv4Address("10.77.0.10")
    assert parse_streams(table(*ROWS)) == [
        RtpStream(theirs, 10422, ours, 4006, 0x2C87C1E9, "g711A", 450, 0, 0.874, 14.396),
        RtpStream(ours, 4006, theirs, 10422, 0x6E1FD2B0, "g711A, unknown", 448, 2, 0.25, 0.7),
    ]


def test_an_empty_table_is_no_stream_and_no_table_is_an_error() -> None:
    assert parse_streams(table()) == []
    with pytest.raises(CentralitaError, match="no table"):
        parse_streams("Capturing on 'br0'\n")
