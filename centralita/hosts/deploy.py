"""Brings a clone onto its host: what the host lacks is copied, the machine defined and started, and answers SIP.

Each thing is looked at first, and done only where it is not as it should be: so a second run changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path, PurePosixPath

from centralita.ground.errors import CentralitaError
from centralita.ground.report import get_reporter
from centralita.hosts.address import HostAddress, parse_host
from centralita.hosts.answer import first_answer
from centralita.hosts.driver import Driver
from centralita.hosts.libvirt import Libvirt
from centralita.hosts.records import APPLIED, ClonedFolder, Deployed, read_deployed, write_deployed
from centralita.hosts.shell import Shell, connect
from centralita.hosts.sip import SipAnswer
from centralita.hosts.stop import stop
from centralita.hosts.xl import Xl
from centralita.image.record import load_record
from centralita.packages.fetch import sha256_of

#: Where a host keeps what is Centralita's, unless it is told otherwise.
PLACE = PurePosixPath("/var/lib/centralita")
BOOT_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Options:
    """How a clone is deployed. `replace`: put a new system disk in the place of the host's; the old one is kept."""

    host: str
    to: PurePosixPath = PLACE
    dry_run: bool = False
    start: bool = True
    replace: bool = False
    timeout_s: float = BOOT_TIMEOUT_S


@dataclass
class Outcome:
    """What was done (with a dry run: would be), in words, and the machine's answer where it was waited for."""

    changes: list[str] = field(default_factory=list)
    answer: SipAnswer | None = None
    address: IPv4Address | None = None


@contextmanager
def reached(address: HostAddress) -> Iterator[tuple[Shell, Driver]]:
    """Return the shell of a host and what runs its machines. Raises CentralitaError where it cannot be reached."""
    with connect(address) as shell:
        yield shell, Xl(shell) if address.kind == "xl" else Libvirt(shell, address.uri)


def deploy(clone: ClonedFolder, options: Options) -> Outcome:
    """Deploy a clone. Raises CentralitaError where the host refuses something or the clone does not answer in time."""
    address = parse_host(options.host)
    before = read_deployed(clone.folder)
    if before is not None and before.host != options.host:
        raise CentralitaError(
            f"{clone.name} is deployed on {before.host}",
            hint=f"a tenant's data is on one host only; first: invoke undeploy {clone.name}",
        )
    if address.xen != clone.target.startswith("xen"):
        raise CentralitaError(
            f"{clone.name} is a clone for {clone.target}, and {options.host} runs others",
            hint="invoke clone … --target kvm, xen-pv, xen-pvh or xen-hvm",
        )
    with reached(address) as (shell, driver):
        return _Deployment(clone, options, shell, driver).run()


