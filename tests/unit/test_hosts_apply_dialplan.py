"""The dial plan that is loaded while calls are up: they go on in the old one, and whoever enters is in the new one."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

import pytest

from centralita.clone.identity import IdentityStore
from centralita.clone.render import render
from centralita.hosts.apply_dialplan import STRIDE, Context, Unknown, both, parse
from centralita.spec.tenant import load_tenant

ROOT = Path(__file__).parents[2]
FILES = ("tests/data/shop.yaml", "tests/data/shop-later.yaml", "tests/data/office.yaml", "examples/super-awesome.yaml")


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Rendered dial plans that differ in everything."""
    store = IdentityStore(tmp_path_factory.mktemp("identities"))
    texts = []
    for name in FILES:
        tenant = load_tenant(ROOT / name)
        files = render(tenant, store.get_or_create(tenant))
        texts.append(next(file.content.decode() for file in files if file.path == "/etc/asterisk/extensions.conf"))
    return texts


def steps(contexts: list[Context]) -> dict[tuple[str, str, int], str]:
    """Every step of a dial plan by its place."""
    return {
        (context.name, exten, step.priority): step.application
        for context in contexts
        for exten, found in context.steps.items()
        for step in found
    }


def labels(contexts: list[Context]) -> Iterator[tuple[str, str, str, int]]:
    """Every label with its place."""
    for context in contexts:
        for exten, found in context.steps.items():
            yield from ((context.name, exten, step.label, step.priority) for step in found if step.label)


def enterable(contexts: list[Context], start: str) -> set[tuple[str, str]]:
    """All extensions that can be entered from a context: by its includes, at priority 1."""
    by_name = {context.name: context for context in contexts}
    found: set[tuple[str, str]] = set()
    waiting, seen = [start], set()
    while waiting:
        name = waiting.pop()
        if name in seen or name not in by_name:
            continue
        seen.add(name)
        context = by_name[name]
        found |= {(name, exten) for exten, all_ in context.steps.items() if any(s.priority == 1 for s in all_)}
        waiting += [line.split("=>")[1].strip() for line in context.lines if line.startswith("include")]
    return found


def test_calls_find_their_next_step_and_new_ones_only_new_steps(plans: list[str]) -> None:
    for old, new in permutations(plans, 2):
        before, after, merged = parse(old), parse(new), parse(both(old, new))
        was, will, now = steps(before), steps(after), steps(merged)
        entered = {(context, exten) for context, exten, priority in will if priority == 1}
        for (context, exten, priority), application in was.items():
            assert priority == 1 or now[context, exten, priority] == application
        for (context, exten, priority), application in will.items():
            assert now[context, exten, STRIDE + priority] == application
        assert {key for key in now if key[2] == 1} == {(*key, 1) for key in entered}
        assert all(now[(*key, 1)] == f"Goto({STRIDE + 1})" for key in entered)
        assert len(now) == len([key for key in was if key[2] > 1]) + len(will) + len(entered)
        # A label is one step of an extension, the new one where there is one.
        found = list(labels(merged))
        assert len({label[:3] for label in found}) == len(found)
        assert {(c, e, label, STRIDE + p) for c, e, label, p in labels(after)} <= set(found)


def test_nobody_may_dial_more_than_the_new_plan_says(plans: list[str]) -> None:
    for old, new in permutations(plans, 2):
        after, merged = parse(new), parse(both(old, new))
        for context in after:
            assert enterable(merged, context.name) == enterable(after, context.name), context.name


def test_an_include_that_would_let_more_in_is_not_kept() -> None:
    steps_of = "exten => {0},1,X()\n same => n,Y()\n"
    old = f"[a]\ninclude => b\ninclude => gone\n[b]\n{steps_of.format(1)}[gone]\n{steps_of.format(2)}"
    new = "[a]\nexten => 3,1,X()\n[b]\nexten => 1,1,X()\n"
    merged = parse(both(old, new))
    assert merged[0].lines == ["include => gone"]
    assert enterable(merged, "a") == {("a", "3")}


def test_a_third_plan_keeps_the_steps_of_two(plans: list[str]) -> None:
    first, second, third = plans[:3]
    now = steps(parse(both(both(first, second), third)))
    for (context, exten, priority), application in steps(parse(first)).items():
        assert priority == 1 or now[context, exten, priority] == application
    for (context, exten, priority), application in steps(parse(second)).items():
        assert now[context, exten, STRIDE + priority] == application
    for (context, exten, priority), application in steps(parse(third)).items():
        assert now[context, exten, 2 * STRIDE + priority] == application
        assert now[context, exten, 1] == f"Goto({2 * STRIDE + 1})"


@pytest.mark.parametrize(
    "text",
    ["exten => 1,1,X()\n", "[a]\nsame => n,X()\n", "[a](!)\n", '[a]\n#include "b"\n', "[a]\nexten => 1,n+9,X()\n"],
)
def test_what_we_would_not_write_is_not_guessed_at(text: str) -> None:
    with pytest.raises(Unknown):
        parse(text)
