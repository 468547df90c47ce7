"""Calls and phones as PJSUA2 sees them: its callbacks become events."""

from __future__ import annotations

from typing import Any, Protocol

import pjsua2 as pj

Json = dict[str, Any]
CLOCK_RATE_HZ = 8000
# Of full scale (32767); about -9 dBm0, well above the noise of G.711 and below its clipping.
TONE_VOLUME = 12000
STATES = {
    pj.PJSIP_INV_STATE_CALLING: "calling",
    pj.PJSIP_INV_STATE_INCOMING: "incoming",
    pj.PJSIP_INV_STATE_EARLY: "early",
    pj.PJSIP_INV_STATE_CONNECTING: "connecting",
    pj.PJSIP_INV_STATE_CONFIRMED: "confirmed",
    pj.PJSIP_INV_STATE_DISCONNECTED: "disconnected",
}


class Teller(Protocol):
    """What calls and phones need of the agent that holds them."""

    calls: dict[int, Call]

    def tell(self, event: str, **details: object) -> None:
        """Send an event."""

    def next_call_number(self) -> int:
        """A number that no other call of this process has; PJSUA reuses its own."""

    def discard(self, port: Any) -> None:  # noqa: ANN401
        """Let go of a port outside the callback that may be using it."""

    def end(self, call: Call) -> None:
        """Forget a call outside its own callback."""

    def await_recording(self, call: int, wav: str) -> None:
        """Tell when the file is whole: the bridge closes it later, in a thread of its own."""


def stream_stats(call: pj.Call, index: int) -> Json:
    """Packets, losses and jitter of one audio stream, as RTCP counts them (RFC 3550, 6.4 and appendix A)."""
    stat = call.getStreamStat(index)
    received, sent = stat.rtcp.rxStat, stat.rtcp.txStat
    return {
        "sent_packets": sent.pkt,
        # What the other side reported as missing.
        "sent_lost_packets": sent.loss,
        "received_packets": received.pkt,
        "received_lost_packets": received.loss,
        "received_discarded_packets": received.discard,
        "received_reordered_packets": received.reorder,
        "received_duplicate_packets": received.dup,
        "jitter_mean_ms": received.jitterUsec.mean / 1000,
        "jitter_max_ms": received.jitterUsec.max / 1000,
        "round_trip_ms": stat.rtcp.rttUsec.mean / 1000,
    }


