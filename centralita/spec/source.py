"""YAML files as trees that know where every value was written.

The YAML composer (and not its constructor) is used: it keeps the line and the text of each scalar, reports every
duplicate key, and runs nothing that a file asks for. A :class:`Node` tree is what inheritance, cross-checks and error
messages work on; :func:`plain` turns it into the data that pydantic validates.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode
from ruamel.yaml.nodes import Node as YamlNode

from centralita.ground.errors import Problem, SpecError

MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 32
MAX_VALUES = 200_000

_TAG = "tag:yaml.org,2002:"


class SourceInt(int):
    """An integer that remembers how it was written, so that a PIN ``0042`` keeps its zeros."""

    raw: str


class SourceFloat(float):
    """A float that remembers how it was written, so that a version ``1.10`` can be quoted back."""

    raw: str


@dataclass(frozen=True)
class Node:
    """One value of a file: a scalar, ``dict[str, Node]`` or ``list[Node]``, with its file and its line (from 1)."""

    value: Any
    file: str
    line: int
    raw: str = ""

    def get(self, key: str) -> Node | None:
        """Return the child under ``key``, or None where this is no mapping or has no such key."""
        found = self.value.get(key) if isinstance(self.value, dict) else None
        return found if isinstance(found, Node) else None

    def child(self, part: str | int) -> Node | None:
        """Return the child under a key or at an index, or None where there is none."""
        if isinstance(part, str):
            return self.get(part)
        items: list[Node] = self.value if isinstance(self.value, list) else []
        return items[part] if 0 <= part < len(items) else None

    def items(self) -> Iterator[Node]:
        """Iterate over a list's items; nothing for other values."""
        if isinstance(self.value, list):
            yield from self.value

    def text(self) -> str | None:
        """Return a scalar as it was written (strings unquoted); None for null, lists and mappings."""
        if isinstance(self.value, str):
            return self.value
        if self.value is None or isinstance(self.value, dict | list):
            return None
        return self.raw

    def find(self, loc: tuple[str | int, ...]) -> tuple[Node, tuple[str | int, ...]]:
        """Walk along ``loc`` as far as the tree goes; return the node reached and the part of ``loc`` that exists."""
        node: Node = self
        walked: list[str | int] = []
        for part in loc:
            child = node.child(part)
            if child is not None:  # pydantic puts names of its own (validators, union members) into a location
                node = child
                walked.append(part)
        return node, tuple(walked)


def dotted(loc: tuple[str | int, ...]) -> str:
    """Write a location as people do: ``extensions[3].number``."""
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "(file)"


def plain(node: Node) -> object:
    """Return the tree's data without positions (numbers stay :class:`SourceInt` and :class:`SourceFloat`)."""
    if isinstance(node.value, dict):
        return {key: plain(child) for key, child in node.value.items()}
    if isinstance(node.value, list):
        return tuple(plain(child) for child in node.value)
    return node.value


def shown_path(path: Path) -> str:
    """Return ``path`` as a user would type it here: relative where it lies under the working directory."""
    try:
        relative = os.path.relpath(path)
    except ValueError:
        return str(path)
    return str(path) if relative.startswith("..") else relative


def load(path: Path, shown: str | None = None) -> Node:
    """Read one YAML file whose top is a mapping.

    ``shown`` is how the file is called in messages (default: the path as given). Duplicate keys, unknown tags and a
    wrong top type are collected and reported together. Raises :class:`SpecError`, never a YAML or OS error.
    """
    shown = shown if shown is not None else str(path)
    text = _read(path, shown)
    yaml = YAML(typ="rt", pure=True)
    yaml.allow_duplicate_keys = True  # the composer would stop at the first; _Builder reports them all
    try:
        root = yaml.compose(text)
    except MarkedYAMLError as error:
        raise SpecError([_syntax_problem(error, shown, text)]) from None
    except (YAMLError, ValueError, RecursionError) as error:
        what = (
            "values are nested too deeply"
            if isinstance(error, RecursionError)
            else f"not YAML: {_first_line(str(error))}"
        )
        raise SpecError(
            [Problem(shown, _line_of_offset(error, text), "(file)", what, "write plain YAML, key: value")]
        ) from None
    if root is None:
        raise SpecError(
            [Problem(shown, 1, "(file)", "the file is empty", "start with `schema: 1` and a `name:` or `description:`")]
        )
    builder = _Builder(shown)
    try:
        node = builder.build(root, (), 0)
    except RecursionError:
        raise SpecError(
            [Problem(shown, None, "(file)", "values are nested too deeply", f"at most {MAX_DEPTH} levels")]
        ) from None
    if not isinstance(node.value, dict):
        kind = "a list" if isinstance(node.value, list) else "a single value"
        builder.problems.append(
            Problem(
                shown,
                node.line,
                "(file)",
                f"the file holds {kind}, not a mapping",
                "write `key: value` lines at the top level",
            )
        )
    if builder.problems:
        raise SpecError(builder.problems)
    return node


