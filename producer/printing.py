"""What the command line prints of predictions and batches: for people, as JSON lines, or as CSV."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import click

from producer.sending import Result
from producer.table import csv_line, csv_lines, mark
from shared.batch import Batch
from shared.errors import DigitqError
from shared.prediction import Prediction

Format = Literal["text", "json", "csv"]

OK, FAILED, UNAVAILABLE, TIMEOUT = 0, 1, 3, 4
#: Of a picture, in the order of the CSV.
COLUMNS = ("path", "id", "state", "digit", "confidence", "decision", "reason", "warnings", "error")


def code_of(result: Result, wait: bool = False) -> int:
    """The exit code that one result stands for."""
    if isinstance(result, TimeoutError):
        return TIMEOUT
    if isinstance(result, DigitqError):
        return UNAVAILABLE if result.status in (429, 503) else FAILED
    if result.state.terminal:
        return FAILED if result.digit is None else OK
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
    if prediction.digit is not None and prediction.confidence is not None:
        decision = f"{prediction.decision}: {prediction.reason}" if prediction.reason else prediction.decision
        return f"{name}: {prediction.digit}  ({prediction.confidence:.1%}, {decision})"
    error = f"  {prediction.error['code']}: {prediction.error['message']}" if prediction.error else ""
    return f"{name}: {prediction.state.value}  {prediction.id}{error}"


def batch_line(batch: Batch) -> str:
    """A batch as it stands, as a line for people."""
    counts = [f"{batch.succeeded} succeeded", f"{batch.failed} failed"]
    counts += [f"{batch.cancelled} cancelled"] if batch.cancelled else []
    return f"batch {batch.id}: {batch.state.value}  {', '.join(counts)}, of {batch.total}"


def batch_code(batch: Batch, wait: bool = False) -> int:
    """The exit code that a batch stands for."""
    if batch.state.terminal:
        return FAILED if batch.succeeded < batch.total else OK
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
