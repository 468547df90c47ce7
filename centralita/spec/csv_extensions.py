"""Extensions from a CSV file: each row becomes a node like those of the YAML file, with the row's own line."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

from centralita.ground.errors import Problem
from centralita.spec.problems import choose_from
from centralita.spec.source import MAX_BYTES, Node, SourceInt, shown_path

Make = Callable[[str, str, int], Node]


def _text(value: str, file: str, line: int) -> Node:
    return Node(value, file, line, value)


def _whole(value: str, file: str, line: int) -> Node:
    if not (value.isascii() and value.isdigit()):
        return _text(value, file, line)  # the model says what it should be
    number = SourceInt(value)
    number.raw = value
    return Node(number, file, line, value)


def _words(value: str, file: str, line: int) -> Node:
    return Node([_text(word, file, line) for word in value.split()], file, line)


def _switch(value: str, file: str, line: int) -> Node:
    known = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
    return Node(known.get(value.lower(), value), file, line, value)


#: Column, where it belongs in an extension, and how its text is read.
_COLUMNS: dict[str, tuple[tuple[str, ...], Make]] = {
    "number": (("number",), _text),
    "name": (("name",), _text),
    "secret": (("secret",), _text),
    "class": (("class",), _text),
    "caller_id": (("caller_id",), _text),
    "dids": (("dids",), _words),
    "ring_seconds": (("ring_seconds",), _whole),
    "call_waiting": (("call_waiting",), _switch),
    "transport": (("transport",), _text),
    "record": (("record",), _text),
    "pickup_group": (("pickup_group",), _text),
    "codecs": (("codecs",), _words),
    "blf": (("blf",), _words),
    "phone": (("phone", "maker"), _text),
    "mac": (("phone", "mac"), _text),
    "email": (("voicemail", "email"), _text),
    "pin": (("voicemail", "pin"), _text),
    "voicemail": (("voicemail",), _switch),
}


def with_csv(root: Node, folder: Path) -> tuple[Node, list[Problem]]:
    """Return the tree with the rows of ``extensions_csv`` after the extensions that it has, and what is wrong."""
    named = root.get("extensions_csv")
    name = named.text() if named is not None else None
    if named is None or not name:
        return root, []
    path = folder / name
    shown = shown_path(path)
    try:
        data = path.read_bytes()
        if len(data) > MAX_BYTES:
            raise ValueError(f"has more than {MAX_BYTES} bytes")
        text = data.decode("utf-8-sig")
    except OSError as error:
        problem = Problem(
            named.file, named.line, "extensions_csv", f"{shown} cannot be read: {error.strerror}", "check the path"
        )
        return root, [problem]
    except ValueError as error:
        return root, [Problem(named.file, named.line, "extensions_csv", f"{shown}: {error}", "save it as UTF-8")]
    rows, problems = _rows(text, shown)
    there = root.get("extensions")
    items = [*(there.items() if there is not None else ()), *rows]
    children = {**root.value, "extensions": Node(items, root.file, there.line if there is not None else named.line)}
    return Node(children, root.file, root.line, root.raw), problems


def _rows(text: str, shown: str) -> tuple[list[Node], list[Problem]]:
    problems: list[Problem] = []
    nodes: list[Node] = []
    first = text.split("\n", 1)[0]
    reader = csv.reader(io.StringIO(text), delimiter=";" if first.count(";") > first.count(",") else ",")
    try:
        header = [column.strip().lower() for column in next(reader, [])]
        for column in header:
            if column not in _COLUMNS:
                problems.append(
                    Problem(
                        shown, 1, "(header)", f"unknown column {column[:40]!r}", choose_from(column, list(_COLUMNS))
                    )
                )
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if len(row) != len(header):
                message = f"the row has {len(row)} cells, the header {len(header)}"
                problems.append(
                    Problem(shown, reader.line_num, "(row)", message, "quote a cell that holds the separator")
                )
                continue
            nodes.append(
                _extension(dict(zip(header, (cell.strip() for cell in row), strict=True)), shown, reader.line_num)
            )
    except csv.Error as error:
        problems.append(
            Problem(shown, reader.line_num, "(file)", f"is no CSV: {error}", "save it again from the spreadsheet")
        )
    return nodes, problems


def _extension(cells: dict[str, str], file: str, line: int) -> Node:
    children: dict[str, Node] = {}
    for column, cell in cells.items():
        if not cell or column not in _COLUMNS:
            continue
        where, make = _COLUMNS[column]
        node = make(cell, file, line)
        if len(where) == 2:
            box = children.get(where[0])
            inner = dict(box.value) if box is not None and isinstance(box.value, dict) else {}
            children[where[0]] = Node({**inner, where[1]: node}, file, line)
        elif column != "voicemail":
            children[where[0]] = node
    # A cell that says whether there is a mailbox counts more than what the box would have.
    if said := cells.get("voicemail"):
        switch = _switch(said, file, line)
        if switch.value is not True or "voicemail" not in children:
            children["voicemail"] = switch
    return Node(children, file, line)
