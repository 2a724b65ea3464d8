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
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.lua")))
#: The files of `scripts/parts/`, each after those that it uses.
PARTS = ("basics", "ends", "admission", "jobs", "chunks")
#: A definition in `scripts/parts/` with its names: up to the next one, or the comment above that.
_DEFINITION = re.compile(r"^local (?:function )?([\w, ]+?)(?: = |\().*?(?=^local |^--|\Z)", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"(?:^|(?<=\s))--.*$", re.MULTILINE)


@cache
def source(name: str) -> str:
    """Return the script as Redis gets it: behind its `#!lua` line, the definitions of `scripts/parts/` that it uses.

    A call creates each function anew, so a script gets no more of them than it needs.
    """
    shebang, _, text = (FOLDER / f"{name}.lua").read_text().partition("\n")
    parts = "\n".join((FOLDER / "parts" / f"{part}.lua").read_text() for part in PARTS)
    text = _COMMENT.sub("", text)
    for names, definition in reversed([(found[1], found[0]) for found in _DEFINITION.finditer(parts)]):
        if re.search(rf"\b({names.replace(', ', '|')})\b", text):
            text = _COMMENT.sub("", definition) + text
    return f"{shebang}\n{text}"


def register(client: redis.Redis) -> dict[str, Script]:
    """Every script by name, bound to the client. Redis learns them on first use, and again after a restart."""
    return {name: client.register_script(source(name)) for name in NAMES}


def arguments(rows: Sequence[Mapping[str, Any]] = (), /, **named: Any) -> list[Any]:
    """Encode what a script is told: one JSON object with its arguments by name, then rows with the same columns.

    Texts that are equal in all rows go into the object, except for the first column.
    """
    columns: list[str] = []
    for at, (name, value) in enumerate(rows[0].items() if rows else ()):
        if at and isinstance(value, str) and all(row[name] == value for row in rows):
            named[name] = value
        else:
            columns.append(name)
    if columns:
        named["columns"] = columns
    return [orjson.dumps(named), *(row[name] for row in rows for name in columns)]


def pairs(flat: list[Any]) -> dict[str, str]:
    """A flat {field, value, ...} answer as text."""
    texts = [item.decode("utf-8", "replace") for item in flat]
    return dict(zip(texts[::2], texts[1::2], strict=True))
