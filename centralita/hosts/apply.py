"""Makes a running clone what its tenant's file says now: the files exchanged in one step, and what changed reloaded.

Nothing is written before it is known that all can be; what Asterisk does not load without complaint is undone.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from centralita.clone.files import GuestFile
from centralita.clone.identity import Identity
from centralita.ground.errors import CentralitaError
from centralita.ground.report import get_reporter
from centralita.hosts import apply_dialplan
from centralita.hosts.apply_diff import Mask, differences
from centralita.hosts.apply_plan import ALL_RELOADS, Plan, accounts, check_machine, make_plan
from centralita.hosts.apply_state import Machine, parse
from centralita.hosts.shell import Shell

#: The machine's side.
SCRIPT = Path(__file__).with_name("inside") / "apply"
_DIALPLAN = "/etc/asterisk/extensions.conf"
READ_S, APPLY_S = 400.0, 1200.0


@dataclass(frozen=True)
class Proposal:
    """What would be done to a machine; `lines` is the difference as it is shown."""

    files: Sequence[GuestFile]
    machine: Machine
    plan: Plan
    lines: tuple[str, ...]
    mask: Mask

    @property
    def nothing(self) -> bool:
        """Whether there is nothing to do. What was cut short is always to be done."""
        return self.plan.nothing and not self.machine.cut


@dataclass(frozen=True)
class Applied:
    """What Asterisk said beside its approval, and how many calls were up before and after."""

    notes: tuple[str, ...]
    calls_before: int | None
    calls_after: int | None


def propose(shell: Shell, files: Sequence[GuestFile], identity: Identity) -> Proposal:
    """Read a machine's files and return what would make them the rendered ones; changes nothing.

    Raises CentralitaError where the machine is another one or does not answer in our words.
    """
    machine = parse(_ask(shell, ["read"], timeout_s=READ_S))
    check_machine(machine, identity)
    plan, mask = make_plan(files, machine), Mask()
    return Proposal(files, machine, plan, tuple(differences(plan, machine, mask)), mask)


def refuse(proposal: Proposal, name: str) -> None:
    """Raise CentralitaError, with all reasons, where a running machine cannot be given what is wanted."""
    reasons = proposal.plan.refusals
    if reasons:
        listed = "".join(f"\n  {reason}" for reason in reasons)
        raise CentralitaError(
            f"{name} cannot be given this while it runs; nothing was changed. It would change:{listed}",
            hint=f"invoke remove, invoke clone and invoke deploy {name} --replace make its system disk anew; data stay",
        )
    if proposal.machine.calls is None:
        raise CentralitaError(
            f"Asterisk does not run in {name}", hint="journalctl -u asterisk tells why, in the machine"
        )


def carry_out(shell: Shell, proposal: Proposal) -> Applied:
    """Do what was proposed (but for the admins' keys).

    Raises CentralitaError where Asterisk complains of the new files: the old ones are then back and loaded.
    """
    plan, machine = proposal.plan, proposal.machine
    # What was cut short may have been loaded or not.
    reload = ALL_RELOADS if machine.cut else plan.reload
    stream = bundle(plan, reload, accounts(proposal.files), dialplan_of(proposal))
    digest = hashlib.sha256(stream).hexdigest()
    said = _ask(shell, ["apply", digest, machine.fingerprint], stdin=stream, timeout_s=APPLY_S)
    told: dict[str, list[list[str]]] = {}
    for line in said.splitlines():
        kind, *rest = line.split("\t")
        told.setdefault(kind, []).append(rest)
    notes = tuple(proposal.mask.text("\t".join(rest)) for rest in told.get("note", []))
    for note in notes:
        get_reporter().warn(f"Asterisk said meanwhile: {note}")
    result = told.get("result", [[""]])[0][0]
    if result != "applied":
        problems = "".join(f"\n  {proposal.mask.text(chr(9).join(rest))}" for rest in told.get("problem", []))
        raise CentralitaError(
            f"Asterisk does not take the new configuration; the old one is back and loaded. It said:{problems}",
            hint="change the tenant's file, or tell us: what tenant.check lets through, Asterisk should take",
        )
    before, after = (int(count) if count else None for count in told["calls"][0])
    return Applied(notes, before, after)


def write_keys(shell: Shell, content: bytes) -> None:
    """Exchange the admins' keys; who is connected stays so."""
    _ask(shell, ["keys", hashlib.sha256(content).hexdigest()], stdin=content, timeout_s=READ_S)


def dialplan_of(proposal: Proposal) -> GuestFile | None:
    """Return the dial plan to be loaded, in which calls that are up find their steps.

    None: the file's own is loaded, because the machine's or ours is none that we can take apart.
    """
    machine = proposal.machine
    plain = next((file for file in proposal.files if file.path == _DIALPLAN), None)
    present = machine.files.get(_DIALPLAN)
    if plain is None or present is None or present.text is None:
        return None
    # With no call up only those matter that come meanwhile.
    old = machine.loaded if machine.calls and machine.loaded else present.text.decode("utf-8", "replace")
    try:
        text = apply_dialplan.both(old, plain.content.decode())
    except apply_dialplan.Unknown as error:
        get_reporter().warn(f"calls that are up go on by the new dial plan only: {error} is not understood")
        return None
    return replace(plain, path="/plan/dialplan", content=text.encode())


def bundle(plan: Plan, reload: Sequence[str], names: Sequence[str], dialplan: GuestFile | None = None) -> bytes:
    """Return the tar that the machine's side takes: the new files, and lists of what else is to be done."""
    buffer = io.BytesIO()
    lists = {
        "remove": [path.removeprefix("/etc/") for path in plan.remove],
        "later": [path.removeprefix("/etc/") for path in plan.later],
        "reload": list(reload),
        "accounts": list(names),
    }
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, lines in lists.items():
            data = "".join(f"{line}\n" for line in lines).encode()
            _add(tar, GuestFile(f"/plan/{name}", data, 0o600))
        if dialplan is not None:
            _add(tar, dialplan)
        for file in plan.write:
            _add(tar, file, file.path.removeprefix("/etc/"))
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, file: GuestFile, name: str = "") -> None:
    entry = tarfile.TarInfo(name or file.path.lstrip("/"))
    entry.mode, entry.uname, entry.gname = file.mode, file.owner, file.group
    if file.directory:
        entry.type = tarfile.DIRTYPE
        tar.addfile(entry)
    else:
        entry.size = len(file.content)
        tar.addfile(entry, io.BytesIO(file.content))


def _ask(shell: Shell, words: Sequence[str], *, stdin: bytes | None = None, timeout_s: float) -> str:
    """Run the machine's side and return what it said, which ends with `end`."""
    script = SCRIPT.read_text(encoding="utf-8")
    done = shell.run(["sh", "-c", script, "apply", *words], stdin=stdin, check=False, timeout_s=timeout_s)
    for line in done.stdout.splitlines():
        if line.startswith("refused\t"):
            raise CentralitaError(f"the machine refuses: {line.partition(chr(9))[2]}", hint="nothing was changed")
    if done.returncode != 0 or done.stdout.splitlines()[-1:] != ["end"]:
        said = done.stderr.strip()[-2000:] or f"status {done.returncode}"
        raise CentralitaError(
            f"the machine did not finish ({words[0]}): {said}",
            hint="what was begun, it finishes or undoes by itself; then run invoke apply again",
        )
    return done.stdout
