"""Speaks to an OCI registry: blobs and manifests of one repository (distribution-spec 1.1)."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import quote, urlencode, urljoin, urlsplit

from centralita.depot.reader import BLOCK, Progress
from centralita.ground.errors import CentralitaError

_TIMEOUT_S = 60.0
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
_LOOPBACK = re.compile(r"localhost|127(?:\.\d+){3}|\[::1\]")


@dataclass(frozen=True)
class Answer:
    """What a registry answered: the status, its headers (names in lower case), and the body unless it was streamed."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class _Counted:
    """A file that is sent: at most its size, and each block told of."""

    def __init__(self, stream: IO[bytes], size_bytes: int, progress: Progress) -> None:
        self._stream, self._left, self._progress = stream, size_bytes, progress

    def read(self, amount: int = -1) -> bytes:
        """Return the next bytes."""
        block = self._stream.read(min(self._left, BLOCK if amount < 0 else max(amount, BLOCK)))
        self._left -= len(block)
        self._progress(len(block))
        return block


class Registry:
    """A repository in a registry."""

    def __init__(self, host: str, repository: str, *, plain: bool | None = None) -> None:
        """*host* may have a port. By HTTPS, unless *plain*, or on the loopback: as Docker and containerd do."""
        if plain is None:
            plain = _LOOPBACK.fullmatch(re.sub(r":\d+$", "", host)) is not None
        self.host, self.repository = host, repository
        self.name = f"{host}/{repository}"
        self._base = f"{'http' if plain else 'https'}://{host}"
        self._secret = stored_credentials(host)
        self._authorization = ""

    def has_blob(self, digest: str) -> bool:
        """Whether a blob is there; *digest* with its algorithm."""
        return self._call("HEAD", self._path("blobs", digest), may=(200, 404)).status == 200

    def put_blob(self, digest: str, source: Path | bytes | IO[bytes], size_bytes: int, progress: Progress) -> bool:
        """Upload a blob where it is not there, and return whether that was needed.

        The registry refuses bytes of another digest. Raises CentralitaError.
        """
        if self.has_blob(digest):
            progress(size_bytes)
            return False
        begun = self._call("POST", self._path("blobs", "uploads/"), may=(202,))
        where = urljoin(self._base, begun.headers["location"])
        target = f"{where}{'&' if '?' in where else '?'}{urlencode({'digest': digest})}"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size_bytes)}
        if isinstance(source, bytes):
            self._call("PUT", target, data=source, headers=headers, may=(201,))
            progress(size_bytes)
            return True
        with source.open("rb") if isinstance(source, Path) else source as stream:
            self._call("PUT", target, data=_Counted(stream, size_bytes, progress), headers=headers, may=(201,))
        return True

    @contextmanager
    def open_blob(self, digest: str, start: int = 0) -> Iterator[http.client.HTTPResponse | None]:
        """Read a blob from a byte on; None where it is not there. Raises CentralitaError."""
        headers = {"Range": f"bytes={start}-"} if start else {}
        answer = self._open("GET", self._path("blobs", digest), headers, None)
        if isinstance(answer, Answer):
            if answer.status != 404:
                raise self._refused("GET", answer)
            yield None
            return
        with answer:
            yield answer

    def manifest(self, reference: str) -> bytes | None:
        """A manifest by its tag or digest, None where there is none. Raises CentralitaError."""
        accept = "application/vnd.oci.image.manifest.v1+json"
        answer = self._call("GET", self._path("manifests", reference), headers={"Accept": accept}, may=(200, 404))
        return answer.body if answer.status == 200 else None

    def put_manifest(self, reference: str, data: bytes, media_type: str) -> None:
        """Put a manifest under a tag or its digest; its blobs must be there. Raises CentralitaError."""
        path = self._path("manifests", reference)
        self._call("PUT", path, data=data, headers={"Content-Type": media_type}, may=(201,))

    def drop(self, tag: str) -> None:
        """Remove a tag, as far as the registry lets anybody: its manifest, with all the tags that it has."""
        data = self.manifest(tag)
        if data is not None:
            path = self._path("manifests", f"sha256:{hashlib.sha256(data).hexdigest()}")
            self._call("DELETE", path, may=(202, 404, 405))

    def check(self) -> None:
        """Raises CentralitaError where the registry cannot be reached, or lets nobody in."""
        self._call("GET", "/v2/", may=(200,))

    def _path(self, kind: str, reference: str) -> str:
        return f"/v2/{self.repository}/{kind}/{reference}"

    def _call(
        self,
        method: str,
        path: str,
        *,
        may: tuple[int, ...],
        headers: Mapping[str, str] | None = None,
        data: bytes | _Counted | None = None,
    ) -> Answer:
        answer = self._open(method, path, dict(headers or {}), data)
        if not isinstance(answer, Answer):
            with answer:
                names = {name.lower(): value for name, value in answer.headers.items()}
                answer = Answer(answer.status, names, answer.read())
        if answer.status not in may:
            raise self._refused(method, answer)
        return answer

    def _open(
        self, method: str, path: str, headers: dict[str, str], data: bytes | _Counted | None, again: bool = True
    ) -> http.client.HTTPResponse | Answer:
        url = urljoin(self._base, path)
        request = urllib.request.Request(url, data=data, headers=headers, method=method)
        if self._authorization and urlsplit(url).netloc == urlsplit(self._base).netloc:
            # Not sent on to where a registry's answer may lead: its own store does not want it, nor may have it.
            request.add_unredirected_header("Authorization", self._authorization)
        try:
            answer: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
            return answer
        except urllib.error.HTTPError as error:
            names = {name.lower(): value for name, value in error.headers.items()}
            # What is sent cannot be sent twice; but before a blob is, its existence was asked for.
            if error.code == 401 and again and not isinstance(data, _Counted) and self._authorize(names):
                return self._open(method, path, headers, data, again=False)
            return Answer(error.code, names, error.read())
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> CentralitaError:
        reason = getattr(error, "reason", None) or error
        hint = "is it running, and are host and port right?"
        if isinstance(reason, ssl.SSLCertVerificationError):
            hint = "have its CA's certificate among this host's, or name it by SSL_CERT_FILE"
        elif isinstance(reason, ssl.SSLError):
            hint = f"does it speak HTTP only? then oci+http://{self.name}, inside a network that you trust"
        return CentralitaError(f"the registry {self.host} cannot be reached: {reason}", hint=hint)

    def _authorize(self, headers: Mapping[str, str]) -> bool:
        """Get in as the registry's challenge says; returns whether another try makes sense."""
        kind, _, rest = headers.get("www-authenticate", "").partition(" ")
        if kind.lower() == "basic" and self._secret:
            self._authorization = f"Basic {self._secret}"
            return True
        said = dict(_CHALLENGE.findall(rest))
        if kind.lower() != "bearer" or "realm" not in said:
            return False
        query = {"scope": f"repository:{self.repository}:pull,push"}
        if "service" in said:
            query["service"] = said["service"]
        request = urllib.request.Request(f"{said['realm']}?{urlencode(query, quote_via=quote)}")
        if self._secret:
            request.add_unredirected_header("Authorization", f"Basic {self._secret}")
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
                token = json.loads(answer.read())
        except urllib.error.HTTPError:
            return False
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._unreachable(error) from error
        self._authorization = f"Bearer {token.get('token') or token.get('access_token')}"
        return True

    def _refused(self, method: str, answer: Answer) -> CentralitaError:
        try:
            said = "; ".join(f"{e.get('message')} ({e.get('code')})" for e in json.loads(answer.body)["errors"])
        except (ValueError, KeyError, TypeError, AttributeError):
            said = http.client.responses.get(answer.status, "")
        hint = "the same command goes on with what is there"
        if answer.status in (401, 403):
            hint = f"skopeo login {self.host} (or podman, docker); and may that user push to {self.repository}?"
        elif answer.status == 413:
            hint = "what stands before the registry limits the size of a request (nginx: client_max_body_size 0)"
        return CentralitaError(f"the registry {self.name} answers {answer.status} to {method}: {said}", hint=hint)


def stored_credentials(host: str) -> str:
    """User and password for a registry as `skopeo login`, `podman login` and `docker login` leave them, in base64.

    containers-auth.json(5); Docker's helpers are not asked. Raises CentralitaError where others may read the file.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/containers/{os.getuid()}"
    config = os.environ.get("DOCKER_CONFIG") or "~/.docker"
    said = os.environ.get("REGISTRY_AUTH_FILE")
    files = [said] if said else [f"{runtime}/containers/auth.json", "~/.config/containers/auth.json"]
    for file in [*files, f"{config}/config.json"]:
        path = Path(file).expanduser()
        try:
            auths = json.loads(path.read_text()).get("auths", {})
        except (OSError, ValueError, AttributeError):
            continue
        found = str((auths.get(host) or {}).get("auth") or "")
        if not found:
            continue
        if path.stat().st_mode & 0o077:
            raise CentralitaError(f"others may read {path}", hint=f"chmod 600 {path}")
        return found
    return ""
