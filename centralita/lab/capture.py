"""What really went over the wire: a capture on the lab's bridge, and tshark's figures of the RTP streams in it."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

from centralita.ground import ledger as ledgers
from centralita.ground.errors import CentralitaError
from centralita.ground.ledger import Ledger
from centralita.ground.run import environment, run
from centralita.lab.net import BRIDGE, LabNetwork

START_TIMEOUT_S = 15.0


@dataclass(frozen=True)
class RtpStream:
    """One direction of a call (one SSRC); times in milliseconds, jitter as in RFC 3550, 6.4.1."""

    source: IPv4Address
    source_port: int
    target: IPv4Address
    target_port: int
    ssrc: int
    payload: str
    packets: int
    lost: int
    jitter_mean_ms: float
    jitter_max_ms: float


# tshark 4: start, end, source, port, destination, port, SSRC, payload, packets, lost (percent), then minimum, mean and
# maximum of the delta and of the jitter, and a mark for problems.
_ROW = re.compile(
    r"^\s*[\d.]+\s+[\d.]+\s+(?P<source>\S+)\s+(?P<sport>\d+)\s+(?P<target>\S+)\s+(?P<tport>\d+)\s+"
    r"(?P<ssrc>0x[0-9A-Fa-f]+)\s+(?P<payload>.+?)\s+(?P<packets>\d+)\s+(?P<lost>-?\d+)\s+\([^)]*\)\s+(?P<figures>.*)$"
)


def parse_streams(text: str) -> list[RtpStream]:
    """Return the streams in the output of `tshark -q -z rtp,streams`.

    Raises:
        CentralitaError: there is no such table in it.
    """
    if "RTP Streams" not in text:
        raise CentralitaError("tshark showed no table of RTP streams")
    streams = []
    for line in text.splitlines():
        row = _ROW.match(line)
        if row is None:
            continue
        figures = [float(word) for word in row["figures"].split() if re.fullmatch(r"-?[\d.]+", word)]
        streams.append(
            RtpStream(
                source=IPv4Address(row["source"]),
                source_port=int(row["sport"]),
                target=IPv4Address(row["target"]),
                target_port=int(row["tport"]),
                ssrc=int(row["ssrc"], 16),
                payload=row["payload"],
                packets=int(row["packets"]),
                lost=int(row["lost"]),
                jitter_mean_ms=figures[-2],
                jitter_max_ms=figures[-1],
            )
        )
    return streams


@dataclass
class Capture:
    """A capture under way or ended. `dropped` is how many packets the capture itself missed (known at its end)."""

    file: Path
    dropped: int | None = None
    _lines: list[str] = field(default_factory=list, repr=False)

    def streams(self) -> list[RtpStream]:
        """Return the RTP streams that were captured."""
        # Ports come from the SDP of the calls in the capture.
        done = run(["tshark", "-n", "-r", self.file, "-q", "-z", "rtp,streams"], timeout_s=120)
        return parse_streams(done.stdout)


@contextlib.contextmanager
def capture(network: LabNetwork, file: Path, *, ledger: Ledger | None = None) -> Iterator[Capture]:
    """Capture all UDP on the lab's bridge into `file` while inside.

    Raises:
        CentralitaError: the capture does not start.
    """
    result = Capture(file)
    changed = threading.Condition()
    argv = ["dumpcap", "-i", BRIDGE, "-B", "32", "-f", "udp", "-w", str(file)]
    with (ledger or ledgers.default()).process(
        network.argv(argv), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        stderr = process.stderr

        def read() -> None:
            for line in stderr:
                with changed:
                    result._lines.append(line.decode(errors="replace").rstrip())
                    changed.notify_all()
            with changed:
                result._lines.append("")
                changed.notify_all()

        reader = threading.Thread(target=read, name="dumpcap", daemon=True)
        reader.start()
        with changed:
            # The file's name comes once the socket is open.
            started = changed.wait_for(
                lambda: any(line.startswith("File:") or line == "" for line in result._lines), START_TIMEOUT_S
            )
            if not started or result._lines[-1] == "":
                raise CentralitaError("the capture did not start: " + " ".join(result._lines).strip())
        try:
            yield result
        finally:
            # dumpcap reads the kernel's ring every so often; what is in it must reach the file.
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            reader.join(5)
            result.dropped = _dropped("\n".join(result._lines))


def _dropped(text: str) -> int | None:
    counts = re.search(r"received/dropped on interface[^:]*: (\d+)/(\d+)", text)
    return int(counts[2]) if counts else None
