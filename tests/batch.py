"""What the tests of batches of clones share: a small image that stands for a golden one, tenants, and what clones are.

The image has the golden image's three partitions and the users that a tenant's files belong to, and nothing to boot.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as Xml

from centralita.ground.run import run
from centralita.image.disk import raw_digest
from centralita.image.record import FormatEntry, GoldenRecord, load_record, write_record

ROOT = Path(__file__).parents[1]
APPLIANCE = "pbx-small"
MIB = 1024 * 1024
ROOT_START_MIB, ROOT_SIZE_MIB, DISK_MIB = 3, 12, 16
PARTS = {"clone.json", "system.qcow2", "data.raw", "domain.xml", "run-qemu", "provisioning"}
PASSWD = "root:x:0:0::/root:/bin/sh\nasterisk:x:101:102::/var/lib/asterisk:/bin/false\n"
GROUP = "root:x:0:\nasterisk:x:102:\n"


def small_disk(folder: Path) -> Path:
    """A qcow2 with three GPT partitions; the third has a passwd file and a link where a file will be written."""
    tree = folder / "tree"
    (tree / "etc/asterisk").mkdir(parents=True)
    (tree / "etc/passwd").write_text(PASSWD)
    (tree / "etc/group").write_text(GROUP)
    (tree / "etc/resolv.conf").symlink_to("/etc/victim")
    (tree / "etc/victim").write_text("untouched\n")
    root = folder / "root.ext4"
    features = "^orphan_file,^metadata_csum_seed"
    run(["mke2fs", "-q", "-t", "ext4", "-O", features, "-d", tree, root, f"{ROOT_SIZE_MIB}M"])
    raw = folder / "disk.raw"
    with raw.open("wb") as file:
        file.truncate(DISK_MIB * MIB)
    table = "label: gpt\nstart=2048, size=2048\nstart=4096, size=2048\n"
    table += f"start={ROOT_START_MIB * 2048}, size={ROOT_SIZE_MIB * 2048}\n"
    run(["sfdisk", "-q", "--no-reread", "--no-tell-kernel", raw], stdin=table.encode())
    with raw.open("r+b") as file:
        file.seek(ROOT_START_MIB * MIB)
        file.write(root.read_bytes())
    golden = folder / "golden.qcow2"
    run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, golden])
    return golden


def small_output(output: Path, work: Path) -> GoldenRecord:
    """Put a small image into *output* as the last one built of the appliance."""
    work.mkdir(parents=True)
    disk = small_disk(work)
    content = disk.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    golden = raw_digest(work / "disk.raw")
    record = GoldenRecord(
        appliance=APPLIANCE,
        description="An image that stands for one",
        version="1.0.0",
        build=golden[:12],
        golden_digest=golden,
        disk_size_bytes=DISK_MIB * MIB,
        memory_mib=512,
        vcpus=1,
        targets=("kvm",),
        languages=("en",),
        root_uuid="281a869b-bfbf-5769-831a-f4a80a61da9c",
        kernel_version="6.12",
        kernel_cmdline=("ro",),
        tree_bytes=1,
        tree_key=golden,
        disk_key=golden,
        unlocked=False,
        unlocked_packages=(),
        mirror=None,
        source_date_epoch=1_700_000_000,
        packages=(),
        facts={},
        formats=(
            FormatEntry(format="qcow2", file=f"{APPLIANCE}.qcow2", size_bytes=len(content), sha256=digest),
        ),
        tools={},
    )  # fmt: skip
    folder = output / APPLIANCE / record.full_version
    folder.mkdir(parents=True)
    disk.rename(folder / f"{APPLIANCE}.qcow2")
    write_record(record, folder / f"{APPLIANCE}.json")
    (output / APPLIANCE / "latest").symlink_to(record.full_version)
    return record


def write_tenants(folder: Path, count: int) -> list[str]:
    """Write tenants' files: each has a static address, a TLS phone, and a phone that gets its settings as a file."""
    folder.mkdir(parents=True)
    names = [f"t{index:03}" for index in range(count)]
    for index, name in enumerate(names):
        (folder / f"{name}.yaml").write_text(
            f"""schema: 1
name: {name}
company: Company {index}
timezone: Europe/Madrid
language: en
country: es
network: {{method: static, address: 10.80.{index // 200}.{index % 200 + 10}/16, gateway: 10.80.255.1}}
extensions:
  - {{number: 101, name: Ana, transport: tls, voicemail: true}}
  - {{number: 102, name: Bo, phone: {{maker: snom, mac: "00:04:13:00:{index // 256:02x}:{index % 256:02x}"}}}}
"""
        )
    return names


