"""`digitq submit` for a whole file of pictures: an IDX file or a zip, as one batch."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from producer.cli.printing import Format, batch_code, batch_line, confusion, show_rows
from producer.cli.sources import Source
from producer.cli.table import csv_lines, mark
from producer.client.http import Client
from producer.client.journal import Entry, Journal
from producer.uploads.files import read_labels
from shared.batch import Batch
from shared.errors import Lost, MalformedBatch

#: Seconds between two steps of the progress bar.
STEP_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Bulk:
    """Hands in a batch, follows it and prints what became of it."""

    client: Client
    journal: Journal
    priority: str
    #: Seconds to wait for the end; None: not at all.
    patience: float | None
    format: Format
    #: Whether a picture that is not accepted counts as failed.
    strict: bool = False

    def send(self, source: Source, labels: Path | None) -> int:
        """Returns the exit code. Raises what the client raises, and TimeoutError."""
        expected = read_labels(labels.read_bytes()) if labels else None
        start = time.monotonic()
        entry = self.journal.begin(source.place, source.sha256())
        batch = self._accepted(source, entry)
        if expected is not None and len(expected) != batch.total:
            self.client.cancel_batch(batch.id)
            self.journal.again(entry)
            raise MalformedBatch(f"{source.name} holds {batch.total} images, {labels} {len(expected)} labels")
        if self.patience is None:
            as_json = json.dumps(batch.to_json())
            click.echo(as_json if self.format == "json" else f"{source.label}: {batch.state.value}  {batch.id}")
            return 0
        batch = follow(self.client, batch, start + self.patience)
        if not batch.state.terminal:
            raise TimeoutError(f"batch {batch.id} is {batch.state.value} after {self.patience:g} s")
        seconds = time.monotonic() - start
        rows = list(self.client.results(batch.id))
        self._print(batch, rows, expected, seconds)
        return batch_code(batch, rows=rows if self.strict else ())

    def _accepted(self, source: Source, entry: Entry) -> Batch:
        """The batch, handed in now or by an earlier command with the same journal."""
        if entry.id:
            try:
                return self.client.get_batch(entry.id)
            except Lost:
                self.journal.again(entry)
        batch = self.client.submit_batch(
            source.content(), priority=self.priority, idempotency_key=entry.idempotency_key
        )
        self.journal.accepted(entry, batch.id)
        return batch

    def _print(self, batch: Batch, rows: list[dict[str, Any]], expected: bytes | None, seconds: float) -> None:
        if self.format == "csv":
            click.echo("".join([mark(sys.stdout), *csv_lines(rows)]), nl=False)
        elif expected is not None:
            self._print_summary(batch, [row["digit"] for row in rows], expected, seconds)
        else:
            show_rows(rows, self.format)
        # For people the batch's id is part of the answer; a program that reads rows is not to stumble over it.
        totals = f"{batch_line(batch)}  ({batch.total / seconds:.1f} pictures/s)"
        click.echo(totals, err=self.format != "text" or expected is not None)

    def _print_summary(self, batch: Batch, digits: list[int | None], expected: bytes, seconds: float) -> None:
        found = summary(batch, digits, expected, seconds)
        if self.format == "json":
            click.echo(json.dumps(found))
            return
        click.echo("  ".join(f"{name} {value}" for name, value in found.items()))
        click.echo(f"\nlabels (rows) and what they were read as (columns)\n{confusion(digits, expected)}")


def follow(client: Client, batch: Batch, end: float) -> Batch:
    """Shows on a terminal's stderr how far a batch is, until it has ended or the time is over."""
    hidden = not sys.stderr.isatty()
    with click.progressbar(length=batch.total, label="pictures", file=sys.stderr, hidden=hidden) as bar:
        while not batch.state.terminal and (left := end - time.monotonic()) > 0:
            batch = client.get_batch(batch.id, wait=min(STEP_SECONDS, left))
            bar.update(batch.succeeded + batch.failed + batch.cancelled - bar.pos)
    return batch


def summary(batch: Batch, digits: list[int | None], expected: bytes, seconds: float) -> dict[str, Any]:
    """Totals, the share of the pictures whose digit is their label, and the speed."""
    return {
        "total": batch.total,
        "succeeded": batch.succeeded,
        "failed": batch.failed,
        "accuracy": sum(d == e for d, e in zip(digits, expected, strict=True)) / batch.total,
        "images_per_second": round(batch.total / seconds, 1),
    }
