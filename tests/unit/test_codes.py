"""The table of error codes in shared/README.md names each code that a client may meet."""

from __future__ import annotations

import json
import pkgutil
import re
from collections.abc import Iterator
from importlib import import_module

import producer
import shared
from shared import ROOT
from shared.errors import DigitqError

SECTION = (ROOT / "shared/README.md").read_text().partition("## Error codes\n")[2].partition("\n## ")[0]
HTTP, FAILED, LOCAL = (
    dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", part, re.M)) for part in SECTION.split("|---|---|\n")[1:]
)


def classes(kind: type[DigitqError]) -> Iterator[type[DigitqError]]:
    yield kind
    for one in kind.__subclasses__():
        yield from classes(one)


def test_each_error_of_ours_has_a_row_with_its_status() -> None:
    for package in (producer, shared):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            import_module(module.name)
    ours = [one for one in classes(DigitqError) if one.__module__.split(".")[0] in ("producer", "shared")]
    assert {one.code for one in ours} - {*HTTP, *FAILED, *LOCAL} == set()
    assert {*HTTP, *LOCAL} <= {one.code for one in ours}
    assert {one.code: int(HTTP[one.code].split()[0]) for one in ours if one.code in HTTP} == {
        one.code: one.status for one in ours if one.code in HTTP
    }


def test_the_codes_over_http_are_those_of_the_document() -> None:
    examples = json.loads((ROOT / "producer/web/openapi.json").read_text())["components"]["examples"]
    assert set(HTTP) == {one["value"]["code"] for one in examples.values() if "code" in one["value"]}
