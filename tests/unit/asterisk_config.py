"""A reader of Asterisk's configuration files, written after main/config.c and on purpose not after our quoting."""

from __future__ import annotations

import re
from dataclasses import dataclass, field


@dataclass
class Section:
    """A section and its options, each with its values in order."""

    name: str
    template: bool = False
    options: dict[str, list[str]] = field(default_factory=dict)


def _without_comments(text: str) -> list[str]:
    """Cut comments as Asterisk does: ``;`` to the end of the line, ``;-- … --;`` over lines, ``\\;`` is a semicolon."""
    lines = []
    depth = 0
    for raw in re.split(r"\r?\n", text):
        line, kept = raw, ""
        while line:
            if depth:
                end = line.find("--;")
                if end < 0:
                    line = ""
                    break
                depth -= 1
                line = line[end + 3 :]
                continue
            at = line.find(";")
            if at < 0:
                kept += line
                break
            if (at > 0 and line[at - 1] == "\\") or (at == 0 and kept.endswith("\\")):
                kept = (kept + line[:at])[:-1] + ";"
                line = line[at + 1 :]
            elif line[at : at + 3] == ";--" and line[at + 3 : at + 4] != "-":
                kept += line[:at]
                depth += 1
                line = line[at + 3 :]
            else:
                kept += line[:at]
                break
        lines.append(kept.strip())
    return lines


def parse(text: str) -> list[Section]:
    """Return the file's sections in order. Raises ValueError for a line that Asterisk would refuse."""
    sections: list[Section] = []
    templates: dict[str, Section] = {}
    for line in _without_comments(text):
        if not line:
            continue
        if line.startswith("#"):
            raise ValueError(f"a directive: {line}")
        if found := re.fullmatch(r"\[([^\]]+)\](?:\((.*)\))?", line):
            name, flags = found.group(1), found.group(2) or ""
            section = Section(name, template=flags == "!")
            if flags and flags != "!":
                base = templates[flags]
                section.options = {key: list(values) for key, values in base.options.items()}
            if section.template:
                templates[name] = section
            sections.append(section)
            continue
        key, equals, value = line.partition("=")
        if not equals or not sections:
            raise ValueError(f"no option: {line}")
        sections[-1].options.setdefault(key.strip(), []).append(value.removeprefix(">").strip())
    return sections


def unescape_quoted(text: str) -> str:
    """Return what a quoted string means (ast_unescape_quoted): a backslash makes the next character itself."""
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        raise ValueError(f"not quoted: {text}")
    out, position, inner = "", 0, text[1:-1]
    while position < len(inner):
        if inner[position] == "\\":
            position += 1
            if position == len(inner):
                raise ValueError("the closing quote is escaped")
        elif inner[position] == '"':
            raise ValueError("the string ends early")
        out += inner[position]
        position += 1
    return out
