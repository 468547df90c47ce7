"""Asks for an address by DHCP on eth0 (RFC 2131) and prints what is offered: address and router. A helper of a test."""

from __future__ import annotations

import socket
import struct
import sys

ROUTER, MESSAGE_TYPE, END = 3, 53, 255


def main(mac: str) -> None:
    """Send one DHCPDISCOVER, by broadcast and from no address, and read the offer."""
    hardware = bytes.fromhex(mac.replace(":", ""))
    fixed = struct.pack("!BBBBIHH16s16s64s128s4s", 1, 1, 6, 0, 0x1234, 0, 0x8000, b"", hardware, b"", b"", b"c\x82Sc")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
        sock.bind(("", 68))
        sock.settimeout(2)
        for _ in range(5):
            sock.sendto(fixed + bytes((MESSAGE_TYPE, 1, 1, 55, 1, ROUTER, END)), ("255.255.255.255", 67))
            try:
                offer = sock.recv(4096)
                break
            except TimeoutError:
                continue
        else:
            sys.exit("no offer")
    options, place = offer[240:], 0
    router = ""
    while options[place] != END:
        code, length = options[place], options[place + 1]
        if code == ROUTER:
            router = socket.inet_ntoa(options[place + 2 : place + 6])
        place += 2 + length
    print(socket.inet_ntoa(offer[16:20]), router)


if __name__ == "__main__":
    main(sys.argv[1])
