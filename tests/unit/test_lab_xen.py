"""The Xen host: how it is put together, and what is understood of what dom0 says. Nothing is started."""

from __future__ import annotations

import ast
import itertools
import json
import socket
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from centralita.clone.xl import XEN_TARGETS, XenTarget, XlConfig
from centralita.ground.errors import CentralitaError
from centralita.lab.console import ConsoleText
from centralita.lab.matrix import Cell, Matrix, load_matrix, write_matrix
from centralita.lab.xen import qemu as xen_qemu
from centralita.lab.xen.channel import Channel
from centralita.lab.xen.config import lab_overrides
from centralita.lab.xen.dom0 import Dom0
from centralita.lab.xen.qemu import GuestDisk, disk_args, host_spec

DOM0 = Dom0(Path("/c/xen"), Path("/c/vmlinuz"), Path("/c/initrd.img"), Path("/c/disk.raw"), "key")
DISK = GuestDisk("disk0", Path("/a, b/duo.qcow2"), "/dev/vg0/duo")


def test_host_has_memory_for_dom0_and_guests_and_boots_xen_with_two_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xen_qemu, "pinned_qemu", lambda: (None, ("qemu",)))
    spec = host_spec(DOM0, Path("/w"), "02:00:00:00:00:01", [DISK], guests_mib=512)
    assert spec.memory_mib == 128 + 384 + 512
    assert spec.direct_kernel is not None
    modules = str(spec.direct_kernel.initrd).split(",")
    assert [module.split()[0] for module in modules] == ["vmlinuz", "initrd.img"]
    assert "dom0_mem=384M,max:384M" in spec.direct_kernel.command_line
    assert spec.disk == Path("/w/dom0.qcow2")


def test_guest_disk_is_known_by_its_serial_number() -> None:
    args = disk_args(DISK)
    values = dict(itertools.pairwise(args))
    blockdev = json.loads(values["-blockdev"])
    assert blockdev["file"]["filename"] == "/a, b/duo.qcow2"
    assert values["-device"] == f"virtio-blk-pci,drive={blockdev['node-name']},serial=disk0"


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        (
            "(XEN) ****************************************\n(XEN) Panic on CPU 0:\n(XEN) FATAL TRAP: vector = 6\n",
            "Xen panicked",
        ),
        ("(XEN) Hardware Dom0 crashed: 'noreboot' set - not rebooting.\n", "dom0 ended"),
    ],
)
def test_end_of_the_host_is_seen_on_its_console(text: str, meaning: str) -> None:
    console = ConsoleText()
    console.feed(text.encode())
    assert console.failure is not None
    assert meaning in console.failure.meaning


class _Agent:
    """The other end of the channel: answers what it is told to."""

    def __init__(self, path: Path, answers: dict[str, dict[str, Any]]) -> None:
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen()
        self._answers = answers
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        connection, _ = self._server.accept()
        with connection, connection.makefile("rw") as stream:
            stream.write(json.dumps({"event": "ready", "xen": "xen"}) + "\n")
            stream.flush()
            for line in stream:
                request = json.loads(line)
                if request["op"] == "die":
                    return
                stream.write(json.dumps({"id": request["id"], **self._answers[request["op"]]}) + "\n")
                stream.flush()


def test_channel_gives_answers_events_and_errors(tmp_path: Path) -> None:
    done = {"returncode": 1, "stdout": "", "stderr": "libxl: error: no such domain\n"}
    _Agent(tmp_path / "dom0.sock", {"run": done, "link": {"error": "no disk has the serial number x"}})
    heard: list[str] = []
    channel = Channel(tmp_path / "dom0.sock", lambda message: heard.append(message["event"]))
    assert channel.run(["xl", "list", "x"], check=False).returncode == 1
    with pytest.raises(CentralitaError, match="`xl list x` failed with status 1:\nlibxl: error"):
        channel.run(["xl", "list", "x"])
    with pytest.raises(CentralitaError, match="no disk has the serial number x"):
        channel.request("link", serial="x", path="/dev/x")
    assert heard == ["ready"]
    with pytest.raises(CentralitaError, match="the machine ended"):
        channel.request("die")
    channel.close()


