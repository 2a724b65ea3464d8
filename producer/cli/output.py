"""Prints predictions and batches as text, JSON lines or CSV, and chooses exit codes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import click

from producer.csv_rows import csv_line, csv_lines, mark
from shared.batch import Batch
from shared.errors import DigitqError
from shared.numbers import PageReading, Read
from shared.prediction import Prediction, State, verdict

Format = Literal["text", "json", "csv"]
Result = Prediction | DigitqError | TimeoutError

OK, FAILED, UNAVAILABLE, TIMEOUT = 0, 1, 3, 4
#: Columns of a picture in CSV.
COLUMNS = ("path", "id", "state", "digit", "confidence", "decision", "reason", "warnings", "error")
#: The same for pictures read as numbers.
NUMBER_COLUMNS = (*COLUMNS[:4], "text", *COLUMNS[4:])


def exit_code(result: Result, wait: bool = False, strict: bool = False) -> int:
    """Return the exit code for one picture. With `strict` a digit that is not accepted counts as failed."""
    if isinstance(result, TimeoutError):
        return TIMEOUT
    if isinstance(result, DigitqError):
        return UNAVAILABLE if result.status in (429, 503) else FAILED
    if result.state.terminal:
        failed = result.state is not State.SUCCEEDED
        return FAILED if failed or (strict and result.decision != "accept") else OK
    return TIMEOUT if wait else OK


def batch_code(batch: Batch, wait: bool = False, rows: Iterable[Mapping[str, Any]] = ()) -> int:
    """Return the exit code for a batch. Each result in `rows` that is not accepted counts as failed."""
    if batch.state.terminal:
        accepted = all(row["decision"] == "accept" for row in rows)
        return FAILED if batch.succeeded < batch.total or not accepted else OK
    return TIMEOUT if wait else OK


def print_header(format: Format, read: Read) -> None:
    """Print the header row of CSV."""
    if format == "csv":
        click.echo(mark(sys.stdout) + csv_line([*_columns(read), "error_message"]), nl=False)


def _columns(read: Read) -> tuple[str, ...]:
    return COLUMNS if read == "digit" else NUMBER_COLUMNS


def print_result(label: str, result: Result, format: Format, read: Read, alone: bool) -> None:
    """Print the result of one picture on stdout, and an error on stderr too.

    As text, numbers have a line for each row, without the label if the picture is `alone`.
    """
    body = result_json(label, result)
    if format == "json":
        click.echo(json.dumps(body))
    elif format == "csv":
        *_, row = csv_lines([{**body, "path": label}], _columns(read))
        click.echo(row, nl=False)
    elif isinstance(result, Prediction) and result.lines:
        click.echo("\n".join(text if alone else f"{label}: {text}" for text in result.lines))
    elif isinstance(result, Prediction):
        click.echo(text_line(body, label))
    if format == "text" and isinstance(result, Prediction) and "signs_left_out" in result.warnings:
        click.echo(f"{label}: signs, such as points or dashes, were left out", err=True)
    if not isinstance(result, Prediction):
        click.echo(f"{label}: {body['error']['code']}: {result}", err=True)


def result_json(label: str, result: Result) -> dict[str, Any]:
    """Return a prediction as in the API; an error looks like a failed prediction without an id and a state."""
    if isinstance(result, Prediction):
        return result.to_json()
    error = {"code": getattr(result, "code", "timeout"), "message": str(result)}
    empty = dict.fromkeys(("id", "filename", "state", "digit", "confidence", "decision", "reason", "warnings"))
    return {**empty, "filename": label, "error": error}


def text_line(row: Mapping[str, Any], name: str) -> str:
    """Return the JSON object of a prediction, or a result of a batch, as a line of text."""
    if page := PageReading.from_json(row):
        return f"{name}: {' / '.join(page.lines) or verdict(None, None, row['decision'], row['reason'])}"
    if row["digit"] is not None and row["confidence"] is not None:
        return f"{name}: {verdict(row['digit'], row['confidence'], row['decision'], row['reason'])}"
    error = f"{row['error']['code']}: {row['error']['message']}" if row["error"] else None
    return f"{name}: " + "  ".join(filter(None, (row["state"], row.get("id"), error)))


def batch_line(batch: Batch) -> str:
    """Return the id, state and counts of a batch as a line of text."""
    counts = [f"{batch.succeeded} succeeded", f"{batch.failed} failed"]
    counts += [f"{batch.cancelled} cancelled"] if batch.cancelled else []
    skipped = f"; files that are no pictures: {batch.skipped}" if batch.skipped else ""
    return f"batch {batch.id}: {batch.state.value}  {', '.join(counts)}, of {batch.total}{skipped}"


def print_rows(rows: Iterable[Mapping[str, Any]], format: Format) -> None:
    """Print the results of a batch on stdout, as JSON lines or as text."""
    text = (text_line(row, row["filename"] or str(row["index"])) for row in rows)
    click.echo("\n".join(map(json.dumps, rows) if format == "json" else text))


def confusion(digits: Sequence[int | None], expected: Iterable[int]) -> str:
    """Return the confusion matrix as text: a row for each label, a column for each digit, and one for none."""
    counts = [[0] * 11 for _ in range(10)]
    for digit, label in zip(digits, expected, strict=True):
        counts[label][10 if digit is None else digit] += 1
    width = max(5, *(len(str(count)) + 1 for row in counts for count in row))
    rows = [["", *map(str, range(10)), "none"]]
    rows += [[str(label), *(str(count) if count else "." for count in row)] for label, row in enumerate(counts)]
    return "\n".join("".join(cell.rjust(width) for cell in row) for row in rows)