def _read(path: Path, shown: str) -> str:
    try:
        if path.is_dir():
            raise SpecError([Problem(shown, None, "(file)", "is a folder", "name the YAML file in it")])
        data = path.read_bytes()
    except FileNotFoundError:
        raise SpecError([Problem(shown, None, "(file)", "no such file", _similar_file(path))]) from None
    except OSError as error:
        raise SpecError(
            [Problem(shown, None, "(file)", f"cannot be read: {error.strerror}", "check its permissions")]
        ) from None
    if len(data) > MAX_BYTES:
        raise SpecError(
            [Problem(shown, None, "(file)", f"has {len(data)} bytes", f"at most {MAX_BYTES} bytes are read")]
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        fix = f"save the file as UTF-8, e.g. `iconv -f latin1 -t utf-8 {path.name}`"
        raise SpecError([Problem(shown, line, "(file)", f"byte 0x{data[error.start]:02x} is not UTF-8", fix)]) from None


def _similar_file(path: Path) -> str:
    from centralita.spec.problems import did_you_mean  # here, because problems imports this module

    names = sorted(p.name for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
    return did_you_mean(path.name, names) or "check the path"


def _syntax_problem(error: MarkedYAMLError, shown: str, text: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark is not None else None
    what = _first_line(str(error.problem or error.context or "not YAML"))
    lines = text.splitlines()
    source = lines[line - 1] if line is not None and 0 < line <= len(lines) else ""
    fix = "check indentation, quotes and colons here and in the line before"
    if "\t" in source[: len(source) - len(source.lstrip())] or "'\\t'" in what:
        fix = "indent with spaces: YAML allows no tabs"
    elif "mapping values are not allowed" in what:
        fix = "quote a value that contains `: `, or check the indentation"
    elif "undefined alias" in what:
        fix = "quote a value that starts with `*`, such as '*97'"
    elif "expected a single document" in what or "another document" in what:
        fix = "one file, one document: remove the line `---`"
    elif "cannot start any token" in what:
        fix = "quote a value that starts with this character"
    return Problem(shown, line, "(file)", f"YAML syntax: {what}", fix)


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else "unknown error"


def _line_of_offset(error: BaseException, text: str) -> int | None:
    position = getattr(error, "position", None)
    return text.count("\n", 0, position) + 1 if isinstance(position, int) else None


class _Builder:
    """Turns composed YAML nodes into :class:`Node` trees and collects what is wrong with them."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self._values = 0

    def _problem(self, line: int, loc: tuple[str | int, ...], message: str, fix: str) -> None:
        self.problems.append(Problem(self.file, line, dotted(loc), message, fix))

    def build(self, source: YamlNode, loc: tuple[str | int, ...], depth: int) -> Node:
        line = source.start_mark.line + 1
        self._values += 1
        if depth > MAX_DEPTH or self._values > MAX_VALUES:  # aliases can make a small file endless
            what = f"more than {MAX_DEPTH} levels" if depth > MAX_DEPTH else f"more than {MAX_VALUES} values"
            raise SpecError(
                [Problem(self.file, line, dotted(loc), f"the file has {what}", "write it without nested aliases")]
            )
        if isinstance(source, ScalarNode):
            return self._scalar(source, loc, line)
        self._check_tag(source, loc, line)
        if isinstance(source, SequenceNode):
            return Node(
                [self.build(item, (*loc, i), depth + 1) for i, item in enumerate(source.value)], self.file, line
            )
        assert isinstance(source, MappingNode)
        children: dict[str, Node] = {}
        for key_node, value_node in source.value:
            key_line = key_node.start_mark.line + 1
            if not isinstance(key_node, ScalarNode):
                self._problem(key_line, loc, "a key is a list or a mapping", "keys are plain words")
                continue
            key = str(key_node.value)
            if key_node.tag == _TAG + "merge":
                self._problem(
                    key_line, (*loc, key), "merge keys (<<) are not supported", "write the keys out, or use `extends:`"
                )
                continue
            child = self.build(value_node, (*loc, key), depth + 1)
            if key in children:
                fix = "keep one of the two"
                self._problem(key_line, (*loc, key), f"the key is here and in line {children[key].line}", fix)
                continue
            # The key's line is where people look, also when its value starts in a later line.
            children[key] = Node(child.value, self.file, key_line, child.raw)
        return Node(children, self.file, line)

    def _check_tag(self, source: YamlNode, loc: tuple[str | int, ...], line: int) -> None:
        if str(source.tag or "") not in ("", _TAG + "map", _TAG + "seq"):
            self._problem(line, loc, f"unknown tag {_shown_tag(source)}", "remove the tag")

    def _scalar(self, source: ScalarNode, loc: tuple[str | int, ...], line: int) -> Node:
        raw, tag = str(source.value), str(source.tag)
        value: Any = raw
        if tag == _TAG + "null":
            value = None
        elif tag == _TAG + "bool":
            value = raw.lower() in ("true", "yes", "on")
        elif tag == _TAG + "int":
            value = _source_int(raw)
        elif tag == _TAG + "float":
            value = _source_float(raw)
        elif tag not in (_TAG + "str", _TAG + "timestamp", _TAG + "value", ""):
            self._problem(line, loc, f"unknown tag {_shown_tag(source)}", "remove the tag")
        return Node(value, self.file, line, raw)


def _shown_tag(source: YamlNode) -> str:
    return str(source.tag).replace(_TAG, "!!")


def _source_int(raw: str) -> int | str:
    digits = raw.replace("_", "")
    base = 10
    if found := re.match(r"[-+]?0([box])", digits):
        base = {"b": 2, "o": 8, "x": 16}[found.group(1)]
    try:
        value = SourceInt(digits, base)
    except ValueError:  # more than 4300 digits, or a lone sign: keep the text
        return raw
    value.raw = raw
    return value


def _source_float(raw: str) -> float | str:
    try:
        value = SourceFloat(raw.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan"))
    except ValueError:
        return raw
    value.raw = raw
    return value
