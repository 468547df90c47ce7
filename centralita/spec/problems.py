"""Turns what pydantic found into problems that name file, line, field and a fix."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from centralita.ground.errors import Problem
from centralita.spec.source import Node, dotted, plain

Model = TypeVar("Model", bound=BaseModel)

_MAX_LISTED = 12

#: Fields whose values no message shows.
SECRET_FIELDS = frozenset({"secret", "pin", "password"})


class Complaint(ValueError):
    """What is wrong with a value, and what would be right; validators of the models raise it."""

    def __init__(self, message: str, fix: str) -> None:
        super().__init__(message)
        self.fix = fix


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``did you mean 'x'?`` for the closest of ``known``, or an empty string."""
    close = difflib.get_close_matches(word.lower(), {k.lower(): k for k in known}, n=1, cutoff=0.6)
    by_lower = {k.lower(): k for k in known}
    return f"did you mean {by_lower[close[0]]!r}?" if close else ""


def choose_from(word: str, known: Sequence[str]) -> str:
    """Return a fix for a word that is not among ``known``: the closest one, or the list."""
    hint = did_you_mean(word, known)
    listed = ", ".join(known)
    if len(listed) > 200:
        if hint:
            return hint
        listed = ", ".join(list(known)[:_MAX_LISTED]) + ", …"
    return f"{hint} one of: {listed}".strip() if known else "remove it"


def problems_of(error: ValidationError, root: Node, model: type[BaseModel]) -> list[Problem]:
    """Return one :class:`Problem` for each error of a validation of ``plain(root)`` against ``model``."""
    found = error.errors(include_url=False)
    broken = {e["loc"][:depth] for e in found for depth in range(len(e["loc"]))}
    # A list of which an item was refused counts as too short; the item's own error is the one to show.
    return [_problem_of(e, root, model) for e in found if not (e["type"] == "too_short" and e["loc"] in broken)]


def _problem_of(details: ErrorDetails, root: Node, model: type[BaseModel]) -> Problem:
    loc = details["loc"]
    node, walked = root.find(loc)
    if walked and walked[-1] in SECRET_FIELDS and not isinstance(node.value, dict | list):
        node = Node("…" if isinstance(node.value, str) else node.value, node.file, node.line, "…")
    kind = details["type"]
    if kind == "missing":
        walked = (*walked, loc[-1])
    message, fix = _explain(details, kind, node, walked, model)
    return Problem(node.file, node.line, dotted(walked), message, fix)


def _explain(
    details: ErrorDetails, kind: str, node: Node, loc: tuple[str | int, ...], model: type[BaseModel]
) -> tuple[str, str]:
    context: dict[str, Any] = details.get("ctx") or {}
    cause = context.get("error")
    if isinstance(cause, Complaint):
        return str(cause), cause.fix
    example = _example(model, loc)
    if kind == "missing":
        return "is missing", f"add it, e.g. `{loc[-1]}: {example or '…'}`"
    if kind == "extra_forbidden":
        known = sorted(_keys_at(model, loc[:-1]))
        return "unknown key", choose_from(str(loc[-1]), known)
    if kind in ("enum", "literal_error"):
        allowed = [
            word.strip().strip("'\"") for word in str(context.get("expected", "")).replace(" or ", ", ").split(",")
        ]
        return f"{_shown(node)} is not known", choose_from(node.text() or "", allowed)
    if kind in _BOUNDS:
        bound = context.get(_BOUNDS[kind][0], "?")
        return f"{_shown(node)} is {_BOUNDS[kind][1]}", _range_of(model, loc) or f"the limit is {bound}"
    if kind == "string_type":
        if isinstance(node.value, dict | list) or node.value is None:
            return f"{_shown(node)} is not text", f"write text, e.g. `{example or 'text'}`"
        return f"{node.raw} is read as {_kind(node.value)}, not as text", f'quote it: "{node.raw}"'
    if kind == "string_unicode":
        return "is not valid Unicode", "write the character itself in UTF-8, or as one escape, e.g. \\U0001F600"
    if kind in ("int_type", "int_parsing", "int_from_float"):
        return f"{_shown(node)} is not a whole number", f"write a whole number{_of_range(model, loc)}, without quotes"
    if kind in ("bool_type", "bool_parsing"):
        return f"{_shown(node)} is neither true nor false", "write true or false, without quotes"
    if kind in ("tuple_type", "list_type"):
        return f"{_shown(node)} is not a list", f"write a list, e.g. `[{example or '…'}]`"
    if kind in ("dict_type", "model_type", "model_attributes_type"):
        return f"{_shown(node)} is not a mapping", f"write `key: value` lines under it{_of_keys(model, loc)}"
    return _plain_words(details["msg"]), f"write e.g. `{example}`" if example else "see docs/schema"


