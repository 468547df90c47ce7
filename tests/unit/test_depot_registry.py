"""A depot in an OCI registry: Debian's docker-registry, as a plain process on the loopback."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from centralita.depot.index import INDEX
from centralita.depot.keys import Keys
from centralita.depot.places import open_place
from centralita.depot.pull import pull
from centralita.depot.registry_place import RegistryPlace
from centralita.depot.verify import verify_folder
from centralita.desk.depots import prune, verify
from centralita.ground.errors import CentralitaError
from tests.depot import NAME, image, publish
from tests.servers import downloaded, killed, registry

pytestmark = pytest.mark.xdist_group("registry-depot")

# Ends itself before the n-th request that changes something; with 0, after the switch and before the tags.
KILLED = """
import os, signal, sys
from pathlib import Path
from centralita.depot import registry_client, registry_place
from tests.depot import image, publish
to, count, content, built = sys.argv[1], int(sys.argv[2]), *map(Path, sys.argv[3:])
left = [count]
call = registry_client.Registry._open
def counted(self, method, path, *words, **options):
    left[0] -= method not in ("GET", "HEAD")
    if count and left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    answer = call(self, method, path, *words, **options)
    if not count and method == "PUT" and path.endswith("/manifests/depot"):
        os.kill(os.getpid(), signal.SIGKILL)
    return answer
