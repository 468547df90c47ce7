"""A depot on a host that ssh reaches: a real SSH daemon and a real rsync, on the loopback."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from centralita.depot.keys import Keys
from centralita.depot.places import open_place
from centralita.depot.pull import pull
from centralita.depot.verify import verify_folder
from centralita.desk.depots import verify
from centralita.ground.errors import CentralitaError
from tests.depot import NAME, image, publish
from tests.servers import SshServer, killed, ssh_server

pytestmark = [pytest.mark.image, pytest.mark.xdist_group("ssh-depot")]

# Ends itself before the n-th thing that it has the other host do, in the middle of sending, or after the switch.
KILLED = """
import os, signal, sys
from pathlib import Path
from centralita.depot import ssh_place
from centralita.ground.report import Step
from tests.depot import image, publish
to, point, count, content, built = sys.argv[1], sys.argv[2], int(sys.argv[3]), *map(Path, sys.argv[4:])
left = [count]
def counted(function):
    def wrapped(self, *args, **options):
        left[0] -= 1 if point == "command" else (args or (1,))[0]
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(self, *args, **options)
    return wrapped
if point == "command":
    ssh_place.SshPlace._run = counted(ssh_place.SshPlace._run)
elif point == "bytes":
    Step.advance = counted(Step.advance)
else:
    put = ssh_place.SshPlace.put
    def switch(self, uploads, step):
        put(self, uploads, step)
        if uploads and uploads[-1].path == "index.json":
            os.kill(os.getpid(), signal.SIGKILL)
    ssh_place.SshPlace.put = switch
publish(image(built, content.read_bytes(), version="1.0.1"), to)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    """An SSH daemon."""
    with ssh_server(tmp_path_factory.mktemp("ssh")) as running:
        yield running


def wait_unlocked(folder: Path) -> None:
    """Wait until the other side has seen that its caller is dead."""
    deadline = time.monotonic() + 30
    while subprocess.run(["flock", "-n", folder, "true"], check=False).returncode != 0:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_folder_on_another_host(keys: Keys, home: Path, server: SshServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1790000000")
    there = home / "there it is"
    golden = image(home / "built", b"one" * 1000)
    publish(golden, server.address(str(there).replace(" ", "%20")))
    publish(golden, home / "here")
    subprocess.run(["diff", "-r", there, home / "here"], check=True)
    inodes = {path: path.stat().st_ino for path in there.rglob("*") if path.is_file()}
    publish(golden, server.address(str(there).replace(" ", "%20"), scheme="ssh"))
    assert {path: path.stat().st_ino for path in there.rglob("*") if path.is_file()} == inodes
    publish(image(home / "built", b"two" * 1000), server.address(str(there).replace(" ", "%20")))
    assert {path: path.stat().st_ino for path in inodes if "releases" in path.parts} == {
        path: inode for path, inode in inodes.items() if "releases" in path.parts
    }
    assert len(verify_folder(there).releases) == 2
    verify(server.address(str(there).replace(" ", "%20")), "")
    pulled = pull(NAME, server.address(str(there).replace(" ", "%20")), version="1.0.0", key=keys.minisign)
    assert pulled.qcow2_path.read_bytes() in (b"QFI\xfb" + b"one" * 1000, b"QFI\xfb" + b"two" * 1000)


def test_a_spoiled_file_is_sent_again_and_an_alias_is_linked(keys: Keys, home: Path, server: SshServer) -> None:
    there = home / "there"
    golden = image(home / "built", b"one" * 1000)
    publish(golden, there)
    qcow2 = next(there.glob("releases/*/*/*.qcow2"))
    data = bytearray(qcow2.read_bytes())
    data[7] ^= 1
    qcow2.unlink()
    qcow2.write_bytes(data)
    next(there.glob("oci/blobs/sha256/*")).unlink()
    publish(golden, server.address(there))
    verify_folder(there)


@pytest.mark.timeout(600)
def test_killed_at_any_moment_the_old_state_is_served(
    keys: Keys, home: Path, server: SshServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The same bytes again, signatures too: what was placed before the kill is placed once more.
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1790000000")
    old = home / "old"
    publish(image(home / "built", b"one" * 1000), old)
    served = (old / "index.json").read_bytes()
    content = home / "content"
    content.write_bytes(os.urandom(3_000_000))
    # Reading it are the first seven commands, and comparing the next ones.
    states = {}
    for point, count in (("bytes", 1_000_000), ("command", 16), ("command", 24), ("switch", 0)):
        there = home / f"there-{point}-{count}"
        shutil.copytree(old, there)
        done = killed(KILLED, server.address(there), point, str(count), content, home / "built")
        assert done.returncode == -signal.SIGKILL, done.stderr
        wait_unlocked(there)
        states[point, count] = (there / "index.json").read_bytes() == served
        verify_folder(there)
        publish(image(home / "built", content.read_bytes(), version="1.0.1"), server.address(there))
        assert len(verify_folder(there).releases) == 2
    assert [point for point, same in states.items() if not same] == [("switch", 0)]


def test_two_at_once_and_what_cannot_be_reached(keys: Keys, home: Path, server: SshServer) -> None:
    golden = image(home / "built", b"one" * 1000)
    there = home / "there"
    with open_place(server.address(there)).locked(), pytest.raises(CentralitaError, match="another publish writes"):
        publish(golden, server.address(there))
    with pytest.raises(CentralitaError, match="verification failed") as caught:
        publish(golden, server.address(there, known_hosts="nobody_known"))
    assert "compare the key" in (caught.value.hint or "")
    with pytest.raises(CentralitaError, match=r"cannot be a depot.*(Not a directory|File exists)"):
        publish(golden, server.address("/dev/null/x"))
    with pytest.raises(CentralitaError, match="password may not"):
        open_place("rsync+ssh://me:secret@host/depot")
