"""Takes chance out of what qemu-img writes: identifiers, times and sequence numbers that it draws anew each time.

Layouts: the VHD specification 1.0 (Microsoft), [MS-VHDX], VirtualBox's VDICore.h, and VMware's VMDK 5.0 note.
"""

from __future__ import annotations

import re
import struct
import uuid
from pathlib import Path

from centralita.ground.errors import CentralitaError

SECTOR_BYTES = 512
_VDI_SIGNATURE_AT, _VDI_UUIDS_AT = 0x40, 0x188
_VHD_TIME_AT, _VHD_CHECKSUM_AT, _VHD_UUID_AT = 24, 64, 68
_VHDX_HEADERS_AT = (64 * 1024, 128 * 1024)
_VHDX_REGIONS_AT = 192 * 1024
_VHDX_METADATA = uuid.UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e")
_VHDX_PAGE83 = uuid.UUID("beca12ab-b2e6-4523-93ef-c309e000c746")


def stamp_vdi(path: Path, image: uuid.UUID, snapshot: uuid.UUID) -> None:
    """Give a VDI its two identifiers."""
    with path.open("r+b") as stream:
        stream.seek(_VDI_SIGNATURE_AT)
        if stream.read(4) != b"\x7f\x10\xda\xbe":
            raise CentralitaError(f"{path} is not a VDI")
        stream.seek(_VDI_UUIDS_AT)
        stream.write(image.bytes_le + snapshot.bytes_le)


def stamp_vhd(path: Path, image: uuid.UUID, *, dynamic: bool) -> None:
    """Give a VHD its identifier and the time 0 (2000-01-01), in its footer and, where dynamic, the footer's copy."""
    size = path.stat().st_size
    with path.open("r+b") as stream:
        for at in (size - SECTOR_BYTES, *((0,) if dynamic else ())):
            stream.seek(at)
            footer = bytearray(stream.read(SECTOR_BYTES))
            if footer[:8] != b"conectix":
                raise CentralitaError(f"{path} is not a VHD")
            struct.pack_into(">I", footer, _VHD_TIME_AT, 0)
            struct.pack_into(">I", footer, _VHD_CHECKSUM_AT, 0)
            footer[_VHD_UUID_AT : _VHD_UUID_AT + 16] = image.bytes
            struct.pack_into(">I", footer, _VHD_CHECKSUM_AT, ~sum(footer) & 0xFFFFFFFF)
            stream.seek(at)
            stream.write(footer)


def stamp_vmdk(path: Path, content_id: int) -> None:
    """Give a sparse VMDK its content identifier."""
    with path.open("r+b") as stream:
        header = stream.read(SECTOR_BYTES)
        if header[:4] != b"KDMV":
            raise CentralitaError(f"{path} is not a sparse VMDK")
        at, length = (sectors * SECTOR_BYTES for sectors in struct.unpack_from("<QQ", header, 28))
        stream.seek(at)
        text = stream.read(length).rstrip(b"\0")
        text, count = re.subn(rb"^CID=[0-9a-f]+$", b"CID=%08x" % content_id, text, flags=re.MULTILINE)
        if count != 1:
            raise CentralitaError(f"{path} has no content identifier")
        stream.seek(at)
        stream.write(text.ljust(length, b"\0"))


def _crc32c_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return tuple(table)


_CRC32C = _crc32c_table()


def crc32c(data: bytes) -> int:
    """Return the CRC-32C (Castagnoli, RFC 3720) of *data*."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC32C[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def stamp_vhdx(path: Path, image: uuid.UUID, write: uuid.UUID) -> None:
    """Give a VHDX its identifiers, both headers the same state, and an empty log. It must need no replay."""
    with path.open("r+b") as stream:
        log_at = log_bytes = 0
        for number, at in enumerate(_VHDX_HEADERS_AT):
            stream.seek(at)
            header = bytearray(stream.read(4096))
            if header[:4] != b"head" or any(header[48:64]):
                raise CentralitaError(f"{path} is not a VHDX that was closed")
            log_bytes, log_at = struct.unpack_from("<IQ", header, 68)
            struct.pack_into("<IQ", header, 4, 0, number + 1)
            header[16:48] = write.bytes_le + write.bytes_le
            struct.pack_into("<I", header, 4, crc32c(bytes(header)))
            stream.seek(at)
            stream.write(header)
        stream.seek(log_at)
        stream.write(bytes(log_bytes))
        metadata_at = _region(stream.seek(_VHDX_REGIONS_AT) and stream.read(64 * 1024), _VHDX_METADATA, path)
        stream.seek(metadata_at)
        table = stream.read(64 * 1024)
        (count,) = struct.unpack_from("<H", table, 10)
        for entry in range(32, 32 + 32 * count, 32):
            if table[entry : entry + 16] == _VHDX_PAGE83.bytes_le:
                (offset,) = struct.unpack_from("<I", table, entry + 16)
                stream.seek(metadata_at + offset)
                stream.write(image.bytes_le)


def _region(table: bytes | int, wanted: uuid.UUID, path: Path) -> int:
    """Return the offset of a region of a VHDX's region table."""
    assert isinstance(table, bytes)
    (count,) = struct.unpack_from("<I", table, 8)
    for entry in range(16, 16 + 32 * count, 32):
        if table[entry : entry + 16] == wanted.bytes_le:
            offset: int = struct.unpack_from("<Q", table, entry + 16)[0]
            return offset
    raise CentralitaError(f"{path} has no metadata region")
