"""A Xen host spoken to by xl(1), its own toolstack. It keeps no definitions: the file xl.cfg(5) is the definition."""

from __future__ import annotations

import re
import shlex
from ipaddress import IPv4Address
from pathlib import PurePosixPath

from centralita.ground.errors import CentralitaError
from centralita.hosts.driver import State
from centralita.hosts.shell import Shell

AUTO = PurePosixPath("/etc/xen/auto")
_IPV4 = re.compile(r"^(\d{1,3}(?:\.\d{1,3}){3})\b")


class Xl:
    """A host's xl. Domains start with the host by a link in /etc/xen/auto (xendomains), which also says they exist."""

    definition = "xl.cfg"

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def _auto(self, name: str) -> PurePosixPath:
        return AUTO / f"{name}.cfg"

    def state(self, name: str) -> State:
        """Return what a domain does."""
        done = self._shell.run(["xl", "list", name], check=False)
        if done.returncode == 0:
            # Name, ID, memory, VCPUs, state (r-b-p-s-c-d), time.
            flags = done.stdout.splitlines()[-1].split()[-2]
            return "paused" if "p" in flags else "crashed" if "c" in flags else "off" if "s" in flags else "running"
        if "invalid domain identifier" not in (done.stderr + done.stdout):
            raise CentralitaError(f"xl does not answer: {done.stderr.strip()}", hint="it runs in dom0, as root")
        return "off" if self._shell.exists(self._auto(name)) else "absent"

    def uuid(self, name: str) -> str | None:
        """Return the UUID of a running domain, or of the file by which it would start."""
        done = self._shell.run(["xl", "vm-list"], check=False)
        for line in done.stdout.splitlines()[1:]:
            # UUID, ID, name.
            words = line.split()
            if words[-1:] == [name]:
                return words[0]
        text = self._shell.read(self._auto(name)) or ""
        found = re.search(r'^uuid\s*=\s*"([0-9a-f-]{36})"', text, re.MULTILINE)
        return found[1] if found else None

    def adapted(self, text: str, moved: dict[str, str]) -> str:
        """Return the file with its disks in their places."""
        for path, place in moved.items():
            text = re.sub(rf'target={re.escape(path)}(?=[",])', f"target={place}".replace("\\", r"\\"), text)
        return text

    def define(self, name: str, path: PurePosixPath) -> None:
        """Have a domain started with the host, after xl has understood its file."""
        self._shell.run(["xl", "create", "--dryrun", "--quiet", path])
        self._shell.run(["mkdir", "-p", "--", AUTO])
        self._shell.run(["ln", "-sfn", "--", path, self._auto(name)])

    def start(self, name: str, path: PurePosixPath) -> None:
        """Create a domain, or let it go on."""
        if self.state(name) == "paused":
            self._shell.run(["xl", "unpause", name])
        else:
            self._shell.run(["xl", "create", path])

    def shutdown(self, name: str) -> None:
        """Ask a domain to shut down; one without Xen's driver for that gets its power button pressed."""
        self._shell.run(["xl", "shutdown", "-F", name])

    def destroy(self, name: str) -> None:
        """Take a domain's power away."""
        self._shell.run(["xl", "destroy", name], check=False)

    def undefine(self, name: str) -> None:
        """Have a domain not started with the host any more."""
        self._shell.run(["rm", "-f", "--", self._auto(name)])

    def find_address(self, name: str, mac: str) -> IPv4Address | None:
        """Return the address that the host's neighbour table has for the domain's card."""
        script = f"ip -4 neigh show | grep -i {shlex.quote('lladdr ' + mac)} || true"
        found = _IPV4.search(self._shell.run(["sh", "-c", script]).stdout)
        return IPv4Address(found[1]) if found else None
