"""The Lua scripts in `scripts/`, ready to call. Each opens with its keys, arguments and answer."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import redis
from redis.commands.core import Script

FOLDER = Path(__file__).parent / "scripts"
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.lua") if path.stem != "common"))


@cache
def source(name: str) -> str:
    """The script as Redis gets it: its `#!lua` line, then the common part, then its own."""
    shebang, _, body = (FOLDER / f"{name}.lua").read_text().partition("\n")
    return f"{shebang}\n{(FOLDER / 'common.lua').read_text()}\n{body}"


def register(client: redis.Redis) -> dict[str, Script]:
    """Every script by name, bound to the client. Redis learns them on first use, and again after a restart."""
    return {name: client.register_script(source(name)) for name in NAMES}


def pairs(flat: list[Any]) -> dict[str, str]:
    """A flat {field, value, ...} answer as text."""
    texts = [item.decode("utf-8", "replace") for item in flat]
    return dict(zip(texts[::2], texts[1::2], strict=True))
