"""A depot in an object store: a real S3 interface (moto's server) on the loopback."""

from __future__ import annotations

import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from centralita.depot import s3_lock
from centralita.depot.compose import written
from centralita.depot.index import INDEX
from centralita.depot.keys import Keys
from centralita.depot.place import Place
from centralita.depot.places import open_place
from centralita.depot.pull import pull
from centralita.depot.s3_place import S3Place
from centralita.depot.verify import verify_folder
from centralita.desk.depots import verify
from centralita.ground.errors import CentralitaError
from centralita.ground.report import get_reporter
from tests.depot import NAME, image, publish
from tests.servers import S3Server, downloaded, killed, s3_server

pytestmark = [pytest.mark.xdist_group("s3-depot")]

# Ends itself before the n-th request that changes something; with 0, before the first one after the switch.
KILLED = """
import os, signal, sys
from pathlib import Path
from centralita.depot import s3_place
from tests.depot import image, publish
to, count, content, built = sys.argv[1], int(sys.argv[2]), *map(Path, sys.argv[3:])
s3_place._PART_BYTES = 5 * 1024 * 1024
left, switched = [count], []
make = s3_place._client
def client(*words):
    made = make(*words)
    def before(request, **_about):
        left[0] -= 1
        if left[0] == 0 or switched:
            os.kill(os.getpid(), signal.SIGKILL)
        if count == 0 and request.url.endswith("/index.json") and "/one/index.json" in request.url:
            switched.append(True)
    for name in ("PutObject", "CopyObject", "UploadPart", "CompleteMultipartUpload", "DeleteObjects"):
        made.meta.events.register(f"before-send.s3.{name}", before)
    return made
s3_place._client = client
publish(image(built, content.read_bytes(), version="1.0.1"), to)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An object store."""
    with s3_server(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture
def bucket(server: S3Server, monkeypatch: pytest.MonkeyPatch, home: Path) -> str:
    """The address of a new bucket's folder, and credentials for it."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "only-these")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(home / "credentials"))
    return server.new_bucket()


def written_at(place: Place) -> dict[str, object]:
    """When each object was written."""
    assert isinstance(place, S3Place)
    found = place._client.list_objects_v2(Bucket=place.bucket)["Contents"]
    return {item["Key"]: item["LastModified"] for item in found}


def test_a_bucket_is_a_depot(keys: Keys, home: Path, bucket: str, server: S3Server) -> None:
    golden = image(home / "built", b"one" * 1000)
    publish(golden, bucket)
    before = written_at(open_place(bucket))
    publish(golden, bucket)
    assert written_at(open_place(bucket)) == before
    # Over plain HTTP it is a depot as any other.
    for address in (server.web(bucket), bucket):
        pulled = pull(NAME, address, key=keys.minisign)
        assert pulled.qcow2_path.read_bytes() == golden.qcow2_path.read_bytes()
        verify(address, "")
    publish(image(home / "built", b"two" * 1000), bucket)
    after = written_at(open_place(bucket))
    assert {key: after[key] for key in before if "/releases/" in key} == {
        key: when for key, when in before.items() if "/releases/" in key
    }
    assert len(verify_folder(downloaded(bucket, home / "down")).releases) == 2
    place = open_place(bucket)
    assert isinstance(place, S3Place)
    place._client.put_object(Bucket=place.bucket, Key="depots/one/stranger", Body=b"x")
    verify(server.web(bucket), "")
    with pytest.raises(CentralitaError, match="stranger belongs to no release"):
        verify(bucket, "")
    disk = next(key for key in after if key.endswith(".qcow2"))
    data = place._client.get_object(Bucket=place.bucket, Key=disk)["Body"].read()
    place._client.put_object(Bucket=place.bucket, Key=disk, Body=data[:-1] + b"?")
    with pytest.raises(CentralitaError, match=r"qcow2 is not what was signed"):
        verify(server.web(bucket), "")
    with urllib.request.urlopen(f"{server.web(bucket)}/{INDEX}") as answer:
        assert (answer.headers["Content-Type"], answer.headers["Cache-Control"]) == ("application/json", "no-cache")


@pytest.mark.image  # a minute on a busy host
@pytest.mark.timeout(600)
def test_killed_at_any_moment_the_old_state_is_served(keys: Keys, home: Path, server: S3Server, bucket: str) -> None:
    content = home / "content"
    content.write_bytes(b"large" * 2_000_000)
    states = {}
    for count in (2, 12, 24, 0):
        to = server.new_bucket()
        publish(image(home / "built", b"one" * 1000), to)
        place = open_place(to)
        assert isinstance(place, S3Place)
        served = place.read(INDEX, 1 << 20)
        done = killed(KILLED, to, str(count), content, home / "built")
        assert done.returncode == -signal.SIGKILL, done.stderr
        states[count] = place.read(INDEX, 1 << 20) == served
        verify_folder(downloaded(to, home / f"killed-{count}"))
        publish(image(home / "built", content.read_bytes(), version="1.0.1"), to)
        assert len(verify_folder(downloaded(to, home / f"then-{count}")).releases) == 2
        assert "Uploads" not in place._client.list_multipart_uploads(Bucket=place.bucket)
    assert states == {0: False} | dict.fromkeys((2, 12, 24), True)


def test_two_at_once_are_kept_apart(keys: Keys, home: Path, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    golden = image(home / "built", b"one" * 1000)
    publish(golden, bucket)
    place = open_place(bucket)
    assert isinstance(place, S3Place)
    where = {"Bucket": place.bucket, "Key": "depots/one/.publish"}
    with place.locked(), pytest.raises(CentralitaError, match=r"another publish writes to .* heard of"):
        publish(golden, bucket)
    assert "Contents" not in place._client.list_objects_v2(Bucket=place.bucket, Prefix=where["Key"])
    monkeypatch.setattr(s3_lock, "_RENEWED_S", 0.1)
    with place.locked():
        # Taken over by another host meanwhile.
        place._client.put_object(**where, Body=b"another")
        with pytest.raises(CentralitaError, match="no longer held"):
            put_until_refused(place, home)
    assert place._client.get_object(**where)["Body"].read() == b"another"
    place._client.delete_object(**where)
    # And without any lock: the index is only replaced as it was read.
    place.read(INDEX, 1 << 20)
    publish(image(home / "built", b"two" * 1000), bucket)
    with get_reporter().step("test") as step, pytest.raises(CentralitaError, match="another publish has changed"):
        place.put([written(home, INDEX, b"{}")], step)
    assert len(verify_folder(downloaded(bucket, home / "down")).releases) == 2


def put_until_refused(place: Place, home: Path) -> None:
    """Write a file again and again; each time the lock is looked at."""
    for _ in range(600):
        with get_reporter().step("test") as step:
            place.put([written(home, "index/file", b"x")], step)
        place.delete(["index/file"])


def test_what_is_wrong_is_said(keys: Keys, home: Path, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    golden = image(home / "built", b"one" * 1000)

    def said(to: str) -> str:
        with pytest.raises(CentralitaError) as caught:
            publish(golden, to)
        return "\n".join(caught.value.lines())

    name = bucket.partition("//")[2].split("/")[0]
    assert "make the bucket first: aws s3 mb s3://nowhere" in said(bucket.replace(name, "nowhere"))
    assert "is the endpoint right" in said("s3://bucket/x?endpoint=http://127.0.0.1:9")
    assert "names no bucket" in said("s3:///x")
    (home / "credentials").write_text("[default]\n")
    (home / "credentials").chmod(0o644)
    assert "chmod 600" in said(bucket)
    (home / "credentials").chmod(0o600)
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(variable)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    assert "AWS_SECRET_ACCESS_KEY" in said(bucket)
