"""Runs in dom0 and does what the lab asks, over a virtio port: one JSON object a line in each direction.

Requests: ``{"id": 1, "op": "run", "argv": [...], "timeout_s": 60}``,
``{"id": 2, "op": "write", "path": …, "data": base64}``,
``{"id": 3, "op": "link", "serial": …, "path": …}`` (name the disk of that serial number).
``{"id": 4, "op": "domains"}``, ``{"id": 5, "op": "clock", "seconds": …}`` (set dom0's clock, and by it Xen's).
Answers have the request's id. Events have none: ``{"event": "console", "log": …, "data": base64}`` as guests and the
toolstack write their logs, and ``{"event": "domains", "domains": [...]}`` whenever a domain begins, ends or crashes.

Standard library and Xen's own bindings only; this file is not imported by anything.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

sys.path.insert(0, str(next(Path("/usr/lib").glob("xen-4.*/lib/python"))))

PORT_NAME = "org.centralita.dom0"
LOG_FOLDERS = (Path("/var/log/xen/console"), Path("/var/log/xen"))
POLL_S = 0.2
# virtio's own limit of a message is far higher; a long line would only be late.
CHUNK_BYTES = 24_000
SHUTDOWN_REASONS = ("poweroff", "reboot", "suspend", "crash", "watchdog", "soft-reset")

Message = dict[str, Any]


def port() -> str:
    """The device of the control port."""
    for name in sorted(Path("/sys/class/virtio-ports").iterdir()):
        if (name / "name").is_file() and (name / "name").read_text().strip() == PORT_NAME:
            return f"/dev/{name.name}"
    raise SystemExit(f"no virtio port {PORT_NAME}")


class Agent:
    """The port, shared by all who write to it."""

    def __init__(self) -> None:
        self._port = os.open(port(), os.O_RDWR)
        self._lock = threading.Lock()
        self.domains: list[Message] = []

    def send(self, message: Message) -> None:
        """Write one line."""
        line = json.dumps(message).encode() + b"\n"
        with self._lock:
            while line:
                line = line[os.write(self._port, line[:4096]) :]

    def tell_domains(self) -> None:
        """Send the list of domains, if it is another one than before."""
        now = domain_list()
        if now != self.domains:
            self.domains = now
            self.send({"event": "domains", "domains": now})

    def serve(self) -> None:
        """Read requests for ever; each is done in a thread of its own."""
        rest = b""
        while True:
            data = os.read(self._port, 65536)
            if not data:  # nobody is at the other end yet, or any more
                time.sleep(POLL_S)
                continue
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                threading.Thread(target=self.answer, args=(json.loads(line),), daemon=True).start()

    def answer(self, request: Message) -> None:
        """Do one request; what goes wrong is the answer."""
        answer: Message = {"id": request["id"]}
        try:
            answer.update(OPERATIONS[request["op"]](request))
        except Exception as error:  # whatever it is, the lab must hear of it
            answer["error"] = f"{type(error).__name__}: {error}"
        self.send(answer)


def run(request: Message) -> Message:
    """Run a program to its end; what it leaves running must have another output."""
    timeout_s = request.get("timeout_s")
    try:
        done = subprocess.run(
            request["argv"], stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        said = (error.stderr or b"").decode(errors="replace")
        return {"error": f"{' '.join(request['argv'])} took longer than {timeout_s:g} s {said}"}
    return {
        "returncode": done.returncode,
        "stdout": done.stdout.decode(errors="replace"),
        "stderr": done.stderr.decode(errors="replace"),
    }


def write(request: Message) -> Message:
    """Write a file."""
    path = Path(request["path"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(base64.b64decode(request["data"]))
    return {}


def link(request: Message) -> Message:
    """Make a name for the disk with a serial number."""
    for disk in Path("/sys/block").iterdir():
        serial = disk / "serial"
        if serial.is_file() and serial.read_text().strip() == request["serial"]:
            path = Path(request["path"])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            path.symlink_to(f"/dev/{disk.name}")
            return {"device": f"/dev/{disk.name}"}
    return {"error": f"no disk has the serial number {request['serial']}"}


def domains(request: Message) -> Message:
    """The list of domains now."""
    return {"domains": domain_list()}


def clock(request: Message) -> Message:
    """Set the clock; the kernel tells the hypervisor, and that the guests that begin from then on."""
    time.clock_settime(time.CLOCK_REALTIME, request["seconds"])
    return {}


OPERATIONS = {"clock": clock, "domains": domains, "run": run, "write": write, "link": link}


def follow_logs(agent: Agent) -> None:
    """Send what is appended to the logs of guests and of the toolstack."""
    sent: dict[Path, int] = {}
    while True:
        for folder in LOG_FOLDERS:
            for path in folder.glob("*.log"):
                try:
                    size = path.stat().st_size
                except FileNotFoundError:  # xl gives an older log another name
                    continue
                position = sent.get(path, 0)
                if size < position:
                    position = 0
                while position < size:
                    try:
                        with path.open("rb") as stream:
                            stream.seek(position)
                            data = stream.read(min(CHUNK_BYTES, size - position))
                    except FileNotFoundError:
                        break
                    if not data:
                        break
                    agent.send({"event": "console", "log": path.name, "data": base64.b64encode(data).decode()})
                    position += len(data)
                sent[path] = position
        time.sleep(POLL_S)


def domain_list() -> list[Message]:
    """All domains but dom0, with their states."""
    from xen.lowlevel.xc import xc  # type: ignore[import-not-found]

    found = []
    # From dom0 on: where no domain follows, the hypervisor would answer a later start with an error.
    for info in xc().domain_getinfo(0):
        if info["domid"] == 0:
            continue
        reason = SHUTDOWN_REASONS[info["shutdown_reason"]] if info["shutdown"] else None
        found.append(
            {
                "id": info["domid"],
                "uuid": str(uuid.UUID(bytes=bytes(info["handle"]))),
                "dying": bool(info["dying"]),
                "shutdown": "crash" if info["crashed"] else reason,
            }
        )
    return found


def follow_domains(agent: Agent) -> None:
    """Send the list of domains whenever the hypervisor tells the store that one began or ended."""
    from xen.lowlevel.xs import xs as connect  # type: ignore[import-not-found]

    xs = connect()
    for path in ("@introduceDomain", "@releaseDomain"):
        xs.watch(path, path)
    while True:
        xs.read_watch()
        agent.tell_domains()


def poll_domains(agent: Agent) -> None:
    """The same once a second while there are domains: nobody tells when a dying one has gone for good."""
    while True:
        time.sleep(1)
        if agent.domains:
            agent.tell_domains()


def die(failed: threading.ExceptHookArgs) -> None:
    """A thread that ends would leave the lab waiting: end all, and with it, by init's end, the machine."""
    sys.__excepthook__(failed.exc_type, failed.exc_value or failed.exc_type(), failed.exc_traceback)
    os._exit(1)


def main() -> None:
    """Serve until the port is gone."""
    threading.excepthook = die
    agent = Agent()
    for follow in (follow_logs, follow_domains, poll_domains):
        threading.Thread(target=follow, args=(agent,), daemon=True).start()
    agent.send({"event": "ready", "xen": Path("/sys/hypervisor/type").read_text().strip()})
    agent.serve()


if __name__ == "__main__":
    main()
