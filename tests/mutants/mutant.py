"""The lists of mutants: TOML files in `lists/` that say what a guard promises, a mistake in it, and which tests see it.

    [[mutant]]
    file = "shared/scripts/renew.lua"
    guards = "a renewal makes the execution last for another lease"
    before = "redis.call('EXPIRE', execution, lease)"
    after = ""
    tests = ["tests/unit/test_store.py::test_a_renewal_makes_the_execution_last"]

`before` occurs once in the file. A mutant that no test can see has `survives`, the reason, instead of `tests`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shared import ROOT

LISTS = Path(__file__).with_name("lists")


@dataclass(frozen=True)
class Mutant:
    """A mistake in one file."""

    file: str
    #: What holds without the mistake, as a sentence.
    guards: str
    #: Text that occurs once in the file, and what takes its place.
    before: str
    after: str
    #: Ids of the tests of which at least one is red with the mistake.
    tests: tuple[str, ...] = ()
    #: Why no test can see it.
    survives: str = ""

    def applied(self, text: str) -> str:
        """Return the file's text with the mistake.

        Raises `ValueError` if the text has no place or several places for it.
        """
        if text.count(self.before) != 1 or self.before == self.after:
            raise ValueError(f"{self.file}: occurs {text.count(self.before)} times, not once: {self.before!r}")
        return text.replace(self.before, self.after)


def mutants(root: Path = ROOT) -> Iterator[Mutant]:
    """Yield the mutants of all lists."""
    for path in sorted((root / "tests" / "mutants" / LISTS.name).glob("*.toml")):
        for entry in tomllib.loads(path.read_text(encoding="utf-8"))["mutant"]:
            yield Mutant(**{**entry, "tests": tuple(entry.get("tests", ()))})
