"""Writes results as CSV that spreadsheets open safely."""

from __future__ import annotations

import csv
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from io import StringIO
from typing import Any, TextIO

from shared.batch import COLUMNS
from shared.numbers import PageReading

#: A spreadsheet takes a cell that starts like this for a formula, some also if the sign is as wide as a Chinese one.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")
#: Byte order mark, by which spreadsheets recognise UTF-8.
BOM = "\ufeff"
#: The columns of a batch that is read as numbers; `text` has all of them.
NUMBER_COLUMNS = (*COLUMNS[:4], "text", *COLUMNS[4:])


def mark(file: TextIO) -> str:
    """Return BOM if `file` is an empty UTF-8 file; an empty string for anything else, such as a pipe."""
    if (file.encoding or "").lower() != "utf-8":  # a StringIO has none
        return ""
    try:
        status = os.fstat(file.fileno())
    except (OSError, ValueError):  # it has no file descriptor
        return ""
    return BOM if stat.S_ISREG(status.st_mode) and not status.st_size else ""


def csv_lines(rows: Iterable[Mapping[str, Any]], columns: Iterable[str] = COLUMNS) -> Iterator[str]:
    """Yield a header and a line for each result. Warnings are separated by spaces; an error has two columns.

    A column `text` has the numbers: those of a row separated by spaces, rows by " / ".
    """
    yield csv_line([*columns, "error_message"])
    for row in rows:
        error = row["error"] or {"code": None, "message": None}
        plain = {"text": None, **row, "warnings": " ".join(row["warnings"] or []), "error": error["code"]}
        if page := PageReading.from_json(row):
            plain["text"] = " / ".join(page.lines)
        yield csv_line([*(plain[name] for name in columns), error["message"]])


def csv_line(cells: Iterable[Any]) -> str:
    """Return one line of RFC 4180. Text that looks like a formula gets a leading quote, as OWASP advises."""
    out = StringIO()
    safe = (f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell for cell in cells)
    csv.writer(out).writerow(safe)
    return out.getvalue()
