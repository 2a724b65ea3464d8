"""Submits the pictures or the batch of `digitq submit`, records them in the journal, and prints results."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import click

from producer.cli.journal import Entry, Journal
from producer.cli.output import (
    Format,
    Result,
    batch_code,
    batch_line,
    confusion,
    exit_code,
    print_header,
    print_result,
    print_rows,
)  # fmt: skip
from producer.cli.sources import Source
from producer.client.bulk import map_in_order
from producer.client.sync_clients import Client
from producer.csv_rows import NUMBER_COLUMNS, csv_lines, mark
from producer.uploads.files import is_batch, read_labels
from shared.batch import COLUMNS as BATCH_COLUMNS
from shared.batch import Batch, BatchResult
from shared.errors import DigitqError, MalformedBatch, Unauthorized, UnsupportedType
from shared.numbers import Read
from shared.prediction import Prediction

#: HTTP statuses of errors that a further attempt would only repeat.
FINAL = (400, 413, 415, 422)
#: Seconds between two steps of the progress bar.
STEP_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Submit:
    """Submits the sources of one command."""

    client: Client
    journal: Journal
    format: Format
    priority: str | None
    #: Seconds to wait for each picture, or for the batch; None to return at once.
    timeout: float | None
    #: Whether a digit that is not accepted counts as failed.
    strict: bool
    read: Read = "digit"

    # ------------------------------------------------------------------ pictures

    def pictures(self, sources: list[Source]) -> int:
        """Submit each source as a picture and print the results in order; return the worst exit code."""
        worst, wait = 0, self.timeout is not None
        hidden = len(sources) < 2 or not sys.stderr.isatty() or sys.stdout.isatty()
        print_header(self.format, self.read)
        results = map_in_order(self.picture, sources)
        with click.progressbar(results, length=len(sources), label="pictures", file=sys.stderr, hidden=hidden) as bar:
            for source, result in zip(sources, bar, strict=True):
                print_result(source.label, result, self.format, self.read, alone=len(sources) == 1)
                worst = max(worst, exit_code(result, wait, self.strict))
        return worst

    def picture(self, source: Source) -> Result:
        """Submit one picture; return its prediction or error. Raises Unauthorized, which all others would get too."""
        try:
            data = source.read()
            if is_batch(data[:4]):
                raise UnsupportedType("A zip or an IDX file is a batch: submit it in a command of its own")
            entry = self.journal.begin(source.place, hashlib.sha256(data).hexdigest(), self.read)
            if entry.outcome is not None:
                return recorded(entry.outcome)
            prediction = self.journal.submit(
                entry, self.client.get, lambda key: self._submit_picture(data, source.name, entry, key)
            )
            if self.timeout is not None and not prediction.state.terminal:
                prediction = self.client.get(prediction.id, wait=self.timeout)
        except Unauthorized:
            raise
        except (DigitqError, TimeoutError) as error:
            return error
        if prediction.state.terminal:
            self.journal.end(entry, {"prediction": prediction.to_json()})
        return prediction

    def _submit_picture(self, data: bytes, name: str, entry: Entry, key: str) -> Prediction:
        try:
            priority = self.priority or "normal"
            return self.client.submit(data, name, priority=priority, idempotency_key=key, read=self.read)
        except DigitqError as error:
            if error.status in FINAL:
                refusal = {"code": error.code, "status": error.status, "message": str(error)}
                self.journal.end(entry, {"refusal": refusal})
            raise

    # ------------------------------------------------------------------ a batch

    def batch(self, source: Source, labels: Path | None) -> int:
        """Submit one source as a batch and print its results; return the exit code. Raises TimeoutError."""
        expected = read_labels(labels.read_bytes()) if labels else None
        start = time.monotonic()
        entry = self.journal.begin(source.place, source.sha256(), self.read)
        batch = self.journal.submit(entry, self.client.get_batch, lambda key: self._submit_batch(source, key))
        if expected is not None and len(expected) != batch.total:
            self.client.cancel_batch(batch.id)
            self.journal.restart(entry)
            raise MalformedBatch(f"{source.name} holds {batch.total} images, {labels} {len(expected)} labels")
        if self.timeout is None:
            text = f"{source.label}: {batch.state.value}  {batch.id}"
            click.echo(json.dumps(batch.to_json()) if self.format == "json" else text)
            return 0
        batch = follow(self.client, batch, start + self.timeout).ended(self.timeout)
        seconds = time.monotonic() - start
        rows = self.client.results(batch.id)
        self._print_batch(batch, rows, expected, seconds)
        return batch_code(batch, rows=rows if self.strict else ())

    def _submit_batch(self, source: Source, key: str) -> Batch:
        priority = self.priority or "low"
        return self.client.submit_batch(source.content(), priority=priority, idempotency_key=key, read=self.read)

    def _print_batch(self, batch: Batch, rows: list[BatchResult], expected: bytes | None, seconds: float) -> None:
        if self.format == "csv":
            columns = BATCH_COLUMNS if self.read == "digit" else NUMBER_COLUMNS
            click.echo("".join([mark(sys.stdout), *csv_lines(rows, columns)]), nl=False)
        elif expected is not None:
            print_summary(batch, [row["digit"] for row in rows], expected, seconds, self.format)
        else:
            print_rows(rows, self.format)
        # The totals are part of the output for people; a program reads rows only.
        totals = f"{batch_line(batch)}  ({batch.total / seconds:.1f} pictures/s)"
        click.echo(totals, err=self.format != "text" or expected is not None)


def recorded(outcome: dict[str, dict[str, object]]) -> Result:
    """Return the prediction or the error that the journal holds for a picture."""
    if "prediction" in outcome:
        return Prediction.from_json(outcome["prediction"])
    refusal = outcome["refusal"]
    error = DigitqError(str(refusal["message"]))
    error.code, error.status = str(refusal["code"]), int(str(refusal["status"]))
    return error


def follow(client: Client, batch: Batch, end: float) -> Batch:
    """Poll a batch until it has ended or the monotonic time `end`, with a progress bar on a terminal's stderr."""
    hidden = not sys.stderr.isatty()
    with click.progressbar(length=batch.total, label="pictures", file=sys.stderr, hidden=hidden) as bar:
        while not batch.state.terminal and (left := end - time.monotonic()) > 0:
            batch = client.get_batch(batch.id, wait=min(STEP_SECONDS, left))
            bar.update(batch.succeeded + batch.failed + batch.cancelled - bar.pos)
    return batch


def print_summary(batch: Batch, digits: list[int | None], expected: bytes, seconds: float, format: Format) -> None:
    """Print totals, the share of digits that equal their label and the speed; for people a confusion matrix too."""
    summary = {
        "total": batch.total,
        "succeeded": batch.succeeded,
        "failed": batch.failed,
        "accuracy": sum(digit == label for digit, label in zip(digits, expected, strict=True)) / batch.total,
        "images_per_second": round(batch.total / seconds, 1),
    }
    if format == "json":
        click.echo(json.dumps(summary))
        return
    click.echo("  ".join(f"{name} {value}" for name, value in summary.items()))
    click.echo(f"\nlabels (rows) and what they were read as (columns)\n{confusion(digits, expected)}")