registry_client.Registry._open = counted
publish(image(built, content.read_bytes(), version="1.0.1"), to)
"""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry's host and port."""
    with registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def repository(host: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a repository that is empty, and nobody logged in."""
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(home / "auth.json"))
    return f"oci://{host}/tests/{os.urandom(4).hex()}"


def container(content: bytes) -> bytes:
    """An OCI image in a tar, as the format containerdisk is one."""
    layer, config = content * 1000, b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'
    kind = "application/vnd.oci.image"

    def described(data: bytes, media_type: str) -> dict[str, object]:
        return {"mediaType": media_type, "digest": f"sha256:{sha256(data).hexdigest()}", "size": len(data)}

    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": f"{kind}.manifest.v1+json",
            "config": described(config, f"{kind}.config.v1+json"),
            "layers": [described(layer, f"{kind}.layer.v1.tar")],
        }
    ).encode()
    index = json.dumps({"schemaVersion": 2, "manifests": [described(manifest, f"{kind}.manifest.v1+json")]}).encode()
    files = {f"blobs/sha256/{sha256(data).hexdigest()}": data for data in (layer, config, manifest)}
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, data in {"index.json": index, **files}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return made.getvalue()


def skopeo(*words: str | Path) -> str:
    """Ask skopeo."""
    return subprocess.run(["skopeo", *map(str, words)], capture_output=True, text=True, check=True).stdout


def test_a_repository_is_a_depot_and_skopeo_takes_its_images(keys: Keys, home: Path, repository: str) -> None:
    golden = image(home / "built", b"one" * 1000, files={"qcow2": b"one", "containerdisk.tar": container(b"disk")})
    publish(golden, repository)
    place = open_place(repository)
    assert isinstance(place, RegistryPlace)
    served = place._registry.manifest("depot")
    publish(golden, repository)
    assert place._registry.manifest("depot") == served
    verify_folder(downloaded(repository, home / "down"))
    verify(repository, "")
    assert pull(NAME, repository, key=None).qcow2_path.read_bytes() == b"one"
    remote = f"docker://{repository.removeprefix('oci://')}"
    tags = json.loads(skopeo("list-tags", "--tls-verify=false", remote))["Tags"]
    version = f"{NAME}-{golden.record.full_version.replace('+', '_')}"
    assert sorted(tags) == sorted(["depot", NAME, version, f"{NAME}-containerdisk", f"{version}-containerdisk"])
    skopeo("copy", "-q", "--src-tls-verify=false", f"{remote}:{NAME}", f"oci:{home}/copy:x")
    found = {path.name for path in (home / "copy/blobs/sha256").iterdir()}
    assert sha256(golden.qcow2_path.read_bytes()).hexdigest() in found
    skopeo("copy", "-q", "--src-tls-verify=false", f"{remote}:{NAME}-containerdisk", f"oci:{home}/disk:x")
    # A second release: the newest one's tags move.
    publish(
        image(home / "built", b"two" * 1000, version="1.0.1", files={"qcow2": b"two", "oci.tar": container(b"tree")}),
        repository,
    )
    assert len(verify_folder(downloaded(repository, home / "two")).releases) == 2
    assert place._registry.manifest(NAME) != place._registry.manifest(version)
    # The older one goes, and its tags with it.
    prune(repository, keep=1, appliance="", valid_days=30, dry_run=False)
    assert len(verify_folder(downloaded(repository, home / "one")).releases) == 1
    tags = json.loads(skopeo("list-tags", "--tls-verify=false", remote))["Tags"]
    assert version not in tags and f"{version}-containerdisk" not in tags and f"{NAME}-container" in tags


@pytest.mark.image  # half a minute on a busy host
@pytest.mark.timeout(600)
def test_killed_at_any_moment_the_old_state_is_served(keys: Keys, home: Path, host: str, repository: str) -> None:
    content = home / "content"
    content.write_bytes(b"large" * 200_000)
    states = {}
    for count in (3, 24, 0):
        to = f"{repository}-{count}"
        publish(image(home / "built", b"one" * 1000), to)
        before = downloaded(to, home / f"before-{count}") / INDEX
        done = killed(KILLED, to, str(count), content, home / "built")
        assert done.returncode == -signal.SIGKILL, done.stderr
        after = downloaded(to, home / f"after-{count}")
        states[count] = (after / INDEX).read_bytes() == before.read_bytes()
        verify_folder(after)
        newest = image(home / "built", content.read_bytes(), version="1.0.1")
        publish(newest, to)
        assert len(verify_folder(downloaded(to, home / f"then-{count}")).releases) == 2
        layers = json.loads(skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{to[6:]}:{NAME}"))["layers"]
        assert f"sha256:{sha256(newest.qcow2_path.read_bytes()).hexdigest()}" in [layer["digest"] for layer in layers]
    assert states == {3: True, 24: True, 0: False}


def test_who_has_logged_in_may_publish(keys: Keys, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    auth = home / "auth.json"
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(auth))
    golden = image(home / "built", b"one" * 1000)
    (tmp_path / "locked").mkdir()
    with registry(tmp_path / "locked", secret=True) as host:
        to = f"oci://{host}/depots/one"
        with pytest.raises(CentralitaError, match="answers 401") as caught:
            publish(golden, to)
        assert f"skopeo login {host}" in (caught.value.hint or "")
        login = ["skopeo", "login", "--tls-verify=false", "-u", "tests", "--password-stdin", host]
        subprocess.run(login, input="only-these", text=True, check=True, capture_output=True)
        publish(golden, to)
        verify_folder(downloaded(to, home / "down"))
        auth.chmod(0o644)
        with pytest.raises(CentralitaError, match="others may read"):
            publish(golden, to)


def test_what_is_wrong_is_said(keys: Keys, home: Path, repository: str, host: str) -> None:
    golden = image(home / "built", b"one" * 1000)
    with pytest.raises(CentralitaError, match="cannot be reached") as caught:
        publish(golden, "oci://127.0.0.1:9/x")
    assert "is it running" in (caught.value.hint or "")
    with pytest.raises(CentralitaError, match="names no repository"):
        publish(golden, f"oci://{host}/UPPER")
    place = open_place(repository)
    assert isinstance(place, RegistryPlace)
    other = b'{"schemaVersion":2,"config":{"mediaType":"x","digest":"sha256:' + sha256(b"{}").hexdigest().encode()
    publish(golden, repository)
    with place.opened():
        before = place._served
        publish(image(home / "built", b"two" * 1000), repository)
        with pytest.raises(CentralitaError, match="another publish has changed"):
            place._switch()
    assert before != place._registry.manifest("depot")
    place._registry.put_manifest(
        "depot",
        other + b'","size":2},"layers":[],"mediaType":"application/vnd.oci.image.manifest.v1+json"}',
        "application/vnd.oci.image.manifest.v1+json",
    )
    with pytest.raises(CentralitaError, match="is no depot"):
        publish(golden, repository)