class Call(pj.Call):  # type: ignore[misc]
    """A call with its sources of sound and its recorder."""

    def __init__(self, agent: Teller, phone: Phone, call_id: int = pj.INVALID_ID) -> None:
        super().__init__(phone, call_id)
        self.agent = agent
        self.phone = phone
        self.number = agent.next_call_number()
        self.ports: dict[str, Any] = {}
        self.recording: str | None = None
        self.stats: Json | None = None

    def audio(self) -> pj.AudioMedia | None:
        """The active audio stream's port on the bridge; None before the call is made and while it has no sound."""
        if self.getId() == pj.INVALID_ID:
            return None
        info = self.getInfo()  # keeps `media` alive: a SWIG vector does not hold on to what it is a part of
        for index, media in enumerate(info.media):
            if media.type == pj.PJMEDIA_TYPE_AUDIO and self.getMedia(index) is not None:
                return pj.AudioMedia.typecastFromMedia(self.getMedia(index))
        return None

    def attach(self, name: str, port: Any) -> None:  # noqa: ANN401
        """Keep a port and connect it now, or when the media comes."""
        self.ports[name] = port
        self.connect()

    def connect(self) -> None:
        """Connect all ports with the call's stream; again after each re-INVITE."""
        audio = self.audio()
        if audio is None:
            return
        # The microphone of a null device: silence, without which a stream that has no source would send nothing.
        pj.Endpoint.instance().audDevManager().getCaptureDevMedia().startTransmit(audio)
        for name, port in self.ports.items():
            if name == "record":
                audio.startTransmit(port)
            else:
                port.startTransmit(audio)

    def follow(self, plan: Json) -> None:
        """Do what is to be done as soon as there is sound: send a tone or a file, record."""
        if plan.get("record"):
            self.record(plan["record"])
        if plan.get("tone_hz"):
            self.tone(float(plan["tone_hz"]))
        if plan.get("play"):
            self.play(plan["play"])

    def tone(self, hz: float) -> None:
        """Send a sine until something else is sent."""
        generator = pj.ToneGenerator()
        generator.createToneGenerator(CLOCK_RATE_HZ, 1)
        tone = pj.ToneDesc()
        tone.freq1, tone.freq2 = round(hz), 0
        tone.on_msec, tone.off_msec = 1000, 0
        tone.volume = TONE_VOLUME
        tones = pj.ToneDescVector()
        tones.append(tone)
        generator.play(tones, True)
        self.silence()
        self.attach("source", generator)

    def play(self, wav: str) -> None:
        """Send a file once; the event `played` tells its end."""
        player = Player(self)
        player.createPlayer(wav, pj.PJMEDIA_FILE_NO_LOOP)
        self.silence()
        self.attach("source", player)

    def silence(self) -> None:
        """Send nothing any more."""
        source = self.ports.pop("source", None)
        if isinstance(source, pj.ToneGenerator):
            source.stop()
        if source is not None:
            self.agent.discard(source)

    def record(self, wav: str) -> None:
        """Write what is heard into a file (16 bit, mono, 8 kHz) until the call ends or `stop_record` comes."""
        if "record" in self.ports:
            raise ValueError(f"call {self.number} is being recorded already")
        recorder = pj.AudioMediaRecorder()
        recorder.createRecorder(wav)
        self.recording = wav
        self.attach("record", recorder)

    def stop_record(self) -> None:
        """End the recording; the event `recorded` tells when the file is whole."""
        recorder = self.ports.pop("record", None)
        if recorder is None or self.recording is None:
            return
        self.agent.discard(recorder)
        del recorder
        self.agent.await_recording(self.number, self.recording)
        self.recording = None

    def current_stats(self) -> Json | None:
        """The stream's figures now, or the last ones of an ended call."""
        if self.isActive() and self.hasMedia():
            self.stats = stream_stats(self, 0)
        return self.stats

    def onCallState(self, _prm: pj.OnCallStateParam) -> None:
        """PJSUA2 callback."""
        info = self.getInfo()
        state = STATES.get(info.state, "null")
        event: Json = {"state": state, "code": info.lastStatusCode, "reason": info.lastReason}
        if state == "disconnected":
            self.silence()
            self.stop_record()
            event["stats"] = self.stats
            event["connected_s"] = info.connectDuration.sec + info.connectDuration.msec / 1000
        self.agent.tell("call", call=self.number, phone=self.phone.name, **event)
        if state == "disconnected":
            self.agent.end(self)

    def onCallMediaState(self, _prm: pj.OnCallMediaStateParam) -> None:
        """PJSUA2 callback."""
        active, held, codec = False, False, None
        info = self.getInfo()
        for index, media in enumerate(info.media):
            if media.type == pj.PJMEDIA_TYPE_AUDIO:
                active = active or media.status == pj.PJSUA_CALL_MEDIA_ACTIVE
                held = held or media.status in (pj.PJSUA_CALL_MEDIA_LOCAL_HOLD, pj.PJSUA_CALL_MEDIA_REMOTE_HOLD)
                if active:
                    codec = self.getStreamInfo(index).codecName
        if active:
            self.connect()
        self.agent.tell("media", call=self.number, phone=self.phone.name, active=active, held=held, codec=codec)

    def onStreamDestroyed(self, prm: pj.OnStreamDestroyedParam) -> None:
        """PJSUA2 callback: the last moment at which the stream's figures can be read."""
        try:
            self.stats = stream_stats(self, prm.streamIdx)
        except pj.Error as error:
            self.agent.tell("warning", call=self.number, text=f"no figures of the stream: {error.info()}")

    def onDtmfDigit(self, prm: pj.OnDtmfDigitParam) -> None:
        """PJSUA2 callback."""
        self.agent.tell("dtmf", call=self.number, phone=self.phone.name, digit=prm.digit)

    def onCallTransferStatus(self, prm: pj.OnCallTransferStatusParam) -> None:
        """PJSUA2 callback."""
        self.agent.tell(
            "transfer", call=self.number, code=prm.statusCode, reason=prm.reason, final=bool(prm.finalNotify)
        )


class Player(pj.AudioMediaPlayer):  # type: ignore[misc]
    """A file being sent."""

    def __init__(self, call: Call) -> None:
        super().__init__()
        self.agent = call.agent
        self.call = call.number

    def onEof2(self) -> None:
        """PJSUA2 callback."""
        self.agent.tell("played", call=self.call)


class Phone(pj.Account):  # type: ignore[misc]
    """A phone: an account on a transport of its own, and what it does when it is called."""

    def __init__(self, agent: Teller, name: str) -> None:
        super().__init__()
        self.agent = agent
        self.name = name
        self.policy: Json = {"code": 200}

    def onRegState(self, prm: pj.OnRegStateParam) -> None:
        """PJSUA2 callback."""
        active = bool(self.getInfo().regIsActive)
        self.agent.tell("registration", phone=self.name, code=prm.code, reason=prm.reason, active=active)

    def onIncomingCall(self, prm: pj.OnIncomingCallParam) -> None:
        """PJSUA2 callback."""
        call = Call(self.agent, self, prm.callId)
        self.agent.calls[call.number] = call
        info = call.getInfo()
        self.agent.tell("incoming", phone=self.name, call=call.number, remote=info.remoteUri, local=info.localUri)
        operation = pj.CallOpParam()
        operation.statusCode = int(self.policy["code"])
        if operation.statusCode == 200:
            call.follow(self.policy)
        call.answer(operation)

    def onMwiInfo(self, prm: pj.OnMwiInfoParam) -> None:
        """PJSUA2 callback: messages waiting (RFC 3842)."""
        body = prm.rdata.wholeMsg.partition("\r\n\r\n")[2]
        self.agent.tell("mwi", phone=self.name, body=body)
