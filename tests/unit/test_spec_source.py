"""YAML sources: positions, what was written, and errors without tracebacks."""

from __future__ import annotations

from pathlib import Path

import pytest

from centralita.ground.errors import Problem, SpecError
from centralita.spec.merge import merge, settle
from centralita.spec.source import load, plain, shown_path

pytestmark = pytest.mark.unit


def problems_of(path: Path) -> tuple[Problem, ...]:
    with pytest.raises(SpecError) as caught:
        load(path)
    return caught.value.problems


def write(folder: Path, text: str | bytes, name: str = "file.yaml") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_lines_and_written_texts_are_kept(tmp_path: Path) -> None:
    root = load(write(tmp_path, "# a comment\na: 1\nlist:\n  - x\n  - {pin: 0042, rate: 1.10}\n"))
    pin, walked = root.find(("list", 1, "pin"))
    assert (pin.line, pin.raw, pin.value, walked) == (5, "0042", 42, ("list", 1, "pin"))
    assert root.find(("list", 1, "rate"))[0].text() == "1.10"
    assert plain(root) == {"a": 1, "list": ("x", {"pin": 42, "rate": 1.1})}


def test_a_location_that_leads_nowhere_gives_the_last_that_is_there(tmp_path: Path) -> None:
    root = load(write(tmp_path, "a:\n  b: 1\n"))
    node, walked = root.find(("a", "function-before", "c"))
    assert (node.line, walked) == (1, ("a",))


@pytest.mark.parametrize(
    ("text", "line", "message", "fix"),
    [
        ("a: 1\n\tb: 2\n", 2, "YAML syntax", "spaces"),
        ("a: [1\nb: 2\n", 2, "YAML syntax", "check"),
        ("a: 1\nb: c: d\n", 2, "YAML syntax", "quote a value"),
        ("a: 1\nb: *97\n", 2, "YAML syntax", "'*97'"),
        ("a: 1\n---\nb: 2\n", 2, "YAML syntax", "one document"),
        ("a: 1\nb: @x\n", 2, "YAML syntax", "quote"),
        ("- 1\n- 2\n", 1, "a list, not a mapping", "key: value"),
        ("just text\n", 1, "a single value, not a mapping", "key: value"),
        ("", 1, "empty", "schema: 1"),
        ("# only a comment\n", 1, "empty", "schema: 1"),
        ("a: 1\nb: !!python/object:os.system ls\n", 2, "unknown tag", "remove the tag"),
        ("a: 1\n<<: {b: 2}\n", 2, "merge keys", "extends"),
        ("a: 1\n? [x, y]\n: 2\n", 2, "a key is a list", "plain words"),
    ],
)
def test_bad_yaml_names_line_and_fix(tmp_path: Path, text: str, line: int, message: str, fix: str) -> None:
    (problem,) = problems_of(write(tmp_path, text))
    assert problem.line == line
    assert message in problem.message
    assert fix in problem.fix


def test_every_duplicate_key_is_reported(tmp_path: Path) -> None:
    found = problems_of(write(tmp_path, "a: 1\nb:\n  c: 1\n  c: 2\na: 3\n"))
    assert [(p.line, p.field) for p in found] == [(4, "b.c"), (5, "a")]
    assert "line 1" in found[1].message


def test_not_utf8_names_the_line(tmp_path: Path) -> None:
    (problem,) = problems_of(write(tmp_path, b"a: 1\nname: Bego\xf1a\n"))
    assert problem.line == 2
    assert "0xf1" in problem.message
    assert "iconv" in problem.fix


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    assert plain(load(write(tmp_path, b"\xef\xbb\xbfa: 1\n"))) == {"a": 1}


@pytest.mark.parametrize("text", ["a: \x00\n", "a: \x07b\n"])
def test_control_characters_are_an_error_with_a_line(tmp_path: Path, text: str) -> None:
    (problem,) = problems_of(write(tmp_path, "ok: 1\n" + text))
    assert problem.line == 2


def test_a_missing_file_suggests_the_closest(tmp_path: Path) -> None:
    write(tmp_path, "a: 1\n", "acme.yaml")
    (problem,) = problems_of(tmp_path / "acmee.yaml")
    assert "'acme.yaml'" in problem.fix
    assert "folder" in problems_of(tmp_path)[0].message


def test_endless_aliases_and_depth_end_in_an_error(tmp_path: Path) -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 8))
    assert "values" in problems_of(write(tmp_path, bomb))[0].message
    assert "level" in problems_of(write(tmp_path, "a: &a\n  b: *a\n"))[0].message
    assert problems_of(write(tmp_path, "a: " + "[" * 1000 + "]" * 1000))[0].fix


def test_files_below_the_working_directory_are_shown_as_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert shown_path(tmp_path / "x" / "a.yaml") == "x/a.yaml"
    assert shown_path(tmp_path.parent / "a.yaml") == str(tmp_path.parent / "a.yaml")


def test_merging_follows_the_rules(tmp_path: Path) -> None:
    parent = load(write(tmp_path, "x: 1\nmap: {a: 1, b: 2}\nlist: [a, b]\nother: [a, b, c]\n", "p.yaml"))
    child = load(write(tmp_path, "x: 2\nmap: {b: 3}\nlist: [z]\nother: {remove: [b], add: [d, a]}\n", "c.yaml"))
    problems: list[Problem] = []
    merged = settle(merge(parent, child, problems), problems)
    assert plain(merged) == {"x": 2, "map": {"a": 1, "b": 3}, "list": ("z",), "other": ("a", "c", "d")}
    assert not problems
    assert merged.find(("map", "a"))[0].file.endswith("p.yaml")
    assert merged.find(("map", "b"))[0].file.endswith("c.yaml")


def test_removing_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    parent = load(write(tmp_path, "list: [app_dial, app_echo]\n", "p.yaml"))
    child = load(write(tmp_path, "\nlist: {remove: [app_ecco]}\nalone: {remove: [x]}\nwrong: {add: x}\n", "c.yaml"))
    problems: list[Problem] = []
    settle(merge(parent, child, problems), problems)
    assert [(p.line, p.field) for p in problems] == [(2, "list.remove[0]"), (3, "alone.remove[0]"), (4, "wrong.add")]
    assert "'app_echo'" in problems[0].fix
