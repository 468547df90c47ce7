"""SIP phones that register, call, send and measure sound: the client of the phone agent, a process of its own.

All waiting is for events that the agent tells. Secrets go by the agent's stdin, never by argv or a file.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from types import TracebackType
from typing import IO, Any, TypeVar

from centralita.ground import ledger as ledgers
from centralita.ground.ledger import Ledger
from centralita.ground.paths import repo_root
from centralita.ground.run import environment
from centralita.lab import phone_library
from centralita.lab.net import LabNetwork
from centralita.lab.phone_events import CallEnd, Event, PhonesError, Registration, StreamStats

T = TypeVar("T")
MAX_CALLS = 4
STDERR = "phones.stderr"
PACKETS_PER_SECOND = 50  # G.711 with 20 ms a packet
ANSWER_S = 15.0


class Phones:
    """The phone agent in a lab network, as a context manager.

    One agent has at most eight phones and four calls at a time, the limits that PJSUA2's wheel was built with
    (PJSUA_MAX_ACC, PJSUA_MAX_CALLS); whoever wants more calls starts more agents, each with a `workdir` of its own.

    Example:
        >>> with Phones(network) as phones:  # doctest: +SKIP
        ...     anna = phones.add("101", registrar=pbx, secret=secret)
        ...     anna.wait_registered()
        ...     call = anna.call("*43", tone_hz=440, record=Path("echo.wav"))
        ...     call.wait_heard(3)
        ...     call.hangup()
    """

    def __init__(
        self,
        network: LabNetwork,
        *,
        workdir: Path,
        interpreter: phone_library.Interpreter | None = None,
        library: Path | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        self.network = network
        self.workdir = workdir
        self.events: list[Event] = []
        self._interpreter = interpreter
        self._library = library
        self._ledger = ledger or ledgers.default()
        self._changed = threading.Condition()
        self._stack = ExitStack()
        self._commands = 0
        self._stdin: IO[bytes] | None = None
        self._ended = True

    @property
    def log(self) -> Path:
        """The agent's own log, with all SIP messages."""
        return self.workdir / "phones.log"

    def __enter__(self) -> Phones:
        self.workdir.mkdir(parents=True, exist_ok=True)
        python = self._interpreter or phone_library.interpreter()
        argv = [*python.argv, "-B", "-m", "centralita.lab.phone_agent"]
        # Not this process's packages: the agent may run on another Python.
        path = f"{repo_root()}:{self._library or phone_library.library()}"
        stderr = self._stack.enter_context((self.workdir / STDERR).open("ab"))
        agent = self._stack.enter_context(
            self._ledger.process(
                self.network.argv(argv),
                env=environment({**python.environment, "PYTHONPATH": path}),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
            )
        )
        assert agent.stdin is not None and agent.stdout is not None
        self._stdin = agent.stdin
        self._ended = False
        threading.Thread(target=self._read, args=(agent.stdout,), name="phones", daemon=True).start()
        try:
            self.command("start", address=str(self.network.host_address), log=str(self.log))
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if not self._ended:
                self.command("quit")
                self.wait(lambda: self._ended or None, "the phone agent to end", timeout_s=5)
        except PhonesError:
            pass  # it is ended by force below
        finally:
            self._stack.close()

    def add(
        self,
        name: str,
        *,
        registrar: IPv4Address,
        secret: str,
        user: str | None = None,
        transport: str = "udp",
        register: bool = True,
        srtp: bool = False,
    ) -> Phone:
        """Add a phone. It registers at once unless told otherwise; `user` is its name unless given."""
        self.command(
            "phone",
            phone=name,
            user=user or name,
            secret=secret,
            registrar=str(registrar),
            transport=transport,
            register=register,
            srtp=srtp,
        )
        return Phone(self, name, registrar)

    def command(self, name: str, **arguments: object) -> Mapping[str, Any]:
        """Send a command and return the agent's answer.

        Raises:
            PhonesError: the agent refused it, ended, or did not answer within 15 s.
        """
        with self._changed:
            self._commands += 1
            number = self._commands
            assert self._stdin is not None
            try:
                self._stdin.write(json.dumps({"id": number, "cmd": name, **arguments}).encode() + b"\n")
                self._stdin.flush()
            except BrokenPipeError:
                self._ended = True
        reply = self.wait_event(
            lambda e: e.name == "reply" and e.data["id"] == number, f"an answer to {name}", ANSWER_S
        )
        if not reply.data["ok"]:
            raise PhonesError(f"the phone agent refused {name}: {reply.data['error']}", log=self.log)
        return reply.data

    def hangup_all(self) -> None:
        """End every call that is not over, and wait until all are."""
        with self._changed:
            told = [event.data for event in self.events if event.name in ("call", "incoming")]
        over = {data["call"] for data in told if data.get("state") == "disconnected"}
        for number in sorted({data["call"] for data in told} - over):
            with suppress(PhonesError):  # it is ending at this moment, by the other side
                Call(self, number).hangup()

    def wait(self, look: Callable[[], T | None], what: str, *, timeout_s: float) -> T:
        """Wait until `look`, asked at each event, returns something."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while (found := look()) is None:
                left_s = deadline - time.monotonic()
                if self._ended or left_s <= 0:
                    why = "the phone agent ended" if self._ended else f"not within {timeout_s:g} s"
                    raise self._error(f"waited for {what}, but {why}")
                self._changed.wait(left_s)
            return found

    def wait_event(self, wanted: Callable[[Event], bool], what: str, timeout_s: float, *, after: int = 0) -> Event:
        """Wait for an event among `events[after:]`."""
        place = after

        def look() -> Event | None:
            nonlocal place
            while place < len(self.events):
                place += 1
                if wanted(self.events[place - 1]):
                    return self.events[place - 1]
            return None

        return self.wait(look, what, timeout_s=timeout_s)

    def _error(self, message: str) -> PhonesError:
        if self._ended and (said := (self.workdir / STDERR).read_text(errors="replace").strip()):
            message += f"\nit said:\n    {said[-1500:]}\n"
        last = [f"    {e.name} {json.dumps(e.data, ensure_ascii=False)}" for e in self.events if e.name != "reply"][-8:]
        return PhonesError("\n".join([f"{message}; the last events:", *last]), log=self.log)

    def _read(self, stream: IO[bytes]) -> None:
        for line in stream:
            data: dict[str, Any] = json.loads(line)
            with self._changed:
                self.events.append(Event(data.pop("event"), data.pop("time"), data))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()


@dataclass(frozen=True)
class Phone:
    """One phone of the agent."""

    phones: Phones
    name: str
    registrar: IPv4Address

    def wait_registered(self, *, timeout_s: float = ANSWER_S) -> Registration:
        """Wait for the answer to the last REGISTER, and return it, accepted or refused."""
        event = self._await("registration", "the answer to its registration", timeout_s)
        return Registration(event.data["code"], event.data["reason"], event.data["active"])

    def register(self, active: bool = True, *, timeout_s: float = ANSWER_S) -> Registration:
        """Register again, or (not `active`) unregister; return the answer."""
        after = len(self.phones.events)
        self.phones.command("register", phone=self.name, active=active)
        event = self._await("registration", "the answer to its registration", timeout_s, after)
        return Registration(event.data["code"], event.data["reason"], event.data["active"])

    def when_called(self, code: int, *, tone_hz: float | None = None, record: Path | None = None) -> None:
        """Set what the phone does when called: 200 answers (sends a tone, records), 180 only rings, 486 is busy."""
        self.phones.command("policy", phone=self.name, code=code, **_plan(tone_hz, None, record))

    def call(
        self, target: str, *, tone_hz: float | None = None, play: Path | None = None, record: Path | None = None
    ) -> Call:
        """Call a number (or a whole SIP address); sounds go out as soon as there is a stream."""
        uri = target if target.startswith("sip:") else f"sip:{target}@{self.registrar}"
        answer = self.phones.command("call", phone=self.name, uri=uri, **_plan(tone_hz, play, record))
        return Call(self.phones, answer["call"])

    def wait_incoming(self, *, after: int = 0, timeout_s: float = ANSWER_S) -> Call:
        """Wait for a call that comes in, among `phones.events[after:]`, and return it."""
        return Call(self.phones, self._await("incoming", "a call", timeout_s, after).data["call"])

    def _await(self, name: str, what: str, timeout_s: float, after: int = 0) -> Event:
        return self.phones.wait_event(
            lambda event: event.name == name and event.data.get("phone") == self.name,
            f"phone {self.name} to get {what}",
            timeout_s,
            after=after,
        )


@dataclass(frozen=True)
class Call:
    """One call of the agent."""

    phones: Phones
    number: int

    def wait_state(self, *states: str, timeout_s: float = ANSWER_S) -> Event:
        """Wait until the call is in one of `states` (calling, early, connecting, confirmed, disconnected).

        Raises:
            PhonesError: not in time, or the call ended and that was not waited for.
        """
        event = self._await("call", f"to be {' or '.join(states)}", timeout_s, {"state": {*states, "disconnected"}})
        if event.data["state"] not in states:
            raise PhonesError(
                f"call {self.number} was to be {' or '.join(states)}, but ended: "
                f"{event.data['code']} {event.data['reason']}",
                log=self.phones.log,
            )
        return event

    def wait_answered(self, *, timeout_s: float = ANSWER_S) -> None:
        """Wait until the call is answered and there is sound."""
        self.wait_state("confirmed", timeout_s=timeout_s)
        self._await("media", "to have sound", timeout_s, {"active": {True}})

    @property
    def over(self) -> bool:
        """Whether the call has ended."""
        return any(
            event.name == "call" and event.data["call"] == self.number and event.data["state"] == "disconnected"
            for event in list(self.phones.events)
        )

    def wait_ended(self, *, timeout_s: float = ANSWER_S) -> CallEnd:
        """Wait until the call is over, and return how it ended."""
        data = self._await("call", "to end", timeout_s, {"state": {"disconnected"}}).data
        stats = StreamStats(**data["stats"]) if data["stats"] else None
        return CallEnd(data["code"], data["reason"], data["connected_s"], stats)

    def go_on(self, seconds: float) -> StreamStats:
        """Let the call go on until the phone has sent so many seconds of sound more; return the figures so far.

        A phone sends all the time; a PBX that listens, to a message or for digits, sends nothing.
        """
        wanted = self.stats().sent_packets + seconds * PACKETS_PER_SECOND
        return self._wait_packets(lambda stats: stats.sent_packets >= wanted, seconds * 3 + 10)

    def wait_heard(self, seconds: float, *, timeout_s: float | None = None) -> StreamStats:
        """Let the call go on until it has received so many seconds of sound in all; return the figures so far."""
        wanted = seconds * PACKETS_PER_SECOND
        return self._wait_packets(lambda stats: stats.received_packets >= wanted, timeout_s or seconds * 3 + 10)

    def _wait_packets(self, enough: Callable[[StreamStats], bool], timeout_s: float) -> StreamStats:
        deadline = time.monotonic() + timeout_s
        while not enough(stats := self.stats()):
            if self.over or time.monotonic() > deadline:
                why = "ended" if self.over else f"has been waited for for {timeout_s:g} s"
                raise PhonesError(f"call {self.number} {why} with too few packets: {stats}", log=self.phones.log)
            # Packets come every 20 ms without an event; this is how often they are counted.
            time.sleep(0.05)
        return stats

    def stats(self) -> StreamStats:
        """Return the stream's figures so far.

        Raises:
            PhonesError: the call has no stream.
        """
        found = self.phones.command("stats", call=self.number)["stats"]
        if found is None:
            raise PhonesError(f"call {self.number} has no sound", log=self.phones.log)
        return StreamStats(**found)

    def hangup(self, *, timeout_s: float = ANSWER_S) -> CallEnd:
        """End the call and return how it ended."""
        self.phones.command("hangup", call=self.number)
        return self.wait_ended(timeout_s=timeout_s)

    def answer(self, code: int = 200, *, tone_hz: float | None = None, record: Path | None = None) -> None:
        """Answer an incoming call."""
        self.phones.command("answer", call=self.number, code=code, **_plan(tone_hz, None, record))

    def tone(self, hz: float) -> None:
        """Send a sine until something else is sent."""
        self.phones.command("tone", call=self.number, hz=hz)

    def silence(self) -> None:
        """Send silence."""
        self.phones.command("silence", call=self.number)

    def play(self, wav: Path) -> None:
        """Send a WAV file once."""
        self.phones.command("play", call=self.number, wav=str(wav))

    def dtmf(self, digits: str, *, duration_ms: int = 160) -> None:
        """Send digits as telephone events (RFC 4733)."""
        self.phones.command("dtmf", call=self.number, digits=digits, duration_ms=duration_ms)

    def record(self, wav: Path) -> None:
        """Begin to record what is heard."""
        self.phones.command("record", call=self.number, wav=str(wav))

    def stop_record(self) -> Path:
        """End the recording and return the file, once it is whole."""
        self.phones.command("stop_record", call=self.number)
        return self.recorded()

    def recorded(self, *, timeout_s: float = ANSWER_S) -> Path:
        """Wait until the recording (ended by `stop_record` or with the call) is whole, and return it."""
        return Path(self._await("recorded", "its recording", timeout_s, {}).data["wav"])

    def hold(self, held: bool = True) -> None:
        """Put the other side on hold, or take it back."""
        self.phones.command("hold", call=self.number, held=held)

    def transfer(self, target: str | Call) -> None:
        """Transfer the other side to an address (blind) or to the other side of another call (attended)."""
        where = {"to_call": target.number} if isinstance(target, Call) else {"uri": target}
        self.phones.command("transfer", call=self.number, **where)

    def _await(self, name: str, what: str, timeout_s: float, values: Mapping[str, set[Any]]) -> Event:
        return self.phones.wait_event(
            lambda event: (
                event.name == name
                and event.data.get("call") == self.number
                and all(event.data.get(key) in wanted for key, wanted in values.items())
            ),
            f"call {self.number} {what}",
            timeout_s,
        )


def _plan(tone_hz: float | None, play: Path | None, record: Path | None) -> dict[str, object]:
    plan = {"tone_hz": tone_hz, "play": str(play) if play else None, "record": str(record) if record else None}
    return {key: value for key, value in plan.items() if value is not None}
