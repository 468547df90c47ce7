"""Keeps two publishes into one object store apart: an object says who writes, and is renewed for as long as they do."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any

from centralita.ground.errors import CentralitaError
from centralita.ground.ledger import Owner
from centralita.ground.report import get_reporter

#: What a store answers that knows no conditional writes.
UNKNOWN = "NotImplemented"
_TAKEN = ("PreconditionFailed", "ConditionalRequestConflict")
_RENEWED_S = 30.0
# By the store's own clock. Who has slept for longer finds out before the next object is written.
_STALE_S = 180.0


class Lock:
    """The lock, held. Its ``tag`` changes with each renewal."""

    def __init__(self, client: Any, where: dict[str, str], name: str, tag: str) -> None:  # noqa: ANN401 - boto3's
        self._client, self._where, self._name, self.tag = client, where, name, tag
        self._lost = ""
        self._ended = threading.Event()

    def check(self) -> None:
        """Raises CentralitaError where another publish has taken the lock over."""
        if self._lost:
            raise CentralitaError(
                f"{self._name} is no longer held by this publish: {self._lost}", hint="publish again when it is done"
            )

    def renew(self) -> None:
        """Renew the lock until `end`; in a thread of its own."""
        from botocore.exceptions import BotoCoreError, ClientError

        while not self._ended.wait(_RENEWED_S):
            try:
                self.tag = _write(self._client, self._where, IfMatch=self.tag)
            except ClientError as error:
                if error.response["Error"]["Code"] in (*_TAKEN, "NoSuchKey"):
                    self._lost = "another has taken it over, as nothing was heard of this one for too long"
                    return
            except BotoCoreError:
                pass  # tried again; it goes stale in the end

    def end(self) -> None:
        """Stop renewing."""
        self._ended.set()


def _write(client: Any, where: dict[str, str], **condition: str) -> str:  # noqa: ANN401
    about = {"host": socket.gethostname(), **asdict(Owner.current())}
    tag: str = client.put_object(**where, Body=json.dumps(about).encode(), **condition)["ETag"]
    return tag


@contextmanager
def held(client: Any, bucket: str, key: str, name: str) -> Iterator[Lock | None]:  # noqa: ANN401
    """Hold the lock of a depot; None where the store knows no conditional writes, which is said aloud.

    One whose owner is dead, or was not heard of for three minutes, is taken over. Raises CentralitaError where
    another publish holds it.
    """
    from botocore.exceptions import ClientError

    where = {"Bucket": bucket, "Key": key}
    try:
        try:
            tag = _write(client, where, IfNoneMatch="*")
        except ClientError as error:
            if error.response["Error"]["Code"] not in _TAKEN:
                raise
            tag = _take_over(client, where, name)
    except ClientError as error:
        code, said = error.response["Error"]["Code"], error.response["Error"].get("Message")
        if code != UNKNOWN:
            hint = f"do these credentials allow s3:PutObject and s3:DeleteObject in {bucket}?"
            raise CentralitaError(f"cannot write {name}: {said} ({code})", hint=hint) from error
        get_reporter().warn(f"the store of {name} knows no conditional writes: nothing keeps two publishes apart")
        yield None
        return
    lock = Lock(client, where, name, tag)
    renewing = threading.Thread(target=lock.renew, daemon=True)
    renewing.start()
    try:
        yield lock
    finally:
        lock.end()
        renewing.join()
        with suppress(CentralitaError, ClientError):
            lock.check()
            client.delete_object(**where)


def _take_over(client: Any, where: dict[str, str], name: str) -> str:  # noqa: ANN401
    """Take a lock over whose owner is gone; returns its tag."""
    from email.utils import parsedate_to_datetime

    from botocore.exceptions import ClientError

    try:
        found = client.get_object(**where)
    except ClientError:
        return _write(client, where, IfNoneMatch="*")  # let go just now
    about = json.loads(found["Body"].read(4096))
    answered = parsedate_to_datetime(found["ResponseMetadata"]["HTTPHeaders"]["date"])
    age_s = (answered - found["LastModified"]).total_seconds()
    host = about.pop("host")
    here = Owner.current()
    owner = Owner(**about)
    dead = host == socket.gethostname() and owner.boot == here.boot and not owner.alive()
    if not dead and age_s < _STALE_S:
        raise CentralitaError(
            f"another publish writes to {name}: one on {host}, heard of {max(0, age_s):.0f} s ago",
            hint=f"wait for it; was it killed, the next publish may go on {_STALE_S:.0f} s after its last sign of life",
        )
    try:
        return _write(client, where, IfMatch=found["ETag"])
    except ClientError as error:
        if error.response["Error"]["Code"] not in _TAKEN:
            raise
        raise CentralitaError(f"another publish writes to {name}", hint="wait for it") from error
