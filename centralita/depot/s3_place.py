"""A depot in an S3-compatible object store. Who may read it, and over which address, its bucket's own settings say.

Credentials come from where boto3 looks: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ~/.aws/credentials.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from centralita.depot.index import INDEX
from centralita.depot.place import WORK, Upload, changed
from centralita.depot.reader import Progress, append, begun, within
from centralita.depot.s3_lock import UNKNOWN, Lock, held
from centralita.ground.errors import CentralitaError
from centralita.ground.report import Step, get_reporter

# What is smaller goes in one request. 10,000 parts at most: half a terabyte is more than a disk of ours has.
_PART_BYTES = 16 * 1024 * 1024
_LARGE_PART_BYTES = 64 * 1024 * 1024
_AT_ONCE = 8
_DIGEST = "sha256"
_TYPES = {
    ".asc": "text/plain",
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
    ".minisig": "text/plain",
    ".sjson": "text/plain",
    ".xml": "application/atom+xml",
}


class S3Place:
    """A bucket, or all below a prefix in it. Each object has the SHA-256 of its bytes in its metadata."""

    def __init__(self, address: str) -> None:
        """`s3://BUCKET/PREFIX?endpoint=https://…&region=…`. Raises CentralitaError without boto3."""
        parts = urlsplit(address)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        unknown = sorted(set(query) - {"endpoint", "region"})
        if unknown or not parts.netloc:
            raise CentralitaError(f"{address} names no bucket", hint="s3://BUCKET/PREFIX?endpoint=https://…&region=…")
        endpoint = query.get("endpoint") or None
        if endpoint is not None and urlsplit(endpoint).scheme not in ("http", "https"):
            raise CentralitaError(f"{endpoint} is no endpoint", hint="https://HOST[:PORT]")
        self.bucket = parts.netloc
        self._prefix = f"{parts.path.strip('/')}/".lstrip("/")
        self.name = f"s3://{self.bucket}/{self._prefix}".rstrip("/")
        self._client = _client(endpoint, query.get("region"))
        # What the index was when it was read: it is only replaced where it is still that.
        self._index_tag: str | None = None
        self._lock: Lock | None = None

    @contextmanager
    def opened(self) -> Iterator[None]:
        """See Place: is the bucket there?"""
        with self._explained("reach"):
            self._client.head_bucket(Bucket=self.bucket)
        yield

    @contextmanager
    def locked(self) -> Iterator[None]:
        """See Place: an object tells of the publish that writes. The index itself is only replaced as it was read."""
        with self.opened(), held(self._client, self.bucket, self._key(WORK), self.name) as lock:
            self._lock = lock
            try:
                self._drop_halves()
                yield
            finally:
                self._lock = None

    def read(self, path: str, limit: int) -> bytes | None:
        """See Place."""
        with self._explained("read"):
            try:
                answer = self._client.get_object(Bucket=self.bucket, Key=self._key(path))
            except self._client.exceptions.NoSuchKey:
                if path == INDEX:
                    self._index_tag = None
                return None
            data: bytes = answer["Body"].read(limit + 1)
        if path == INDEX:
            self._index_tag = answer["ETag"]
        return within(data, limit, path)

    def fetch(self, path: str, target: Path, size_bytes: int, progress: Progress) -> None:
        """See Place."""
        done = begun(target, size_bytes)
        if done == size_bytes and done:
            progress(done)
            return
        with self._explained("read"):
            options = {"Range": f"bytes={done}-"} if done else {}
            try:
                answer = self._client.get_object(Bucket=self.bucket, Key=self._key(path), **options)
            except self._client.exceptions.NoSuchKey:
                raise CentralitaError(f"{self.name} has no {path}") from None
            append(answer["Body"], target, done, size_bytes, progress, path)

    def missing(self, uploads: Sequence[Upload]) -> list[Upload]:
        """See Place: by size and by the digest in the metadata; the store itself has checked the bytes."""
        sizes = self._sizes()
        there = [upload for upload in uploads if sizes.get(upload.path) == upload.entry.size_bytes]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            digests = dict(zip((u.path for u in there), pool.map(self._digest, (u.path for u in there)), strict=True))
        return [upload for upload in uploads if digests.get(upload.path) != upload.entry.sha256]

    def put(self, uploads: Sequence[Upload], step: Step) -> None:
        """See Place. An object is there as a whole or not at all."""
        for upload in uploads:
            if self._lock is not None:
                self._lock.check()
            with self._explained("write"):
                if upload.alias:
                    self._copy(upload)
                    step.advance(upload.entry.size_bytes)
                elif upload.entry.size_bytes > _PART_BYTES:
                    self._send_parts(upload, step)
                else:
                    self._send(upload)
                    step.advance(upload.entry.size_bytes)

    def delete(self, paths: Sequence[str]) -> None:
        """See Place."""
        for start in range(0, len(paths), 1000):
            keys = [{"Key": self._key(path)} for path in paths[start : start + 1000]]
            with self._explained("remove from"):
                done = self._client.delete_objects(Bucket=self.bucket, Delete={"Objects": keys, "Quiet": True})
            for error in done.get("Errors", [])[:1]:
                raise CentralitaError(f"cannot remove {error['Key']} from {self.name}: {error.get('Message')}")

    def listing(self) -> list[str]:
        """See Place."""
        return sorted(self._sizes())

    def _key(self, path: str) -> str:
        return self._prefix + path

    def _sizes(self) -> dict[str, int]:
        with self._explained("list"):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self._prefix)
            return {
                item["Key"].removeprefix(self._prefix): item["Size"]
                for page in pages
                for item in page.get("Contents", [])
                # A folder that somebody's browser made is no file, and the lock no part of the depot.
                if not item["Key"].endswith("/") and item["Key"] != self._key(WORK)
            }

    def _digest(self, path: str) -> str | None:
        with self._explained("read"):
            found = self._client.head_object(Bucket=self.bucket, Key=self._key(path))
        return found["Metadata"].get(_DIGEST)  # type: ignore[no-any-return]

    def _about(self, upload: Upload) -> dict[str, object]:
        name = upload.path
        suffix = Path(name).suffix
        # A release's files never change; everything else may at any time.
        stays = name.startswith(("releases/", "index/"))
        return {
            "Metadata": {_DIGEST: upload.entry.sha256},
            "ContentType": _TYPES.get(suffix, "application/octet-stream"),
            "CacheControl": "public, max-age=31536000, immutable" if stays else "no-cache",
        }

    def _send(self, upload: Upload) -> None:
        assert upload.source is not None
        data = upload.source.read_bytes()
        if hashlib.sha256(data).hexdigest() != upload.entry.sha256:
            raise changed(upload)
        options: dict[str, object] = {}
        if upload.path == INDEX:
            options = {"IfMatch": self._index_tag} if self._index_tag else {"IfNoneMatch": "*"}
        try:
            # The store refuses bytes that are not of this digest.
            self._put(
                upload, data, ChecksumSHA256=base64.b64encode(bytes.fromhex(upload.entry.sha256)).decode(), **options
            )
        except self._client.exceptions.ClientError as error:
            code = error.response["Error"]["Code"]
            if code in ("PreconditionFailed", "ConditionalRequestConflict"):
                raise CentralitaError(
                    f"another publish has changed {self.name} meanwhile", hint="publish again: it builds on the other"
                ) from error
            if code != UNKNOWN:
                raise
            self._put(upload, data)

    def _put(self, upload: Upload, data: bytes, **options: object) -> None:
        key = self._key(upload.path)
        self._client.put_object(Bucket=self.bucket, Key=key, Body=data, **self._about(upload), **options)

    def _send_parts(self, upload: Upload, step: Step) -> None:
        """Send a large file in parts, some at once; the object is made of them once all of its bytes were right."""
        assert upload.source is not None
        where = {"Bucket": self.bucket, "Key": self._key(upload.path)}
        identifier = self._client.create_multipart_upload(**where, **self._about(upload))["UploadId"]
        where["UploadId"] = identifier
        size = _LARGE_PART_BYTES if upload.entry.size_bytes > 1000 * _PART_BYTES else _PART_BYTES

        def send(number: int, data: bytes) -> dict[str, object]:
            digest = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
            done = self._client.upload_part(**where, PartNumber=number, Body=data, ContentMD5=digest)
            step.advance(len(data))
            return {"PartNumber": number, "ETag": done["ETag"]}

        whole = hashlib.sha256()
        parts: list[dict[str, object]] = []
        try:
            with upload.source.open("rb") as stream, ThreadPoolExecutor(_AT_ONCE // 2) as pool:
                while True:
                    blocks = [block for _ in range(_AT_ONCE // 2) if (block := stream.read(size))]
                    if not blocks:
                        break
                    for block in blocks:
                        whole.update(block)
                    numbers = range(len(parts) + 1, len(parts) + len(blocks) + 1)
                    parts += pool.map(send, numbers, blocks)
            if whole.hexdigest() != upload.entry.sha256:
                raise changed(upload)
            self._client.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
        except BaseException:
            self._client.abort_multipart_upload(**where)
            raise

    def _copy(self, upload: Upload) -> None:
        """Copy within the store."""
        source = {"Bucket": self.bucket, "Key": self._key(upload.alias)}
        extra = {**self._about(upload), "MetadataDirective": "REPLACE"}
        self._client.copy(source, self.bucket, self._key(upload.path), ExtraArgs=extra)

    def _drop_halves(self) -> None:
        """Give up the parts that killed publishes have sent: nobody sees them, but they cost."""
        from botocore.exceptions import ClientError

        try:
            found = self._client.list_multipart_uploads(Bucket=self.bucket, Prefix=self._prefix)
            for upload in found.get("Uploads", []):
                self._client.abort_multipart_upload(Bucket=self.bucket, Key=upload["Key"], UploadId=upload["UploadId"])
        except ClientError as error:
            get_reporter().warn(f"cannot tidy up what a killed publish may have left in {self.name}: {error}")

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """Say what went wrong in words that help."""
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        try:
            yield
        except NoCredentialsError as error:
            raise CentralitaError(
                f"nothing says who may {what} {self.name}",
                hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write ~/.aws/credentials (chmod 600)",
            ) from error
        except ClientError as error:
            code = str(error.response["Error"].get("Code", ""))
            said = error.response["Error"].get("Message") or code
            raise CentralitaError(
                f"cannot {what} {self.name}: {said} ({code})", hint=_hint(code, self.bucket)
            ) from error
        except (BotoCoreError, Boto3Error) as error:
            raise CentralitaError(
                f"cannot {what} {self.name}: {error}", hint="is the endpoint right, and can it be reached from here?"
            ) from error


def _hint(code: str, bucket: str) -> str:
    if code in ("404", "NoSuchBucket", "NotFound"):
        return f"make the bucket first: aws s3 mb s3://{bucket}"
    if code in ("403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"):
        return f"do these credentials allow s3:ListBucket, GetObject, PutObject and DeleteObject in {bucket}?"
    if code in ("301", "PermanentRedirect", "AuthorizationHeaderMalformed"):
        return "the bucket is in another region: add ?region=…"
    return "the same command goes on with what is there"


def _client(endpoint: str | None, region: str | None) -> Any:  # noqa: ANN401 - boto3 makes its classes as it runs
    try:
        import boto3
        from botocore.config import Config
    except ImportError as error:
        raise CentralitaError(
            "an object store needs boto3, which is not installed", hint="./bootstrap, or pip install boto3"
        ) from error
    _private(Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")).expanduser())
    # By the path and not by a host name of the bucket's own, where it is no store of Amazon's. Others' do not know its
    # newer checksums either, unless they are asked for.
    config = Config(
        s3={"addressing_style": "path"} if endpoint else {},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        retries={"mode": "standard", "max_attempts": 5},
        max_pool_connections=_AT_ONCE,
        connect_timeout=20,
    )
    region = region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or None
    fallback = "us-east-1" if endpoint else None
    # A session of its own: boto3's shared one keeps the credentials that it found first.
    return boto3.session.Session().client("s3", endpoint_url=endpoint, region_name=region or fallback, config=config)


def _private(credentials: Path) -> None:
    try:
        mode = credentials.stat().st_mode
    except OSError:
        return
    if mode & 0o077:
        raise CentralitaError(f"others may read {credentials}", hint=f"chmod 600 {credentials}")
