"""Configures logging: one line per event on stderr, as text or as JSON.

Ids and codes are passed as `extra=` and become fields: `prediction_id`, `request_id`, `traceparent`, `code`. In text
they follow the message as `name=value`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

from shared.record import rfc3339
from shared.runtime.repeats import repeats
from shared.settings import Settings

_OWN = {*vars(logging.makeLogRecord({})), "message", "asctime"}


def configure(settings: Settings, *filters: Callable[[logging.LogRecord], bool]) -> None:
    """Configure the logging of this process. Filters may add fields to records."""
    handler = logging.StreamHandler()
    handler.setFormatter(Json() if settings.log_format == "json" else Text())
    handler.addFilter(repeats)
    for one in filters:
        handler.addFilter(one)
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    logging.getLogger("rq").setLevel(logging.WARNING)


def about(record: logging.LogRecord) -> dict[str, Any]:
    """Return the fields passed as `extra=` that are not empty."""
    return {name: value for name, value in vars(record).items() if name not in _OWN and value not in ("", None)}


class Text(logging.Formatter):
    """Formats time, level, logger, message and fields; a traceback follows on lines of its own."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # the library's name
        """Append the fields to the line."""
        return " ".join([super().formatMessage(record), *(f"{name}={value}" for name, value in about(record).items())])


class Json(logging.Formatter):
    """Formats one JSON object per line, with a traceback as text."""

    def format(self, record: logging.LogRecord) -> str:
        """Return time, level, logger, message, fields and traceback, if any, as JSON."""
        line = {"time": rfc3339(record.created), "level": record.levelname, "logger": record.name,
                "message": record.getMessage(), **about(record)}  # fmt: skip
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)
