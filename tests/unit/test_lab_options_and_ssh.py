"""Files that the lab writes: kernel options for GRUB, configuration for ssh. Only ssh's own parser is started."""

from __future__ import annotations

import shlex
import subprocess
from ipaddress import IPv4Address
from pathlib import Path

from centralita.clone.identity import Identity
from centralita.clone.keypairs import HostKey
from centralita.lab.options import EMULATION_OPTIONS, lab_cfg
from centralita.lab.ssh import known_hosts, ssh_config

IDENTITY = Identity(
    tenant="duo",
    machine_id="0" * 32,
    uuid="7c2e0d3e-0000-4000-8000-000000000001",
    mac="52:54:00:00:00:01",
    host_keys=(HostKey("ed25519", "PRIVATE", "ssh-ed25519 AAAAC3Nza comment with spaces"),),
)


def test_lab_options_come_after_the_image_s_own() -> None:
    file = lab_cfg(("root=UUID=1234", "ro", "console=ttyS0,115200n8"))
    assert file.path == "/boot/grub/lab.cfg"
    lines = file.content.decode().splitlines()
    assert lines[1].split() == [
        "linux", "/boot/vmlinuz", "root=UUID=1234", "ro", "console=ttyS0,115200n8", *EMULATION_OPTIONS,
    ]  # fmt: skip
    # Flat, as pygrub reads it: one entry, its end on a line of its own.
    assert (lines[0], lines[-1]) == ("menuentry 'Centralita (lab)' {", "}")


def test_known_hosts_hold_public_keys_only() -> None:
    assert known_hosts(IDENTITY) == "pbx ssh-ed25519 AAAAC3Nza\n"


def test_ssh_reads_the_configuration_with_spaces_in_paths(tmp_path: Path) -> None:
    folder = tmp_path / "with space"
    folder.mkdir()
    config = folder / "ssh_config"
    config.write_text(
        ssh_config(IPv4Address("192.0.2.10"), "ctl-1", folder / "key", folder / "known_hosts", Path("/var/tmp/s"))
    )
    shown = subprocess.run(["ssh", "-G", "-F", config, "pbx"], capture_output=True, text=True, check=True).stdout
    values = dict(line.split(" ", 1) for line in shown.splitlines() if " " in line)
    assert values["hostname"] == "192.0.2.10"
    assert values["user"] == "root"
    assert values["stricthostkeychecking"] in ("true", "yes")
    assert values["identityfile"] == str(folder / "key")
    assert values["userknownhostsfile"].strip('"') == str(folder / "known_hosts")
    proxy = shlex.split(values["proxycommand"])
    assert proxy[:2] == ["nsenter", "--net=/run/netns/ctl-1"]
    assert proxy[-2:] == ["%h", "%p"]
