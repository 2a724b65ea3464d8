"""What the command line prints of predictions and batches: for people, as JSON lines, or as CSV."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import click

from producer.cli.sending import Result
from producer.cli.table import csv_line, csv_lines, mark
from shared.batch import Batch
from shared.errors import DigitqError
from shared.prediction import Prediction, verdict

Format = Literal["text", "json", "csv"]

OK, FAILED, UNAVAILABLE, TIMEOUT = 0, 1, 3, 4
#: Of a picture, in the order of the CSV.
COLUMNS = ("path", "id", "state", "digit", "confidence", "decision", "reason", "warnings", "error")


def code_of(result: Result, wait: bool = False, strict: bool = False) -> int:
    """The exit code that one result stands for; `strict`: a digit that is not accepted counts as failed."""
    if isinstance(result, TimeoutError):
        return TIMEOUT
    if isinstance(result, DigitqError):
        return UNAVAILABLE if result.status in (429, 503) else FAILED
    if result.state.terminal:
        return FAILED if result.digit is None or (strict and result.decision != "accept") else OK
    return TIMEOUT if wait else OK


def head(format: Format) -> None:
    """What comes before the first result."""
    if format == "csv":
        click.echo(mark(sys.stdout) + csv_line([*COLUMNS, "error_message"]), nl=False)


def show(label: str, result: Result, format: Format) -> None:
    """Prints one result on stdout; an error, for people, on stderr."""
    body = as_json(label, result)
    if format == "json":
        click.echo(json.dumps(body))
    elif format == "csv":
        *_, row = csv_lines([{**body, "path": label}], COLUMNS)
        click.echo(row, nl=False)
    elif isinstance(result, Prediction):
        click.echo(line(result, label))
    if not isinstance(result, Prediction):
        click.echo(f"{label}: {body['error']['code']}: {result}", err=True)


def as_json(label: str, result: Result) -> dict[str, Any]:
    """A prediction as in the API; what has none looks like one that has failed, without an id and a state."""
    if isinstance(result, Prediction):
        return result.to_json()
    error = {"code": getattr(result, "code", "timeout"), "message": str(result)}
    nothing = dict.fromkeys(("id", "filename", "state", "digit", "confidence", "decision", "reason", "warnings"))
    return {**nothing, "filename": label, "error": error}


def line(prediction: Prediction, name: str) -> str:
    """One prediction as a line for people."""
    return row_line(prediction.to_json(), name)


def row_line(row: Mapping[str, Any], name: str) -> str:
    """The JSON object of a prediction, or a batch's result, as a line for people."""
    if row["digit"] is not None and row["confidence"] is not None:
        return f"{name}: {verdict(row['digit'], row['confidence'], row['decision'], row['reason'])}"
    error = f"{row['error']['code']}: {row['error']['message']}" if row["error"] else None
    return f"{name}: " + "  ".join(filter(None, (row["state"], row.get("id"), error)))


def batch_line(batch: Batch) -> str:
    """A batch as it stands, as a line for people."""
    counts = [f"{batch.succeeded} succeeded", f"{batch.failed} failed"]
    counts += [f"{batch.cancelled} cancelled"] if batch.cancelled else []
    left_out = f"; files that are no pictures: {batch.skipped}" if batch.skipped else ""
    return f"batch {batch.id}: {batch.state.value}  {', '.join(counts)}, of {batch.total}{left_out}"


def show_rows(rows: Iterable[Mapping[str, Any]], format: Format) -> None:
    """Prints the results of a batch on stdout: as JSON lines, or as lines for people."""
    as_text = (row_line(row, row["filename"] or str(row["index"])) for row in rows)
    click.echo("\n".join(map(json.dumps, rows) if format == "json" else as_text))


def batch_code(batch: Batch, wait: bool = False, rows: Iterable[Mapping[str, Any]] = ()) -> int:
    """The exit code that a batch stands for; `rows`: its results, each of which must be accepted."""
    if batch.state.terminal:
        accepted = all(row["decision"] == "accept" for row in rows)
        return FAILED if batch.succeeded < batch.total or not accepted else OK
    return TIMEOUT if wait else OK


def confusion(digits: Sequence[int | None], expected: Iterable[int]) -> str:
    """How often each label (the rows) was read as which digit (the columns); the last column: as none."""
    counts = [[0] * 11 for _ in range(10)]
    for digit, label in zip(digits, expected, strict=True):
        counts[label][10 if digit is None else digit] += 1
    width = max(5, *(len(str(count)) + 1 for row in counts for count in row))
    rows = [["", *map(str, range(10)), "none"]]
    rows += [[str(label), *(str(count) if count else "." for count in row)] for label, row in enumerate(counts)]
    return "\n".join("".join(cell.rjust(width) for cell in row) for row in rows)
