"""The agent's commands and its loop; see the package.

Every command carries an `id` and is answered by one event `{"event": "reply", "id": …, "ok": …}`. What happens to
registrations, calls and media is told by events of their own.

PJSUA2 is driven by the main thread alone (no worker threads): its callbacks then never meet Python's other threads.
"""

from __future__ import annotations

import ctypes
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import pjsua2 as pj

from centralita.lab.phone_agent.calls import CLOCK_RATE_HZ, Call, Json, Phone

WAV_HEADER_BYTES = 44
FRAME_MS = 20


class Agent:
    """All phones of this process."""

    def __init__(self, events: TextIO) -> None:
        self.events = events
        self.endpoint = pj.Endpoint()
        self.address = ""
        self.phones: dict[str, Phone] = {}
        self.calls: dict[int, Call] = {}
        self._calls_made = 0
        self._dead: list[tuple[float, Any]] = []
        self._recordings: list[tuple[float, int, str]] = []
        self._running = True

    def tell(self, event: str, **details: object) -> None:
        """Send an event."""
        self.events.write(json.dumps({"event": event, "time": time.monotonic(), **details}) + "\n")
        self.events.flush()

    def next_call_number(self) -> int:
        """A number that no other call of this process has; PJSUA reuses its own."""
        self._calls_made += 1
        return self._calls_made

    def discard(self, port: Any) -> None:  # noqa: ANN401
        """Let go of a port outside the callback that may be using it."""
        self._dead.append((time.monotonic() + 0.1, port))

    def end(self, call: Call) -> None:
        """Forget a call outside its own callback."""
        self._dead.append((time.monotonic() + 0.2, call))

    def await_recording(self, call: int, wav: str) -> None:
        """Tell when the file is whole: the bridge closes it later, in a thread of its own."""
        self._recordings.append((time.monotonic(), call, wav))

    def run(self, commands: queue.Queue[Json | None]) -> None:
        """Serve until told to quit or stdin ends."""
        while self._running:
            self.endpoint.libHandleEvents(5) if self.address else time.sleep(0.005)
            self._tidy()
            try:
                while True:
                    command = commands.get_nowait()
                    if command is None:
                        return
                    self._serve(command)
            except queue.Empty:
                pass

    def _tidy(self) -> None:
        now = time.monotonic()
        self._dead = [(when, thing) for when, thing in self._dead if when > now]
        for entry in list(self._recordings):
            since, call, wav = entry
            # The header is written last. It stays zeroed in some versions: then two seconds must do.
            whole = _data_bytes(wav) > 0
            if (whole and now > since + 0.15) or now > since + 2:
                self._recordings.remove(entry)
                self.tell("recorded", call=call, wav=wav, whole=whole)

    def _serve(self, command: Json) -> None:
        identifier = command.pop("id", None)
        name = command.pop("cmd", "")
        handler: Callable[..., Json | None] | None = getattr(self, f"do_{name}", None)
        try:
            if handler is None:
                raise ValueError(f"unknown command {name!r}")
            self.tell("reply", id=identifier, ok=True, **(handler(**command) or {}))
        except pj.Error as error:
            self.tell("reply", id=identifier, ok=False, error=error.info().replace("\n", " "))
        except (AttributeError, KeyError, TypeError, ValueError, OSError) as error:
            self.tell("reply", id=identifier, ok=False, error=f"{type(error).__name__}: {error}")

    def do_start(self, address: str, log: str | None = None) -> Json:
        """Start PJSUA on a local address. `log` gets its own log, with SIP messages."""
        config = pj.EpConfig()
        config.uaConfig.threadCnt = 0
        config.uaConfig.mainThreadOnly = True
        config.uaConfig.userAgent = "Centralita lab phone"
        config.medConfig.clockRate = CLOCK_RATE_HZ
        config.medConfig.sndClockRate = CLOCK_RATE_HZ
        config.medConfig.noVad = True
        config.medConfig.ecTailLen = 0
        # What is recorded shall lack what was lost, not what a crowded or emulated host delivered late.
        config.medConfig.jbInit = config.medConfig.jbMinPre = 10 * FRAME_MS
        config.medConfig.jbMaxPre, config.medConfig.jbMax = 20 * FRAME_MS, 50 * FRAME_MS
        # The binding has no value for "discard nothing" (0, pjmedia_jb_discard_algo), only a pointer to the default's.
        algorithm = config.medConfig.jbDiscardAlgo
        ctypes.c_int.from_address(int(algorithm)).value = 0
        config.medConfig.jbDiscardAlgo = algorithm
        config.logConfig.consoleLevel = 0
        config.logConfig.level = 4 if log else 0
        config.logConfig.msgLogging = 1
        if log:
            config.logConfig.filename = log
        self.endpoint.libCreate()
        self.endpoint.libInit(config)
        self.endpoint.audDevManager().setNullDev()
        self.endpoint.libStart()
        # A-law first, as in Europe; both forms of G.711 and nothing else, so that a tone stays what it is.
        for codec in self.endpoint.codecEnum2():
            priority = {"PCMA/8000": 255, "PCMU/8000": 254}
            self.endpoint.codecSetPriority(
                codec.codecId, next((p for c, p in priority.items() if codec.codecId.startswith(c)), 0)
            )
        self.address = address
        return {"version": self.endpoint.libVersion().full}

    def do_phone(
        self,
        phone: str,
        user: str,
        secret: str,
        registrar: str,
        transport: str = "udp",
        register: bool = True,
        mwi: bool = False,
        srtp: bool = False,
    ) -> Json:
        """Add a phone; it registers at once unless told otherwise. Events: `registration`."""
        if phone in self.phones:
            raise ValueError(f"there is a phone {phone} already")
        kinds = {"udp": pj.PJSIP_TRANSPORT_UDP, "tcp": pj.PJSIP_TRANSPORT_TCP, "tls": pj.PJSIP_TRANSPORT_TLS}
        transport_config = pj.TransportConfig()
        transport_config.boundAddress = self.address
        parameter = "" if transport == "udp" else f";transport={transport}"
        config = pj.AccountConfig()
        config.idUri = f"sip:{user}@{registrar}"
        config.regConfig.registrarUri = f"sip:{registrar}{parameter}"
        config.regConfig.registerOnAdd = register
        # As a desk phone does when nobody answers; a refusal is final.
        config.regConfig.retryIntervalSec = 10
        config.regConfig.timeoutSec = 300
        if parameter:
            config.sipConfig.proxies.append(f"sip:{registrar};lr{parameter}")
        if secret:
            config.sipConfig.authCreds.append(
                pj.AuthCredInfo("digest", "*", user, pj.PJSIP_CRED_DATA_PLAIN_PASSWD, secret)
            )
        config.sipConfig.transportId = self.endpoint.transportCreate(kinds[transport], transport_config)
        config.mwiConfig.enabled = mwi
        config.mediaConfig.transportConfig.boundAddress = self.address
        config.mediaConfig.srtpUse = pj.PJMEDIA_SRTP_MANDATORY if srtp else pj.PJMEDIA_SRTP_DISABLED
        config.mediaConfig.srtpSecureSignaling = 0
        config.callConfig.timerUse = pj.PJSUA_SIP_TIMER_INACTIVE
        account = Phone(self, phone)
        account.create(config)
        self.phones[phone] = account
        return {}

    def do_register(self, phone: str, active: bool = True) -> None:
        """Register again, or (not `active`) unregister."""
        self.phones[phone].setRegistration(active)

    def do_policy(self, phone: str, code: int, **plan: object) -> None:
        """What to do when called: 200 answers (and follows the plan), 180 rings, anything from 300 refuses."""
        self.phones[phone].policy = {"code": code, **plan}

    def do_call(self, phone: str, uri: str, **plan: object) -> Json:
        """Call; the plan (`tone_hz`, `play`, `record`) is followed as soon as there is sound."""
        call = Call(self, self.phones[phone])
        self.calls[call.number] = call
        operation = pj.CallOpParam(True)
        operation.opt.audioCount, operation.opt.videoCount = 1, 0
        call.follow(plan)
        call.makeCall(uri, operation)
        return {"call": call.number}

    def do_answer(self, call: int, code: int = 200, **plan: object) -> None:
        """Answer an incoming call with this status."""
        operation = pj.CallOpParam()
        operation.statusCode = code
        self.calls[call].follow(plan)
        self.calls[call].answer(operation)

    def do_hangup(self, call: int, code: int = 0) -> None:
        """End, cancel or refuse a call."""
        operation = pj.CallOpParam()
        operation.statusCode = code
        self.calls[call].hangup(operation)

    def do_tone(self, call: int, hz: float) -> None:
        """Send a sine."""
        self.calls[call].tone(hz)

    def do_play(self, call: int, wav: str) -> None:
        """Send a file."""
        self.calls[call].play(wav)

    def do_silence(self, call: int) -> None:
        """Send nothing any more."""
        self.calls[call].silence()

    def do_record(self, call: int, wav: str) -> None:
        """Begin a recording."""
        self.calls[call].record(wav)

    def do_stop_record(self, call: int) -> None:
        """End the recording. Event: `recorded`."""
        self.calls[call].stop_record()

    def do_dtmf(self, call: int, digits: str, duration_ms: int = 160) -> None:
        """Send digits as telephone events (RFC 4733)."""
        parameters = pj.CallSendDtmfParam()
        parameters.digits = digits
        parameters.duration = duration_ms
        parameters.method = pj.PJSUA_DTMF_METHOD_RFC2833
        self.calls[call].sendDtmf(parameters)

    def do_stats(self, call: int) -> Json:
        """The stream's figures."""
        return {"stats": self.calls[call].current_stats()}

    def do_hold(self, call: int, held: bool = True) -> None:
        """Put on hold, or take back."""
        operation = pj.CallOpParam(True)
        if held:
            self.calls[call].setHold(operation)
        else:
            operation.opt.flag = pj.PJSUA_CALL_UNHOLD
            self.calls[call].reinvite(operation)

    def do_transfer(self, call: int, uri: str | None = None, to_call: int | None = None) -> None:
        """Transfer to an address (blind) or to the other side of another call (attended). Event: `transfer`."""
        operation = pj.CallOpParam(True)
        if to_call is not None:
            self.calls[call].xferReplaces(self.calls[to_call], operation)
        elif uri is not None:
            self.calls[call].xfer(uri, operation)
        else:
            raise ValueError("a transfer needs an address or another call")

    def do_quit(self) -> None:
        """End all calls and this process."""
        self.endpoint.hangupAllCalls()
        self._running = False


def _data_bytes(wav: str) -> int:
    """How many bytes of sound the header of a WAV file promises."""
    try:
        with Path(wav).open("rb") as stream:
            header = stream.read(WAV_HEADER_BYTES)
    except OSError:
        return 0
    return int.from_bytes(header[40:44], "little") if len(header) == WAV_HEADER_BYTES else 0


def _read_commands(commands: queue.Queue[Json | None]) -> None:
    for line in sys.stdin:
        if line.strip():
            commands.put(json.loads(line))
    commands.put(None)


def main() -> None:
    """Run the agent. PJLIB writes to stdout before it can be told not to, so events get a descriptor of their own."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    commands: queue.Queue[Json | None] = queue.Queue()
    threading.Thread(target=_read_commands, args=(commands,), daemon=True).start()
    agent = Agent(events)
    status = 1
    try:
        agent.tell("ready", python=sys.version.split()[0])
        agent.run(commands)
        # BYE and the end of recordings still go out.
        deadline = time.monotonic() + 0.5
        while agent.address and time.monotonic() < deadline:
            agent.endpoint.libHandleEvents(10)
        status = 0
    finally:
        # PJSUA's destructors run in an order of their own at exit and crash; nothing of ours is left to be done.
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
