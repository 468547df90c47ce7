"""What the phones tell: events as they come, and figures and results made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from centralita.ground.errors import CentralitaError


class PhonesError(CentralitaError):
    """A phone did not do what was waited for; the message ends with the agent's last events."""


@dataclass(frozen=True)
class Event:
    """Something that the agent told; `time_s` is its own monotonic clock."""

    name: str
    time_s: float
    data: Mapping[str, Any]


@dataclass(frozen=True)
class StreamStats:
    """An audio stream's figures (RFC 3550); `sent_lost_packets` is what the other side reported as missing."""

    sent_packets: int
    sent_lost_packets: int
    received_packets: int
    received_lost_packets: int
    received_discarded_packets: int
    received_reordered_packets: int
    received_duplicate_packets: int
    jitter_mean_ms: float
    jitter_max_ms: float
    round_trip_ms: float


@dataclass(frozen=True)
class Registration:
    """How a registration attempt ended."""

    code: int
    reason: str
    active: bool


@dataclass(frozen=True)
class CallEnd:
    """How a call ended. `connected_s` is 0 for one that was never answered, and has no `stats` then."""

    code: int
    reason: str
    connected_s: float
    stats: StreamStats | None
