"""Plugs disks into libguestfs's running appliance.

Disks that are there when the appliance starts cost a second of processor time each in emulation: udev asks a handful of
programs what is on each of their partitions. So the appliance starts with none of them, udevd is ended, and they are
plugged in then, by QEMU's own control channel; the kernel alone finds them in some hundredths of a second.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from centralita.ground.errors import CentralitaError
from centralita.ground.qmp import Qmp

_CONTROLLER = "clones"
_CONNECT_S = 60.0
_APPEAR_S = 120.0
# A disk whose partitions do not come by then has none.
_PARTITION_S = 5.0


class Appliance:
    """A libguestfs appliance with a controller for disks that are plugged in, and what its own shell does for many.

    libguestfs's calls start several programs for each disk; here one does for all.
    """

    def __init__(self, guest: Any) -> None:  # noqa: ANN401 - no types
        self._guest = guest
        # It insists on a drive of its own; of this name it makes an empty one (guestfs(3)).
        guest.add_drive_opts("/dev/null", format="raw", readonly=True)
        self._socket = Path(guest.get_tmpdir()) / "qmp"
        guest.config("-device", f"virtio-scsi-pci,id={_CONTROLLER}")
        guest.config("-chardev", f"socket,id=control,path={self._socket},server=on,wait=off")
        guest.config("-mon", "chardev=control,mode=control")

    def plug(self, disks: Sequence[Path], form: str, partition: int) -> list[str]:
        """Plug the disks in and return their devices in order: known by their serial numbers, not by when they came.

        Returns when the kernel has found the partition of each, or has had the time to. Raises CentralitaError.
        """
        self.shell("udevadm control --exit")
        channel = socket.socket(socket.AF_UNIX)
        channel.connect(str(self._socket))
        qmp = Qmp("libguestfs", channel, lambda _name, _data: None)
        try:
            qmp.connect(timeout_s=_CONNECT_S)
            for index, disk in enumerate(disks):
                name, serial = f"disk{index}", serial_of(index)
                # Nobody uses the disk until all is written and synchronised: QEMU need not bring each write to it.
                cache = {"direct": False, "no-flush": True}
                file = {"driver": "file", "filename": str(disk), "cache": cache}
                qmp.execute("blockdev-add", {"node-name": name, "driver": form, "file": file, "cache": cache})
                place = {"bus": f"{_CONTROLLER}.0", "scsi-id": index, "lun": 0}
                qmp.execute("device_add", {"driver": "scsi-hd", "drive": name, "id": serial, "serial": serial, **place})
        finally:
            qmp.close()
        return self._devices(len(disks), partition)

    def _devices(self, count: int, partition: int) -> list[str]:
        started = time.monotonic()
        complete = None
        while True:
            # SCSI's page of the serial number (SPC-4, 7.8.15): four bytes and then the text.
            shown = self.shell(
                "cd /sys/block; grep -aH '' sd*/device/vpd_pg80 2>/dev/null | tr -dc '[:print:]\\n'; "
                f"for p in sd*/sd*{partition}; do echo $p; done"
            )
            pairs = re.findall(r"^(sd[a-z]+)/device/vpd_pg80:.*(clone[a-j]{4})$", shown, re.MULTILINE)
            found = {serial: device for device, serial in pairs}
            missing = [serial for serial in map(serial_of, range(count)) if serial not in found]
            now = time.monotonic()
            if not missing:
                complete = complete or now
                partitions = set(shown.splitlines())
                wanted = {f"{device}/{device}{partition}" for device in found.values()}
                if wanted <= partitions or now - complete > _PARTITION_S:
                    return [f"/dev/{found[serial_of(index)]}" for index in range(count)]
            if now - started > _APPEAR_S:
                raise CentralitaError(f"libguestfs shows {count - len(missing)} disks of {count}")

    def mount(self, partitions: Mapping[str, str], disks: Mapping[str, Path], options: str) -> None:
        """Mount partitions on folders of these names. Raises CentralitaError with the disk that cannot be."""
        folders = " ".join(partitions)
        table = "".join(f"{device} /sysroot/{name} ext4 {options} 0 0\n" for name, device in partitions.items())
        shown = self.shell(
            f"exec 2>&1; cd /sysroot && mkdir -p {folders}\n"
            f"printf %s '{table}' > /tmp/disks.fstab\n"
            "mount -n -a -T /tmp/disks.fstab\n"
            'while read -r device folder rest; do echo "mounted $folder"; done < /proc/mounts\n'
        )
        said = shown.splitlines()
        for name in partitions:
            if f"mounted /sysroot/{name}" not in said:
                why = next((line for line in said if f"/sysroot/{name}:" in line), "mount(8) does not say why")
                raise CentralitaError(f"{disks[name]}: its root file system cannot be mounted: {why}")

    def unmount(self, partitions: Mapping[str, str]) -> None:
        """Unmount them; all is then written to the disks."""
        shown = self.shell(f"exec 2>&1; cd /sysroot && umount -n {' '.join(partitions)} && echo unmounted")
        if shown.strip() != "unmounted":
            raise CentralitaError(f"the disks' root file systems cannot be unmounted: {shown.strip()}")

    def first_lines(self, partitions: Mapping[str, str], path: str) -> dict[str, str]:
        """Return the first line of a file of each; those without it are left out."""
        files = " ".join(f"{name}{path}" for name in partitions)
        shown = self.shell(f"cd /sysroot && grep -m 1 -H '' {files} 2>&1; true")
        lines = (line.partition(":") for line in shown.splitlines())
        return {place.removesuffix(path): text for place, _colon, text in lines if place.endswith(path)}

    def shell(self, script: str) -> str:
        """Run a script of the appliance's shell and return what it prints. Raises CentralitaError where it fails."""
        try:
            return str(self._guest.debug("sh", [script]))
        except RuntimeError as error:
            hint = "`libguestfs-test-tool` shows where it stops"
            raise CentralitaError(f"a script in libguestfs's appliance failed: {error}", hint=hint) from None


def serial_of(index: int) -> str:
    """Return the serial number that a disk is given: letters only, and not a digit's length from any other."""
    return "clone" + "".join(chr(ord("a") + int(digit)) for digit in f"{index:04}")
