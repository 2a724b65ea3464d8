"""Configures logging: one line per event on stderr, as text or as JSON.

Ids and codes are passed as `extra=` and become fields: `prediction_id`, `request_id`, `traceparent`, `code`. In text
they follow the message as `name=value`. `DIGITQ_LOG_LEVEL` is for our loggers; libraries log from WARNING on.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from shared.record import rfc3339
from shared.runtime.repeats import repeats
from shared.settings import Settings

log = logging.getLogger("digitq")

_OWN = {*vars(logging.makeLogRecord({})), "message", "asctime"}


def configure(settings: Settings, *filters: Callable[[logging.LogRecord], bool]) -> None:
    """Configure the logging of this process. Filters may add fields to records."""
    handler = logging.StreamHandler()
    handler.setFormatter(Json() if settings.log_format == "json" else Text())
    handler.setLevel(settings.log_level)
    handler.addFilter(repeats)
    for one in filters:
        handler.addFilter(one)
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    log.setLevel(settings.log_level)
    logging.captureWarnings(True)
    if _is_json():
        sys.excepthook = lambda kind, error, trace: _log_uncaught(error, f"{kind.__name__} in the main thread")
        threading.excepthook = lambda args: _log_uncaught(args.exc_value, f"{args.exc_type.__name__} in a thread")


def report_failure(text: str) -> None:
    """Write the reason for which a process ends to stderr: as a line of the log where that is JSON, else as it is."""
    if _is_json():
        log.critical("%s", text)
    else:
        print(text, file=sys.stderr)


def _is_json() -> bool:
    return any(isinstance(handler.formatter, Json) for handler in logging.getLogger().handlers)


def _log_uncaught(error: BaseException | None, text: str) -> None:
    log.critical("%s, which nothing handles", text, exc_info=error)


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


def of_supervisor(message: str, **fields: Any) -> logging.LogRecord:
    """Return the record of a line that `digitq up` writes itself."""
    about = {"name": "digitq.up", "levelno": logging.INFO, "levelname": "INFO", "msg": message, **fields}
    return logging.makeLogRecord(about)


def of_process(name: str, line: str) -> str:
    """Return a line of a process as a JSON object that names the process, for a log that several share.

    A line that is no JSON object, such as one of a library in C++, becomes the message of a warning.
    """
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        found = {"time": rfc3339(time.time()), "level": "WARNING", "logger": "stderr", "message": line}
    return json.dumps({"process": name, **found})
