"""A system container by systemd-nspawn, User-mode Linux, and Bochs, on the lab's bridge."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from centralita.ground import ledger as ledgers
from centralita.ground.errors import CentralitaError
from centralita.ground.run import run
from centralita.image.ostree import private_mounts
from centralita.lab import netns
from centralita.lab.net import BRIDGE, LabNetwork


@contextmanager
def space_on(network: LabNetwork) -> Iterator[str]:
    """Give the name of a network namespace whose eth0 is on the lab's bridge; it has no address yet."""
    name = f"ctl-box-{secrets.token_hex(3)}"
    with ledgers.default().netns(name):
        run(["ip", "netns", "add", name])
        port = f"v{secrets.token_hex(4)}"
        place = str(netns.NETNS_DIR / name)
        run(network.argv(["ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", place]))
        run(network.argv(["ip", "link", "set", port, "master", BRIDGE, "up"]))
        yield name


def nspawn_argv(root: Path, space: str, seed: Path, name: str) -> list[str]:
    """Return what runs the tree in *root* as a container, with a tenant's folder and no help of the host's systemd."""
    private = private_mounts()
    if not private:
        raise CentralitaError(
            "systemd-nspawn cannot run here: / is no mount point, and it must be able to make that private",
            hint="run it outside of the chroot",
        )
    # systemd 258 and later know cgroup v2 only; a host may still have its first version where nspawn looks.
    prepare = 'mount -t cgroup2 none /sys/fs/cgroup; exec "$@"'
    return [
        *private, "sh", "-ec", prepare, "sh", "systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--boot",
        "--directory", str(root), "--machine", name, f"--network-namespace-path={netns.NETNS_DIR / space}",
        # Its network is its own; nspawn takes that for granted only of one that it makes itself.
        "--capability=CAP_NET_ADMIN", f"--bind-ro={seed}:/pbx-tenant", "--resolv-conf=off", "--timezone=off",
        "--link-journal=no", "--console=read-only",
    ]  # fmt: skip


def uml_argv(disk: Path, seed: Path, tap: str, mac: str, memory_mib: int, folder: Path, name: str) -> list[str]:
    """Return what runs a raw disk with User-mode Linux's own kernel; the tenant's disk is the second one."""
    return [
        "linux.uml", f"mem={memory_mib}M", f"ubd0={disk}", f"ubd1r={seed}", "root=/dev/ubda3", "ro", "net.ifnames=0",
        f"eth0=tuntap,{tap},{mac}", "con=null", "con0=null,fd:1", "console=tty0", f"umid={name}", f"uml_dir={folder}",
        "quiet",
    ]  # fmt: skip


BOCHS = """\
config_interface: textconfig
# A screen that nobody looks at; it waits for no viewer.
display_library: rfb, options="timeout=0"
romimage: file=/usr/share/seabios/bios.bin
vgaromimage: file=/usr/share/seabios/vgabios-stdvga.bin
megs: {memory_mib}
cpu: model=corei7_haswell_4770, count=1, ips=60000000
# An idle guest must not run ahead of the telephones.
clock: sync=slowdown, time0=utc
boot: disk
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata1: enabled=1, ioaddr1=0x170, ioaddr2=0x370, irq=15
ata0-master: type=disk, path="{disk}", mode=flat
ata1-master: type=cdrom, path="{seed}", status=inserted
pci: enabled=1, chipset=i440fx, slot1=e1000
e1000: mac={mac}, ethmod=tuntap, ethdev=/dev/net/tun:{tap}, script=none
com1: enabled=1, mode=file, dev="{serial}"
speaker: enabled=0
sound: driver=dummy
log: "{log}"
panic: action=fatal
error: action=ignore
info: action=ignore
debug: action=ignore
"""
# Bochs copies "/dev/net/tun:NAME" into 16 bytes.
BOCHS_TAP = "t0"


def bochs_argv(disk: Path, seed: Path, network: LabNetwork, mac: str, memory_mib: int, folder: Path) -> list[str]:
    """Write Bochs's configuration into *folder* and make its tap; return what runs it. Its console is ``serial``."""
    tap = network.add_tap()
    run(network.argv(["ip", "link", "set", tap, "down", "name", BOCHS_TAP]))
    run(network.argv(["ip", "link", "set", BOCHS_TAP, "up"]))
    config, commands = folder / "bochsrc", folder / "commands"
    config.write_text(
        BOCHS.format(
            memory_mib=memory_mib, disk=disk, seed=seed, mac=mac, tap=BOCHS_TAP, serial=folder / "serial",
            log=folder / "bochs.log",
        )
    )  # fmt: skip
    # Debian's Bochs has its debugger built in, which waits to be told to go on.
    commands.write_text("continue\n")
    return ["bochs", "-q", "-f", str(config), "-rc", str(commands)]
