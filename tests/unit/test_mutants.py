"""The lists of mutants fit the code; `make mutants` runs them."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from shared import ROOT
from tests.mutants.mutant import Mutant, mutants


@cache
def listed() -> list[Mutant]:
    return list(mutants())


@cache
def text_of(file: str) -> str:
    return (ROOT / file).read_text(encoding="utf-8")


@cache
def names(file: str) -> set[str]:
    """The functions and classes of a file of tests."""
    tree = ast.parse(text_of(file))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def faults(mutant: Mutant) -> Iterator[str]:
    try:
        mutant.applied(text_of(mutant.file))
    except ValueError as error:
        yield str(error)
    if bool(mutant.tests) == bool(mutant.survives):
        yield "has either tests or a reason to survive"
    for test in mutant.tests:
        file, *inner = test.partition("[")[0].split("::")
        if not (ROOT / file).exists() or not set(inner) <= names(file):
            yield f"there is no {test}"


def test_each_mutant_has_one_place_in_the_code_and_tests_that_exist_or_a_reason() -> None:
    every = listed()
    found = [f"{one.file}: {one.guards}: {fault}" for one in every for fault in faults(one)]
    assert len(every) > 1000 and not found, "\n".join(found)


@pytest.mark.parametrize(
    "changes",
    [
        {"before": "no such text"}, {"before": "e"}, {"tests": ()}, {"survives": "for a reason"},
        {"tests": ("tests/unit/test_none.py",)}, {"tests": ("tests/unit/test_mutants.py::test_none",)},
    ],
    ids=str,
)  # fmt: skip
def test_one_that_does_not_fit_is_named(changes: dict[str, Any]) -> None:
    good = Mutant(
        "shared/keys.py",
        "a sentence",
        "class Priority",
        "",
        ("tests/unit/test_mutants.py::test_each_guard_is_listed_once",),
    )
    assert not [*faults(good)] and [*faults(replace(good, **changes))]


def test_each_guard_is_listed_once() -> None:
    every = listed()
    for said in (lambda one: (one.file, one.before, one.after)), (lambda one: (one.file, one.guards)):
        assert [one for one, times in Counter(map(said, every)).items() if times > 1] == []
