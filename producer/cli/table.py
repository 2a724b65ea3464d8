"""Rows as CSV."""

from __future__ import annotations

import csv
import os
import stat
from collections.abc import Iterable, Iterator
from io import StringIO
from typing import Any, TextIO

from shared.batch import COLUMNS

#: A cell that begins like this is a formula to a spreadsheet.
FORMULA = ("=", "+", "-", "@", "\t", "\r")

#: A byte order mark, by which spreadsheets know that a file is UTF-8.
BOM = "\ufeff"


def mark(file: TextIO) -> str:
    """Returns BOM where CSV is about to be written into an empty file, as UTF-8; empty for a pipe or a terminal."""
    if file.encoding.lower() != "utf-8":
        return ""
    try:
        about = os.fstat(file.fileno())
    except (OSError, ValueError):  # no file at all
        return ""
    return BOM if stat.S_ISREG(about.st_mode) and not about.st_size else ""


def csv_lines(rows: Iterable[dict[str, Any]], columns: Iterable[str] = COLUMNS) -> Iterator[str]:
    """A head and a line for each result; warnings are separated by blanks, an error is its code and its message."""
    yield csv_line([*columns, "error_message"])
    for row in rows:
        error = row["error"] or {"code": None, "message": None}
        plain = {**row, "warnings": " ".join(row["warnings"] or []), "error": error["code"]}
        yield csv_line([*(plain[name] for name in columns), error["message"]])


def csv_line(cells: Iterable[Any]) -> str:
    """RFC 4180. A text that a spreadsheet would take for a formula gets a quote in front, as OWASP advises."""
    out = StringIO()
    safe = (f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell for cell in cells)
    csv.writer(out).writerow(safe)
    return out.getvalue()
