"""A web server for a depot in a folder, that knows ranges, counts what it sent, and can be cut off."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Web:
    """A running server. ``sent`` are the bytes of each answer's body: path, first byte, bytes."""

    folder: Path
    url: str = ""
    #: Cuts the connection of the answers for a path that ends so, after so many bytes.
    cut: tuple[str, int] | None = None
    ranges: bool = True
    sent: list[tuple[str, int, int]] = field(default_factory=list)

    def total(self, ending: str = "") -> int:
        """Bytes that were sent of paths with this ending."""
        return sum(count for path, _first, count in self.sent if path.endswith(ending))


@contextmanager
def serving(folder: Path) -> Iterator[Web]:
    """Serve a folder at a free port of this host."""
    web = Web(folder)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = folder / self.path.lstrip("/")
            if not path.is_file():
                self.send_error(404)
                return
            data = path.read_bytes()
            first = 0
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            if asked and web.ranges:
                first = int(asked[1])
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
            else:
                self.send_response(200)
            body = data[first:]
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if web.cut is not None and self.path.endswith(web.cut[0]):
                body = body[: web.cut[1]]
            web.sent.append((self.path, first, len(body)))
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    web.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
