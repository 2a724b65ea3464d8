"""The log: one line per event on stderr, as text or as JSON.

What a line is about comes as `extra=` and is a field of its own: `prediction_id`, `request_id`, `traceparent`, `code`.
In text it stands behind the message as `name=value`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

from shared.prediction import rfc3339
from shared.runtime.repeats import repeats
from shared.settings import Settings

_OWN = {*vars(logging.makeLogRecord({})), "message", "asctime"}


def configure(settings: Settings, *filters: Callable[[logging.LogRecord], bool]) -> None:
    """Sets this process's log up. A filter may add fields to what is logged."""
    handler = logging.StreamHandler()
    handler.setFormatter(Json() if settings.log_format == "json" else Text())
    handler.addFilter(repeats)
    for one in filters:
        handler.addFilter(one)
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    logging.getLogger("rq").setLevel(logging.WARNING)


def about(record: logging.LogRecord) -> dict[str, Any]:
    """The fields that came with a record, without the empty ones."""
    return {name: value for name, value in vars(record).items() if name not in _OWN and value not in ("", None)}


class Text(logging.Formatter):
    """Time, level, logger, message, fields; a traceback on lines below."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # the library's name
        """The line, with its fields at the end."""
        return " ".join([super().formatMessage(record), *(f"{name}={value}" for name, value in about(record).items())])


class Json(logging.Formatter):
    """One JSON object per line; a traceback is text in it."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's time, level, logger and message, its fields, and its traceback if it has one."""
        line = {"time": rfc3339(record.created), "level": record.levelname, "logger": record.name,
                "message": record.getMessage(), **about(record)}  # fmt: skip
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)
