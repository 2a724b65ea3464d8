"""The lists of mutants fit the code; `make mutants` runs them."""

from __future__ import annotations

import ast
from functools import cache

import pytest

from shared import ROOT
from tests.mutants.mutant import Mutant, mutants

EVERY = list(mutants())


@cache
def names(file: str) -> set[str]:
    """The functions and classes of a file of tests."""
    tree = ast.parse((ROOT / file).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}


@pytest.mark.parametrize("mutant", EVERY, ids=lambda mutant: f"{mutant.file}: {mutant.guards}")
def test_a_mutant_has_one_place_in_the_code_and_tests_that_exist_or_a_reason(mutant: Mutant) -> None:
    mutant.applied((ROOT / mutant.file).read_text(encoding="utf-8"))
    assert bool(mutant.tests) != bool(mutant.survives)
    for test in mutant.tests:
        file, *inner = test.partition("[")[0].split("::")
        assert (ROOT / file).exists()
        assert set(inner) <= names(file)


def test_each_guard_is_listed_once() -> None:
    assert len({(one.file, one.before, one.after) for one in EVERY}) == len(EVERY)
    assert len({(one.file, one.guards) for one in EVERY}) == len(EVERY)
