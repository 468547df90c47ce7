"""Servers that a depot's clients speak to, in the lab's network: one of HTTPS, and a registry of container images.

Their certificates are signed by an authority that is made for the one use. Nothing of them reaches the host: a client
is told of the authority by its own means.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from centralita.ground.run import run
from centralita.lab.net import LabNetwork
from centralita.lab.outside import Outside
from centralita.packages.tools import tools_tree

READY_S = 60
HTTPS_PORT, REGISTRY_PORT = 443, 5000
# openssl's own configuration would add what is not wanted.
_REQUEST = "[req]\ndistinguished_name=name\n[name]\n"


@dataclass(frozen=True)
class Authority:
    """A certificate authority, and a server's certificate by it: PEM files, the keys 0600."""

    ca: Path
    certificate: Path
    key: Path


def make_authority(folder: Path, address: IPv4Address) -> Authority:
    """Make an authority, and a certificate for a server at *address*; both are good for two days."""
    folder.mkdir(mode=0o700)
    config = folder / "request.cnf"
    config.write_text(_REQUEST)
    ca, ca_key, certificate, key = (folder / name for name in ("ca.crt", "ca.key", "server.crt", "server.key"))
    new: list[str | Path] = ["openssl", "req", "-x509", "-config", config, "-newkey", "ec", "-pkeyopt",
                             "ec_paramgen_curve:P-256", "-noenc", "-days", "2"]  # fmt: skip
    run([*new, "-subj", "/CN=Centralita's test authority", "-addext", "basicConstraints=critical,CA:TRUE", "-addext",
         "keyUsage=critical,keyCertSign", "-keyout", ca_key, "-out", ca])  # fmt: skip
    run([*new, "-subj", f"/CN={address}", "-CA", ca, "-CAkey", ca_key, "-addext", f"subjectAltName=IP:{address}",
         "-addext", "basicConstraints=critical,CA:FALSE", "-addext", "extendedKeyUsage=serverAuth", "-keyout", key,
         "-out", certificate])  # fmt: skip
    return Authority(ca, certificate, key)


@contextmanager
def web_server(network: LabNetwork, folder: Path, authority: Authority, workdir: Path) -> Iterator[str]:
    """Serve the files of *folder* over HTTPS with lighttpd at the lab's own address; give the address of its root."""
    tree = tools_tree("servers")
    address = network.host_address
    config = workdir / "lighttpd.conf"
    config.write_text(
        "\n".join(
            (
                'server.modules = ("mod_openssl", "mod_accesslog")',
                f"server.document-root = {json.dumps(str(folder))}",
                f'server.bind = "{address}"',
                f"server.port = {HTTPS_PORT}",
                'ssl.engine = "enable"',
                f"ssl.pemfile = {json.dumps(str(authority.certificate))}",
                f"ssl.privkey = {json.dumps(str(authority.key))}",
                f"accesslog.filename = {json.dumps(str(workdir / 'access.log'))}",
                'mimetype.assign = (".html" => "text/html; charset=utf-8", ".json" => "application/json",'
                ' ".atom" => "application/atom+xml", "" => "application/octet-stream")',
                "",
            )
        )
    )
    argv = [*tree.command("lighttpd"), "-D", "-f", str(config), "-m", str(tree.file("/usr/lib/lighttpd"))]
    with Outside(argv, network, workdir, name="lighttpd") as server:
        server.wait_until(lambda: network.tcp_open(address, HTTPS_PORT), "listen", timeout_s=READY_S)
        yield f"https://{address}"


@contextmanager
def registry(network: LabNetwork, authority: Authority, workdir: Path) -> Iterator[str]:
    """Run Debian's docker-registry over HTTPS, empty, at the lab's own address; give its host and port."""
    tree = tools_tree("servers")
    address = network.host_address
    config = workdir / "registry.yml"
    document = {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(workdir / "registry")}},
        "http": {
            "addr": f"{address}:{REGISTRY_PORT}",
            "secret": secrets.token_hex(16),
            "tls": {"certificate": str(authority.certificate), "key": str(authority.key)},
        },
    }
    # YAML is a superset of JSON.
    config.write_text(json.dumps(document))
    with Outside([*tree.command("docker-registry"), "serve", config], network, workdir, name="registry") as server:
        server.wait_until(lambda: network.tcp_open(address, REGISTRY_PORT), "listen", timeout_s=READY_S)
        yield f"{address}:{REGISTRY_PORT}"
