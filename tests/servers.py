"""Real servers that releases are published to, each a plain process on a port of its own on the loopback."""

from __future__ import annotations

import json
import os
import pwd
import re
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from centralita.depot.places import open_place
from centralita.ground import ledger
from centralita.ground.run import environment, run
from centralita.image.ostree import private_mounts

_START_S = 60.0
_SSHD = 'mount --bind "$1" /etc/passwd && shift && exec dropbear "$@"'


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(argv: Sequence[str | Path], port: int, log: Path, env: dict[str, str] | None = None) -> Iterator[None]:
    """A server from the moment that it takes connections."""
    with (
        log.open("ab") as sink,
        ledger.default().process(argv, env={**environment(), **(env or {})}, stdout=sink, stderr=sink) as process,
    ):
        deadline = time.monotonic() + _START_S
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{argv[0]} does not listen: {log.read_text()}")
            time.sleep(0.05)
        yield


@dataclass(frozen=True)
class SshServer:
    """An SSH daemon with a key of its own; who calls it is this user, with another home folder."""

    folder: Path
    port: int

    def address(self, path: Path | str, *, known_hosts: str = "known_hosts", scheme: str = "rsync+ssh") -> str:
        """How a folder on it is named."""
        query = f"keyfile={self.folder / 'client'}&known_hosts={self.folder / known_hosts}"
        return f"{scheme}://127.0.0.1:{self.port}{path}?{query}"


@contextmanager
def ssh_server(folder: Path) -> Iterator[SshServer]:
    """Run dropbear; root only, as the user's home folder is another one for it."""
    home, port = folder / "home", free_port()
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    home.chmod(0o700)
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "tests", "-f", folder / "client"])
    (home / ".ssh/authorized_keys").write_text((folder / "client.pub").read_text())
    said = run(["dropbearkey", "-t", "ed25519", "-f", folder / "server"]).stdout
    public = next(line for line in said.splitlines() if line.startswith("ssh-ed25519"))
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {' '.join(public.split()[:2])}\n")
    (folder / "nobody_known").touch()
    name = re.escape(pwd.getpwuid(os.getuid()).pw_name)
    users = re.sub(rf"(?m)^({name}:(?:[^:]*:){{4}})[^:]*", rf"\1{home}", Path("/etc/passwd").read_text())
    (folder / "passwd").write_text(users)
    argv: list[str | Path] = [
        "-F",
        "-E",
        "-s",
        "-r",
        folder / "server",
        "-p",
        f"127.0.0.1:{port}",
        "-P",
        folder / "pid",
    ]
    mounts = private_mounts()
    with ExitStack() as stack:
        if not mounts:  # in a chroot: what is mounted there would stay
            stack.enter_context(ledger.default().mount(Path("/etc/passwd")))
        command = [*mounts, "sh", "-c", _SSHD, "sh", folder / "passwd", *argv]
        stack.enter_context(serving(command, port, folder / "sshd.log"))
        yield SshServer(folder, port)


@dataclass(frozen=True)
class S3Server:
    """An object store on this host."""

    url: str

    def new_bucket(self) -> str:
        """Make a bucket that anybody may read from, and return the address of a folder in it."""
        import boto3

        name = f"tests-{secrets.token_hex(4)}"
        client = boto3.client(
            "s3", endpoint_url=self.url, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
        )
        client.create_bucket(Bucket=name)
        rule = {
            "Effect": "Allow", "Principal": "*", "Action": ["s3:GetObject"], "Resource": [f"arn:aws:s3:::{name}/*"],
        }  # fmt: skip
        policy = {"Version": "2012-10-17", "Statement": [rule]}
        client.put_bucket_policy(Bucket=name, Policy=json.dumps(policy))
        return f"s3://{name}/depots/one?endpoint={self.url}"

    def web(self, address: str) -> str:
        """The address of what `new_bucket` named, for a reader of web pages."""
        return f"{self.url}/{address.partition('//')[2].partition('?')[0]}"


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """Run moto's server."""
    port = free_port()
    argv = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with serving(argv, port, folder / "moto.log"):
        yield S3Server(f"http://127.0.0.1:{port}")


_REGISTRY = """
version: 0.1
log: {{level: info, accesslog: {{disabled: false}}}}
storage:
  filesystem: {{rootdirectory: {folder}/data}}
  delete: {{enabled: true}}
http: {{addr: "127.0.0.1:{port}"}}
"""
# The user `tests` with the password `only-these`.
_HTPASSWD = "tests:$2b$05$/BWPF0wZ0uaKeZu06aVrIOabz4PefxoW75Ocm8GfDgVETYl4CY.c2\n"


@contextmanager
def registry(folder: Path, *, secret: bool = False) -> Iterator[str]:
    """Run docker-registry; yields its host and port. With *secret* only one user is let in."""
    port = free_port()
    settings = _REGISTRY.format(folder=folder, port=port)
    if secret:
        (folder / "htpasswd").write_text(_HTPASSWD)
        settings += f"auth: {{htpasswd: {{realm: tests, path: {folder}/htpasswd}}}}\n"
    (folder / "config.yml").write_text(settings)
    with serving(["docker-registry", "serve", folder / "config.yml"], port, folder / "registry.log"):
        yield f"127.0.0.1:{port}"


def downloaded(to: str, folder: Path) -> Path:
    """What is at a place, as a folder."""
    place = open_place(to)
    with place.opened():
        for path in place.listing():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(place.read(path, 1 << 30) or b"")
    return folder


def killed(script: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a Python program that may end itself by SIGKILL."""
    argv = [sys.executable, "-c", script, *map(str, words)]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=300)