class _Deployment:
    def __init__(self, clone: ClonedFolder, options: Options, shell: Shell, driver: Driver) -> None:
        self.clone = clone
        self.options = options
        self.shell = shell
        self.driver = driver
        self.place = options.to / "clones" / clone.name
        self.outcome = Outcome()

    def run(self) -> Outcome:
        clone, driver = self.clone, self.driver
        uuid = driver.uuid(clone.name)
        if uuid is not None and uuid != clone.uuid:
            raise CentralitaError(
                f"{self.options.host} has another machine named {clone.name}, {uuid}", hint="rename one of the two"
            )
        self._disks(running=driver.state(clone.name) in ("running", "paused"))
        self._definition()
        state = driver.state(clone.name)
        if self.options.start and state != "running":
            self._do(f"start {clone.name}", lambda: driver.start(clone.name, self.place / driver.definition))
        if not self.options.dry_run:
            deployed = Deployed(self.options.host, str(self.options.to), _now())
            if read_deployed(clone.folder) is None:
                write_deployed(clone.folder, deployed)
            if self.options.start:
                self._wait()
        return self.outcome

    def _do(self, what: str, action: Callable[[], object]) -> None:
        self.outcome.changes.append(what)
        if not self.options.dry_run:
            with get_reporter().step(what):
                action()

    def _golden(self) -> PurePosixPath | None:
        """See to it that the golden image is there, whole, at its digest's place; return that."""
        clone = self.clone
        if clone.backing is None:
            return None
        record = load_record(clone.backing.parent / f"{clone.appliance}.json")
        if record.golden_digest != clone.golden_digest:
            raise CentralitaError(
                f"{clone.backing} is not the image that {clone.name} was made of", hint="make the clone again"
            )
        sha256 = next(entry.sha256 for entry in record.formats if entry.file == clone.backing.name)
        # The same disk in a qcow2 file that another QEMU wrote has other bytes: the file's own digest is in the name.
        path = self.options.to / "golden" / f"{clone.golden_digest}-{sha256[:12]}.qcow2"
        if self.shell.exists(path):
            found = self.shell.sha256(path)
            if found != sha256:
                raise CentralitaError(
                    f"the golden image {path} on {self.options.host} is damaged: sha256:{found}",
                    hint="clones depend on it: stop them, remove the file and deploy again",
                )
            return path
        size_mib = clone.backing.stat().st_size / 2**20
        what = f"copy the golden image {clone.appliance} {clone.version} ({size_mib:.0f} MiB)"
        self._do(what, lambda: self._copy_golden(clone.backing, path, sha256))
        return path

    def _copy_golden(self, source: Path | None, path: PurePosixPath, sha256: str) -> None:
        assert source is not None
        if sha256_of(source) != sha256:
            raise CentralitaError(f"{source} is not what its record says", hint="build it again")
        self.shell.make_folder(path.parent, 0o755)
        with self.shell.staged(source, path.parent) as staged:
            found = self.shell.sha256(staged)
            if found != sha256:
                raise CentralitaError(f"the golden image came to {self.options.host} as sha256:{found}", hint="again")
            self.shell.run(["chmod", "0444", "--", staged])
            # Whoever else brought the same image meanwhile wrote the same bytes.
            self.shell.run(["mv", "-f", "--", staged, path])

    def _disks(self, *, running: bool) -> None:
        clone, shell = self.clone, self.shell
        golden = self._golden()
        if golden is None and clone.target != "kvm":
            raise CentralitaError(
                f"the disks of {clone.name} are block devices of its host, which deploy does not write",
                hint=f"write {clone.disk} to the path in xl.cfg, then xl create (docs/xen.md)",
            )
        system, record = self.place / clone.disk.name, self.place / "clone.json"
        known = shell.read(record)
        if known != clone.text or not shell.exists(system):
            old = shell.exists(system) and known is not None
            if old and not self.options.replace:
                made = json.loads(known or "{}").get("created", "?")
                raise CentralitaError(
                    f"{self.options.host} has an other system disk of {clone.name}, made at {made}",
                    hint="--replace puts the new one in its place and keeps the old one and all data",
                )
            if running:
                self._do(f"shut {clone.name} down", lambda: stop(self.driver, clone.name))
            self._do("copy the system disk", lambda: self._copy_system(golden, system, keep=old))
            if (clone.folder / APPLIED).is_file():
                file = json.loads((clone.folder / APPLIED).read_text(encoding="utf-8"))["file"]
                get_reporter().warn(
                    f"this disk is as it was cloned; what was applied since comes by invoke apply {file}"
                )
        if clone.data is not None:
            data, source = self.place / clone.data.name, clone.data
            # Never written again: from the first start on, what is on it is the tenant's.
            if not shell.exists(data):
                self._do("copy the data disk", lambda: self._copy_data(source, data))
        if known != clone.text:
            self._do("write the clone's record", lambda: shell.write(record, clone.text))

    def _copy_system(self, golden: PurePosixPath | None, system: PurePosixPath, *, keep: bool) -> None:
        shell = self.shell
        shell.make_folder(self.place.parent, 0o755)
        # Whoever runs the machine (libvirt's user) has to get in; the disks themselves are 0600.
        shell.make_folder(self.place, 0o711)
        with shell.staged(self.clone.disk, self.place) as staged:
            if golden is not None:
                shell.run(["qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", golden, staged])
                self._check_chain(staged, golden)
            shell.run(["chmod", "0600", "--", staged])
            if keep:
                shell.run(["mv", "-f", "--", system, f"{system}.old"])
            shell.run(["mv", "-f", "--", staged, system])

    def _check_chain(self, overlay: PurePosixPath, golden: PurePosixPath) -> None:
        """See that the overlay is one of this golden image, and of nothing else."""
        said = self.shell.run(["qemu-img", "info", "--output=json", "--backing-chain", overlay]).stdout
        chain = [(image["filename"], image["format"]) for image in json.loads(said)]
        if chain != [(str(overlay), "qcow2"), (str(golden), "qcow2")]:
            raise CentralitaError(f"the chain of {overlay} is {chain}", hint="make the clone again")
        self.shell.run(["qemu-img", "check", "-q", overlay])

    def _copy_data(self, source: Path, data: PurePosixPath) -> None:
        with self.shell.staged(source, self.place) as staged:
            self.shell.run(["chmod", "0600", "--", staged])
            # Not over one that has come there meanwhile.
            self.shell.run(["ln", "-T", "--", staged, data])

    def _definition(self) -> None:
        clone, driver = self.clone, self.driver
        moved = {str(disk): str(self.place / disk.name) for disk in (clone.disk, clone.data) if disk is not None}
        try:
            text = (clone.folder / driver.definition).read_text(encoding="utf-8")
        except OSError as error:
            raise CentralitaError(f"{clone.folder} has no {driver.definition}: {error.strerror}") from None
        text = driver.adapted(text, moved)
        path = self.place / driver.definition
        if self.shell.read(path) != text or driver.state(clone.name) == "absent":
            self._do(f"define {clone.name}", lambda: self._define(path, text))

    def _define(self, path: PurePosixPath, text: str) -> None:
        # The file last: it says that this is what the host knows.
        draft = path.with_name(f"new-{path.name}")
        self.shell.write(draft, text)
        if isinstance(self.driver, Xl):  # which starts the machine from the file itself
            self.shell.run(["mv", "-f", "--", draft, path])
            draft = path
        self.driver.define(self.clone.name, draft)
        if draft != path:
            self.shell.run(["mv", "-f", "--", draft, path])

    def _wait(self) -> None:
        clone, driver = self.clone, self.driver

        def find() -> IPv4Address | None:
            self.outcome.address = clone.address or driver.find_address(clone.name, clone.mac)
            return self.outcome.address

        with get_reporter().step("wait for its SIP answer") as step:
            self.outcome.answer = first_answer(
                self.shell, find, lambda: driver.state(clone.name) == "running", timeout_s=self.options.timeout_s
            )
            step.note(f"{self.outcome.answer.status} {self.outcome.answer.reason}")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
