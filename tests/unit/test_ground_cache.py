"""The cache: the same inputs give the same key everywhere, and nothing in it is half made."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from centralita.ground import cache, ledger, paths
from centralita.ground.cache import Store, digest_of
from centralita.ground.errors import CentralitaError

pytestmark = pytest.mark.unit

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@given(st.lists(JSON, min_size=2, max_size=2))
def test_different_values_have_different_digests(values: list[object]) -> None:
    first, second = values
    # repr tells 1 from 1.0 and from True, as the digest does.
    assert (digest_of(first) == digest_of(second)) == (canonical(first) == canonical(second))


def canonical(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{key!r}:{canonical(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    return repr(value)


def test_parts_do_not_run_into_each_other() -> None:
    parts = [("ab", "c"), ("a", "bc"), ("abc",), (["ab", "c"],), ({"ab": "c"},), (b"ab", b"c"), ("", "ab", "c")]
    assert len({digest_of(*part) for part in parts}) == len(parts)


def test_a_digest_is_the_same_in_another_process() -> None:
    value = {"b": [1, None, "ñ"], "a": {"x", "y", "z"}}
    program = f"from centralita.ground.cache import digest_of; print(digest_of({value!r}))"
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(paths.repo_root())}
        told = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
        assert told.stdout.strip() == digest_of(value)


def test_dataclasses_and_models_count_by_their_fields() -> None:
    @dataclass(frozen=True)
    class Size:
        memory_mib: int

    class Model(BaseModel):
        memory_mib: int

    assert digest_of(Size(512)) == digest_of(Size(512)) != digest_of(Size(1024))
    assert digest_of(Model(memory_mib=512)) != digest_of(Model(memory_mib=1024))
    with pytest.raises(TypeError, match="object"):
        digest_of(object())


def make_tree(folder: Path) -> Path:
    (folder / "sub").mkdir(parents=True)
    (folder / "run").write_text("#!/bin/sh\n")
    (folder / "sub/data").write_bytes(b"\0\1")
    (folder / "sub/link").symlink_to("data")
    return folder


def test_a_tree_counts_by_names_contents_and_x_bits(tmp_path: Path) -> None:
    first = digest_of(make_tree(tmp_path / "one"))
    two = make_tree(tmp_path / "two")
    os.utime(two / "run", (0, 0))
    (two / "run").chmod(0o600)
    (two / "__pycache__").mkdir()
    (two / "__pycache__/x.pyc").write_text("compiled")
    assert digest_of(two) == first
    seen = {first}
    (two / "run").chmod(0o755)
    seen.add(digest_of(two))
    (two / "sub/data").write_bytes(b"\0\2")
    seen.add(digest_of(two))
    (two / "sub/link").unlink()
    (two / "sub/link").symlink_to("/data")
    seen.add(digest_of(two))
    (two / "sub/empty").mkdir()
    seen.add(digest_of(two))
    (two / "sub/empty").rename(two / "sub/void")
    seen.add(digest_of(two))
    assert len(seen) == 6
    with pytest.raises(CentralitaError, match="cannot read"):
        digest_of(two / "absent")


def test_a_result_is_there_wholly_or_not_at_all(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    assert store.get("disk", "k1") is None
    with store.put("disk", "k1") as folder:
        (folder / "disk.raw").write_text("bytes")
        assert store.get("disk", "k1") is None
        assert store.keys("disk") == []
    found = store.get("disk", "k1")
    assert found is not None
    assert (found / "disk.raw").read_text() == "bytes"
    assert found.stat().st_mode & 0o777 == 0o755
    with pytest.raises(RuntimeError), store.put("disk", "k2") as folder:
        (folder / "disk.raw").write_text("half")
        raise RuntimeError
    assert store.get("disk", "k2") is None
    assert [path.name for path in (tmp_path / "store/disk").iterdir()] == ["k1"]
    assert not ledger.default().entries()


def test_two_runs_may_put_the_same_result(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with store.put("disk", "k") as mine, store.put("disk", "k") as theirs:
        (mine / "a").write_text("same")
        (theirs / "a").write_text("same")
    assert [path.name for path in (tmp_path / "store/disk").iterdir()] == ["k"]


def test_size_and_clear(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    assert (store.size(), store.clear()) == (0, 0)
    with store.put("disk", "k") as folder:
        (folder / "full").write_bytes(b"x" * 1_000_000)
        os.link(folder / "full", folder / "second name")
        with (folder / "sparse").open("wb") as stream:
            stream.truncate(1 << 30)
    assert 1_000_000 <= store.size() < 1_100_000
    with store.put("disk", "under-way") as folder:
        assert store.clear() >= 1_000_000
        assert folder.is_dir()
    assert store.keys("disk") == ["under-way"]


@pytest.mark.parametrize("name", ["..", "a/b", "", ".new-x"])
def test_a_name_cannot_lead_out_of_the_cache(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="not a name"):
        Store(tmp_path).get("disk", name)


def test_a_lock_keeps_another_process_waiting() -> None:
    program = "from centralita.ground.cache import lock\nwith lock('build'): print('in', flush=True); input()"
    environment = {**os.environ, "PYTHONPATH": str(paths.repo_root())}
    start = [sys.executable, "-c", program]
    pipe = subprocess.PIPE
    with (
        subprocess.Popen(start, env=environment, stdin=pipe, stdout=pipe, text=True) as first,
        subprocess.Popen(start, env=environment, stdin=pipe, stdout=pipe, text=True) as second,
    ):
        assert first.stdout and first.stdin and second.stdout and second.stdin
        # Either may be the first; the other one says that it waits.
        time.sleep(0.1)
        lines = {first: first.stdout.readline(), second: second.stdout.readline()}
        assert sorted(lines.values()) == ["in\n", "waiting for another run that holds the lock build\n"]
        holder, waiter = sorted(lines, key=lambda child: lines[child])
        assert holder.stdin and waiter.stdout and waiter.stdin
        holder.communicate("\n")
        assert waiter.stdout.readline() == "in\n"
        waiter.communicate("\n")


def test_the_state_folder_is_private_and_relative_xdg_paths_are_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "state/centralita").mkdir(parents=True, mode=0o755)
    assert paths.state_dir().stat().st_mode & 0o777 == 0o700
    assert paths.logs_dir() == tmp_path / "state/centralita/logs"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/cache")
    assert paths.cache_dir() == tmp_path / "home/.cache/centralita"
    assert (paths.repo_root() / "pyproject.toml").is_file()
    assert cache.digest_of(paths.repo_root() / "pyproject.toml")