@dataclass(frozen=True)
class House:
    """A user's folders, with tenants and an image of their own; only the cache of libguestfs's appliance is shared."""

    folder: Path
    names: list[str] = field(repr=False)

    @property
    def clones(self) -> Path:
        """Where the clones go."""
        return self.folder / "clones"

    @property
    def state(self) -> Path:
        """Centralita's state folder."""
        return self.folder / "state" / "centralita"

    @property
    def record(self) -> GoldenRecord:
        """The record of the image."""
        return load_record(self.folder / "output" / APPLIANCE / "latest" / f"{APPLIANCE}.json")

    @property
    def environment(self) -> dict[str, str]:
        """The environment of whoever works here."""
        kept = {name: value for name, value in os.environ.items() if name != "CENTRALITA_LEDGER"}
        place = {"XDG_STATE_HOME": str(self.folder / "state"), "CENTRALITA_OUTPUT": str(self.folder / "output")}
        return {**kept, **place, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}

    def argv(self, *options: str) -> list[str]:
        """The command that clones all tenants."""
        command = [sys.executable, "-m", "invoke", "clone", APPLIANCE, "--tenants", f"{self.folder}/tenants/*.yaml"]
        return [*command, "--to", str(self.clones), "--data-mib", "256", "--progress", "plain", *options]

    def clone(self, *options: str, before: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        """Clone all tenants; ``before`` is put before the command."""
        argv = [*before, *self.argv(*options)]
        return subprocess.run(
            argv, cwd=ROOT, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )

    def complete(self) -> set[str]:
        """The clones that are there; each is complete, with all that belongs to it."""
        found = self.clones.iterdir() if self.clones.is_dir() else ()
        there = {path.name for path in found if not path.name.startswith(".")}
        for name in there:
            folder = self.clones / name
            assert {path.name for path in folder.iterdir()} == PARTS
            assert json.loads((folder / "clone.json").read_text())["name"] == name
            assert json.loads((self.state / "clones" / f"{name}.json").read_text())["folder"] == str(folder)
            run(["qemu-img", "check", "-q", folder / "system.qcow2"])
        return there

    def identities(self) -> dict[str, str]:
        """The identity store's files as they are, by tenant."""
        folder = self.state / "identities"
        return {path.stem: path.read_text() for path in folder.glob("*.json")} if folder.is_dir() else {}


def house(folder: Path, count: int) -> House:
    """Make a user's folders with a small image and *count* tenants."""
    small_output(folder / "output", folder / "work")
    return House(folder, write_tenants(folder / "tenants", count))


def root_of(disk: Path, work: Path) -> Path:
    """The root file system of a small disk, as a file for debugfs(8)."""
    raw = work / f"{disk.parent.name}.raw"
    run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", disk, raw])
    root = raw.with_suffix(".ext4")
    data = raw.read_bytes()
    root.write_bytes(data[ROOT_START_MIB * MIB : (ROOT_START_MIB + ROOT_SIZE_MIB) * MIB])
    raw.unlink()
    return root


def read_file(root: Path, path: str) -> str:
    """A file of a file system, by debugfs(8)."""
    return run(["debugfs", "-R", f"cat {path}", root]).stdout


def facts_of(clone: Path, work: Path) -> dict[str, str]:
    """What a clone has for itself: as its disks, its definition and its phones' settings say, not as was meant."""
    root = root_of(clone / "system.qcow2", work)
    domain = Xml.parse(clone / "domain.xml").getroot()
    mac = domain.find("devices/interface/mac")
    address = re.search(r"^Address=(\S+)/", read_file(root, "/etc/systemd/network/10-tenant.network"), re.MULTILINE)
    assert mac is not None and address is not None
    with (clone / "data.raw").open("rb") as disk:
        superblock = disk.read(2048)[1024:]
    facts = {
        "MAC": mac.attrib["address"],
        # Asterisk makes it of the address of eth0, and nothing else sets it (main/utils.c, ast_set_default_eid).
        "entity ID": mac.attrib["address"],
        "UUID": domain.findtext("uuid") or "",
        "machine-id": read_file(root, "/etc/machine-id").strip(),
        "host name": read_file(root, "/etc/hostname").strip(),
        "address": address.group(1),
        "TLS key": read_file(root, "/etc/asterisk/keys/tls.key"),
        "TLS certificate": read_file(root, "/etc/asterisk/keys/tls.crt"),
        "data disk's UUID": superblock[0x68:0x78].hex(),
    }
    for kind in ("ed25519", "ecdsa"):
        facts[f"host key {kind}"] = read_file(root, f"/etc/ssh/ssh_host_{kind}_key")
    digests = re.findall(r"^password_digest *= *(\S+)$", read_file(root, "/etc/asterisk/pjsip.conf"), re.MULTILINE)
    facts |= {f"SIP digest {index}": digest for index, digest in enumerate(digests)}
    root.unlink()
    assert len(digests) == 4 and all(facts.values()), facts
    return facts


def shared(facts: Mapping[str, Mapping[str, str]]) -> list[str]:
    """What two clones have in common, in words."""
    owners: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name, own in facts.items():
        for what, value in own.items():
            owners[what.removesuffix(what[-1]) if what.startswith("SIP") else what, value].append(name)
    return [f"{' and '.join(names)} have one {what}" for (what, _value), names in owners.items() if len(names) > 1]


def processes_with(words: Iterable[str]) -> list[str]:
    """The command lines of processes that have any of these words in them or in their environment."""
    wanted = [word.encode() for word in words]
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                told = (process / "cmdline").read_bytes() + b"\0" + (process / "environ").read_bytes()
            except OSError:
                continue
            if any(word in told for word in wanted):
                found.append(told.replace(b"\0", b" ").decode(errors="replace")[:200])
    return found
