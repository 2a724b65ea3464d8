"""The Lua scripts in `scripts/`, ready to call. Each opens with its keys, arguments by name, and answer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import redis
from redis.commands.core import Script

FOLDER = Path(__file__).parent / "scripts"
_WITH = re.compile(r"^-- WITH: (.+)$", re.MULTILINE)
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.lua") if path.stem != "common"))


@cache
def source(name: str) -> str:
    """The script as Redis gets it: its `#!lua` line, then the common part and those that it says, then its own."""
    shebang, _, body = (FOLDER / f"{name}.lua").read_text().partition("\n")
    said = _WITH.search(body)
    parts = ["common", *(f"parts/{part}" for part in said[1].split(", "))] if said else ["common"]
    return "\n".join([shebang, *((FOLDER / f"{part}.lua").read_text() for part in parts), body])


def register(client: redis.Redis) -> dict[str, Script]:
    """Every script by name, bound to the client. Redis learns them on first use, and again after a restart."""
    return {name: client.register_script(source(name)) for name in NAMES}


def arguments(rows: Sequence[Mapping[str, Any]] | None = None, /, **named: Any) -> list[Any]:
    """What a script is told: its arguments by name, and rows that all have the same columns."""
    if rows is None:
        return [orjson.dumps(named)]
    columns = list(rows[0]) if rows else []
    return [orjson.dumps({**named, "columns": columns}), *(value for row in rows for value in row.values())]


def pairs(flat: list[Any]) -> dict[str, str]:
    """A flat {field, value, ...} answer as text."""
    texts = [item.decode("utf-8", "replace") for item in flat]
    return dict(zip(texts[::2], texts[1::2], strict=True))