_BOUNDS = {
    "greater_than_equal": ("ge", "too small"),
    "greater_than": ("gt", "too small"),
    "less_than_equal": ("le", "too large"),
    "less_than": ("lt", "too large"),
    "string_too_short": ("min_length", "too short"),
    "string_too_long": ("max_length", "too long"),
    "too_short": ("min_length", "too short"),
    "too_long": ("max_length", "too long"),
}


def _plain_words(message: str) -> str:
    message = message.removeprefix("Value error, ").removeprefix("Input should be ")
    return message[:1].lower() + message[1:]


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "true or false"
    return "a number"


def _shown(node: Node) -> str:
    if isinstance(node.value, dict):
        return "a mapping"
    if isinstance(node.value, list):
        return f"a list of {len(node.value)}"
    if node.value is None:
        return "nothing"
    text = node.text() or ""
    return repr(text if len(text) <= 60 else text[:57] + "…")


# Looking things up in the models


def _models_in(annotation: object) -> list[type[BaseModel]]:
    """Return the models that an annotation mentions: ``tuple[Extension, ...]``, ``Kernel | None``."""
    if isinstance(annotation, type) and typing.get_origin(annotation) is None:
        return [annotation] if issubclass(annotation, BaseModel) else []
    found: list[type[BaseModel]] = []
    for argument in typing.get_args(annotation):
        found += _models_in(argument)
    return found


def _models_at(model: type[BaseModel], loc: tuple[str | int, ...]) -> list[type[BaseModel]]:
    models = [model]
    for part in loc:
        if isinstance(part, int):
            continue
        models = [inner for outer in models for inner in _models_in(_annotation(outer, part))]
    return models


def _annotation(model: type[BaseModel], key: str) -> object:
    return next((f.annotation for name, f in model.model_fields.items() if key in (name, f.alias)), None)


def _keys_at(model: type[BaseModel], loc: tuple[str | int, ...]) -> set[str]:
    return {field.alias or name for inner in _models_at(model, loc) for name, field in inner.model_fields.items()}


def _of_keys(model: type[BaseModel], loc: tuple[str | int, ...]) -> str:
    keys = sorted(_keys_at(model, loc))
    return f" ({', '.join(keys[:_MAX_LISTED])})" if keys else ""


def _field_at(model: type[BaseModel], loc: tuple[str | int, ...]) -> FieldInfo | None:
    names = [part for part in loc if isinstance(part, str)]
    if not names:
        return None
    for inner in _models_at(model, tuple(names[:-1])):
        for name, field in inner.model_fields.items():
            if names[-1] in (name, field.alias):
                return field
    return None


def _example(model: type[BaseModel], loc: tuple[str | int, ...]) -> str:
    field = _field_at(model, loc)
    return str(field.examples[0]) if field is not None and field.examples else ""


def _limits(model: type[BaseModel], loc: tuple[str | int, ...]) -> tuple[int | None, int | None, str]:
    low: int | None = None
    high: int | None = None
    unit = ""
    field = _field_at(model, loc)
    for item in field.metadata if field is not None else ():
        low = getattr(item, "ge", low)
        high = getattr(item, "le", high)
        if hasattr(item, "min_length"):
            low, unit = item.min_length, " characters"
        if hasattr(item, "max_length"):
            high, unit = item.max_length, " characters"
    if unit and field is not None and typing.get_origin(field.annotation) is tuple:
        unit = " items"
    return low, high, unit


def _range_of(model: type[BaseModel], loc: tuple[str | int, ...]) -> str:
    low, high, unit = _limits(model, loc)
    if low is not None and high is not None:
        return f"allowed: {low} to {high}{unit}"
    if low is not None:
        return f"at least {low}{unit.rstrip('s') if low == 1 else unit}"
    return f"allowed: up to {high}{unit}" if high is not None else ""


def _of_range(model: type[BaseModel], loc: tuple[str | int, ...]) -> str:
    low, high, _unit = _limits(model, loc)
    return f" from {low} to {high}" if low is not None and high is not None else ""


def validate(model: type[Model], root: Node) -> tuple[Model | None, list[Problem]]:
    """Validate a tree against a model; return the model, or None and every problem."""
    try:
        return model.model_validate(plain(root)), []
    except ValidationError as error:
        return None, problems_of(error, root, model)