@pytest.mark.parametrize(("works", "nested", "name"), [(True, "Y", "kvm"), (True, "N", "tcg"), (False, "1", "tcg")])
def test_host_runs_nested_where_kvm_works_and_lets_it(
    works: bool, nested: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    switch = tmp_path / "kvm_amd/parameters/nested"
    switch.parent.mkdir(parents=True)
    switch.write_text(f"{nested}\n")
    monkeypatch.setattr(xen_qemu, "KVM_MODULES", tmp_path)
    monkeypatch.setenv("CENTRALITA_ACCEL", "kvm" if works else "tcg")
    monkeypatch.setattr(xen_qemu, "pinned_qemu", lambda: (None, ("qemu",)))
    accelerator = xen_qemu.host_accelerator()
    assert accelerator.name == name
    spec = host_spec(DOM0, Path("/w"), "02:00:00:00:00:01", [], guests_mib=512, accelerator=accelerator)
    assert spec.cpu == ("host" if name == "kvm" else xen_qemu.EMULATED_CPU)


def test_uefi_and_another_grub_are_for_the_targets_that_have_them() -> None:
    assert parsed(replace(config("xen-hvm"), uefi="/o.fd").text())["bios_path_override"] == "/o.fd"
    assert parsed(replace(config("xen-pvgrub"), grub="/g.bin").text())["kernel"] == "/g.bin"
    with pytest.raises(CentralitaError, match="no firmware"):
        replace(config("xen-pv"), uefi="/o.fd")
    with pytest.raises(CentralitaError, match="not booted by GRUB"):
        replace(config("xen-pv"), grub="/g.bin")


def config(target: XenTarget = "xen-pv") -> XlConfig:
    return XlConfig(target, "duo", "7c2e0d3e-0000-4000-8000-000000000001", "52:54:00:12:34:56", "/dev/vg0/duo", 512)


def parsed(text: str) -> dict[str, Any]:
    """xl.cfg's values as Python's: for what is written here they look the same."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {name.strip(): ast.literal_eval(value.strip()) for name, _, value in (line.partition("=") for line in lines)}


@pytest.mark.parametrize("target", XEN_TARGETS)
def test_xl_cfg_names_kind_disk_bridge_and_identity(target: XenTarget) -> None:
    values = parsed(config(target).text())
    assert values["type"] == {"pv": "pv", "pvh": "pvh", "hvm": "hvm"}[target.split("-")[1].removesuffix("grub")]
    assert ("bootloader" in values) + ("kernel" in values) + (values.get("boot") == "c") == 1
    assert values["uuid"] == "7c2e0d3e-0000-4000-8000-000000000001"
    assert values["disk"][0].endswith("target=/dev/vg0/duo")
    assert "mac=52:54:00:12:34:56, bridge=xenbr0" in values["vif"][0]
    # What serves a lab in emulation only is no part of an admin's file.
    assert not {"extra", "tsc_mode"} & set(values)
    assert values["on_crash"] == "restart"


def test_lab_s_overrides_are_words_of_xl_create() -> None:
    assert lab_overrides(config("xen-pv"), ["mitigations=off"]) == [
        'on_crash="preserve"',
        'extra="mitigations=off earlyprintk=xen"',
    ]
    assert 'tsc_mode="native"' in lab_overrides(config("xen-pvh"))
    # GRUB reads the options from the clone's own menu.
    assert not any(word.startswith("extra") for word in lab_overrides(config("xen-pvh-grub")))


def test_matrix_is_kept_and_a_check_that_did_not_pass_counts(tmp_path: Path) -> None:
    cells = [
        Cell("xen-pv", "answers sip", "passed", 45.0, {"sip_s": 45.7}),
        Cell("xen-pvh", "answers sip", "passed", 60.0, {"sip_s": 60.1}),
        Cell("xen-pvh", "answers sip", "failed", 60.0),
    ]
    write_matrix(Matrix({"golden_digest": "sha256:00"}, cells), tmp_path / "a" / "targets.json")
    matrix = load_matrix(tmp_path / "a" / "targets.json")
    drawn = (tmp_path / "a" / "targets.svg").read_text()
    assert ElementTree.fromstring(drawn).tag.endswith("svg")
    assert "http" not in drawn.replace("http://www.w3.org/2000/svg", "")
    assert "FAILED" in drawn
    assert matrix == Matrix({"golden_digest": "sha256:00"}, cells)
    assert (matrix.targets, matrix.checks) == (["xen-pv", "xen-pvh"], ["answers sip"])
    cell = matrix.cell("xen-pvh", "answers sip")
    assert cell is not None
    assert cell.outcome == "failed"
    assert matrix.cell("kvm", "answers sip") is None
    assert matrix.table().row_count == 2
    page = (tmp_path / "a" / "targets.html").read_text()
    assert '<td class="failed">FAILED</td>' in page
    assert "sha256:00" in page
    (tmp_path / "torn.json").write_text("{")
    with pytest.raises(CentralitaError, match="not a matrix"):
        load_matrix(tmp_path / "torn.json")
