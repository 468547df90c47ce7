"""What an office has beside its extensions: groups, queues, menus, conferences, paging, parking, schedules, music."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from centralita.spec.rules import person_name, range_of_numbers
from centralita.spec.types import AsWritten, Line, Model, matching
from centralita.spec.words import (
    Code,
    DestinationText,
    Email,
    HostName,
    Number,
    PinValue,
    Secret,
    Slug,
    Sound,
)

Name = Annotated[Line, AfterValidator(person_name)]
AudioFile = Annotated[
    str,
    matching(
        r"[^\x00-\x1f]{1,200}\.(wav|gsm|ulaw|alaw|sln)",
        "a sound file that Asterisk plays",
        "a path ending in .wav (8 kHz, 16 bit, mono), .gsm, .ulaw, .alaw or .sln",
    ),
]
Key = Annotated[str, AsWritten, matching(r"[0-9*#]", "a key of a telephone", "one of 0-9, * and #")]
Hours = Annotated[
    str,
    matching(
        r"([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9]", "a time of day", 'quote it: "09:00-18:00"'
    ),
]
_DAY = r"(mon|tue|wed|thu|fri|sat|sun)(-(mon|tue|wed|thu|fri|sat|sun))?"
Days = Annotated[
    str, matching(rf"{_DAY}(,{_DAY}){{0,6}}", "days of the week", "days and spans of days: mon-fri, or mon,wed,fri-sun")
]
Date = Annotated[
    str,
    AsWritten,
    matching(
        r"([0-9]{4}-)?(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])",
        "a date",
        'one day as "2026-12-25", each year\'s as "12-25"',
    ),
]
Slots = Annotated[
    str, matching(r"[0-9]{1,9}-[0-9]{1,9}", "a range of numbers", "e.g. 701-720"), AfterValidator(range_of_numbers)
]
SIZES = Annotated[int, Field(ge=2, le=500)]


class Prompt(Model):
    """What is played: one of a file, a text that a speech synthesiser reads, or prompts that Asterisk has."""

    file: AudioFile | None = Field(None, description="A sound file, relative to this file.", examples=["welcome.wav"])
    text: Line | None = Field(None, max_length=2000, description="Read aloud by espeak-ng.", examples=["Welcome."])
    sounds: tuple[Sound, ...] = Field((), max_length=20, description="Prompts of Asterisk.", examples=["vm-intro"])


class Group(Model):
    """Extensions that ring together, or one after the other."""

    number: Number = Field(examples=["600"])
    name: Name = Field(min_length=1, examples=["Sales"])
    members: tuple[DestinationText | Number, ...] = Field(min_length=1, max_length=50, examples=["101"])
    strategy: Literal["ring-all", "hunt"] = Field("ring-all", examples=["ring-all"])
    ring_seconds: int = Field(25, ge=5, le=300, description="All of them; with hunt, each.", examples=[25])
    fallback: DestinationText = Field("hangup", description="Where a call goes that nobody answers.")


class Queue(Model):
    """Calls that wait for agents."""

    number: Number = Field(examples=["700"])
    name: Name = Field(min_length=1, examples=["Support"])
    strategy: Literal["ring-all", "least-recent", "fewest-calls", "random", "round-robin", "in-order"] = "ring-all"
    agents: tuple[Number, ...] = Field((), max_length=500, description="Extensions that always serve.", examples=[101])
    dynamic_agents: tuple[Number, ...] = Field((), description="Extensions that may log in and out by code.")
    penalties: dict[Number, Annotated[int, Field(ge=0, le=100)]] = Field(
        default_factory=dict,
        description="An agent's calls come only while none with a smaller figure is free; 0 if left out.",
        examples=['{"102": 1}'],
    )
    ring_seconds: int = Field(20, ge=5, le=300, description="How long an agent rings at a time.")
    max_wait_seconds: int = Field(600, ge=10, le=14400, description="Then the call goes to the fallback.")
    max_callers: int = Field(0, ge=0, le=1000, description="0: no limit.")
    wrap_up_seconds: int = Field(0, ge=0, le=600)
    music: Slug | None = Field(None, description="Music on hold; `default` if left out.")
    announce_position: bool = False
    greeting: Prompt | None = Field(None, description="Played before the call waits.")
    keys: dict[Key, DestinationText] = Field(default_factory=dict, description="Keys that a waiting caller may press.")
    join_empty: bool = Field(True, description="Whether calls wait while no agent is there.")
    record: bool = False
    fallback: DestinationText = Field("hangup", description="Where a call goes that waited too long.")


class Menu(Model):
    """An automatic attendant."""

    number: Number = Field(examples=["900"])
    name: Name = Field(min_length=1, examples=["Main menu"])
    prompt: Prompt
    keys: dict[Key, DestinationText] = Field(default_factory=dict, examples=['{"1": "queue:700"}'])
    direct_dial: bool = Field(False, description="Callers may dial any extension.")
    also: tuple[DestinationText, ...] = Field((), description="Further numbers that callers may dial.")
    wait_seconds: int = Field(5, ge=1, le=60, description="How long it waits for a key after the prompt.")
    repeats: int = Field(2, ge=0, le=10, description="How often it plays the prompt again.")
    fallback: DestinationText = Field("hangup", description="Where a caller goes who presses nothing.")


class Conference(Model):
    """A conference room."""

    number: Number = Field(examples=["800"])
    name: Name = Field(min_length=1, examples=["Board"])
    pin: PinValue | None = Field(None, repr=False, description="Asked of everybody who enters.")
    moderator_pin: PinValue | None = Field(
        None, repr=False, description="Who enters it leads: until then the others wait with music. The rest press #."
    )
    max_members: int = Field(50, ge=2, le=500)
    record: bool = False
    announce: bool = Field(True, description="Tell how many are in.")


class Page(Model):
    """Phones that answer on their own and play what is said."""

    number: Number = Field(examples=["500"])
    name: Name = Field(min_length=1, examples=["All phones"])
    members: tuple[Number, ...] = Field(min_length=1, max_length=200, examples=["101"])
    duplex: bool = Field(False, description="Those who are paged may answer.")


class Fax(Model):
    """A fax machine that sends what it receives by e-mail, as PDF."""

    number: Number = Field(description="What is dialled inside; `fax:570` is its destination.", examples=["570"])
    name: Name = Field(min_length=1, examples=["Fax"])
    email: Email = Field(description="Where faxes are sent, by the server under `mail`.", examples=["fax@example.com"])


class Parking(Model):
    """Where calls are parked."""

    number: Number = Field("700", description="A call is transferred here.", examples=["700"])
    slots: Slots = "701-720"
    seconds: int = Field(120, ge=10, le=3600, description="Then it comes back to who parked it.")


class OpenHours(Model):
    """Hours of opening on some days of the week."""

    days: Days = Field(examples=["mon-fri"])
    time: Hours = Field(examples=['"09:00-18:00"'])


class Holiday(Model):
    """A day on which the office is closed."""

    date: Date = Field(description='"2026-12-25", or each year "12-25".', examples=['"12-25"'])
    until: Date | None = Field(None, description="The last day, where it is more than one.", examples=['"12-31"'])
    name: Line = Field("", max_length=80)


class Schedule(Model):
    """Where calls go at which time, and the code by which the office closes early."""

    name: Slug = Field(examples=["office"])
    hours: tuple[OpenHours, ...] = Field(min_length=1, max_length=50)
    holidays: tuple[Holiday, ...] = Field((), max_length=200)
    open: DestinationText
    closed: DestinationText
    holiday: DestinationText | None = Field(None, description="On holidays; as closed if left out.")
    night_code: Code | None = Field(None, description="Switches night mode on and off; its lamp can be watched.")


class Music(Model):
    """A class of music on hold."""

    name: Slug = Field(examples=["jazz"])
    files: tuple[AudioFile, ...] = Field(min_length=1, max_length=50, examples=["jazz.wav"])


class VoicemailAccess(Model):
    """Numbers by which mailboxes are opened, beside the code \\*97."""

    number: Number | None = Field(None, description="Opens the caller's own mailbox.", examples=["8000"])
    pin_inside: bool = Field(True, description="Whether the caller's own phone must give the PIN.")


class Mail(Model):
    """The server that takes the e-mail with new voicemail."""

    host: HostName = Field(examples=["smtp.example.com"])
    port: int = Field(587, ge=1, le=65535)
    sender: Email = Field(examples=["pbx@example.com"])
    tls: Literal["starttls", "tls", "none"] = "starttls"
    user: Line | None = None
    password: Secret | None = Field(None, repr=False)


class Codes(Model):
    """The codes of the PBX's own services."""

    voicemail: Code = "*97"
    echo: Code = "*43"
    forward_on: Code = "*72"
    forward_off: Code = "*73"
    dnd_on: Code = "*78"
    dnd_off: Code = "*79"
    directory: Code = "*411"
    queue_login: Code = Field("*45", description="Followed by a queue's number: log in.")
    queue_logout: Code = Field("*46", description="Followed by a queue's number: log out.")
