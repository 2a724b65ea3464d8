"""The commands submit, status, cancel and watch."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from producer.cli import journal
from producer.cli.output import Format, batch_code, batch_line, exit_code, print_rows, text_line
from producer.cli.screen import load_lines
from producer.cli.sources import expand
from producer.cli.submit import Submit
from producer.cli.watch import Watch
from producer.client.http_requests import authorization, server_and_key
from producer.client.sync_clients import Client
from shared.batch import Batch
from shared.errors import Expired, Lost, NotFound
from shared.numbers import READS, Read
from shared.prediction import Prediction
from shared.settings import Settings

#: The exit code by which a shell reports Ctrl-C.
INTERRUPTED = 130
SECONDS = click.FloatRange(min=0)
url_option = click.option("--url", help="URL of the server  [default: DIGITQ_URL, or http://127.0.0.1:8000]")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line")
csv_option = click.option("--csv", "as_csv", is_flag=True, help="Print CSV with a header row; a file begins with a BOM")
strict_option = click.option("--strict", is_flag=True, help="Exit 1 if a digit is not accepted (review, reject)")


def _client(url: str | None) -> Client:
    return Client(*server_and_key(url, Settings.from_env().api_key))


def _format(as_json: bool, as_csv: bool) -> Format:
    if as_json and as_csv:
        raise click.UsageError("--json or --csv, not both")
    return "json" if as_json else "csv" if as_csv else "text"


@click.command()
@click.argument("files", nargs=-1, required=True)
@click.option("--wait", is_flag=True, help="Wait for the digits")
@click.option(
    "--timeout",
    type=SECONDS,
    default=60.0,
    show_default=True,
    help="Seconds to wait for each picture, or for the batch",
)
@click.option("--priority", type=click.Choice(["high", "normal", "low"]), help="[default: normal; low for a batch]")
@click.option("--read", type=click.Choice(READS), default="digit", show_default=True, help="One digit, or all numbers")
@click.option("--labels", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="IDX file of labels")
@click.option("--journal", "journal_path", type=click.Path(dir_okay=False, path_type=Path), help="File to resume from")
@strict_option
@url_option
@json_option
@csv_option
def submit(
    files: tuple[str, ...], wait: bool, timeout: float, priority: str | None, read: Read, labels: Path | None,
    journal_path: Path | None, strict: bool, url: str | None, as_json: bool, as_csv: bool,
) -> None:  # fmt: skip
    """Submit pictures, and print their digits.

    The results are in the order of the files. FILES are pictures, folders (searched for pictures), patterns, or - for
    the standard input. An IDX file or a zip is a batch, and must be the only file.

    With --journal, the same command resumes after a crash: it submits nothing twice, and nothing that has ended.

    \b
    With --wait it prints for each picture
              a line: name and digit, or ? if rejected
    --json    an object, as in the API
    --csv     a row

    In --json and --csv `digit` is the best guess whatever the `decision`: check both, or use --strict. A batch ends
    with a line of its id and totals, on stderr with --json, --csv and --labels. With --labels, text and --json print a
    summary instead of the pictures: total, succeeded, failed, accuracy, images_per_second.

    With --read numbers it prints the text of every number, a line for each row; --json has the position and confidence
    of each digit, and --csv a column `text` with " / " between rows.

    \b
    digitq submit photo.jpg --wait
    digitq submit form.jpg --wait --read numbers
    digitq submit scans/ 'more/**/*.png' --wait --json | jq 'select(.decision == "accept").digit'
    digitq submit scans.zip --wait --strict
    curl -s https://example.org/4.png | digitq submit - --wait
    digitq submit scans/ --wait --journal scans.jsonl --csv > digits.csv
    digitq submit t10k-images-idx3-ubyte.gz --labels t10k-labels-idx1-ubyte.gz --wait
    """
    format, sources = _format(as_json, as_csv), expand(files)
    is_batch = len(sources) == 1 and sources[0].is_batch()
    if labels and not is_batch:
        raise click.UsageError("--labels belongs to one IDX file")
    if labels and read != "digit":
        raise click.UsageError("--labels belongs to single digits: leave out --read numbers")
    if strict and not wait:
        raise click.UsageError("--strict needs --wait")
    with journal.opened(journal_path) as book, _client(url) as client, exit_on_interrupt():
        command = Submit(client, book, format, priority, timeout if wait else None, strict, read)
        sys.exit(command.batch(sources[0], labels) if is_batch else command.pictures(sources))


@contextmanager
def exit_on_interrupt() -> Iterator[None]:
    """End the process on Ctrl-C without waiting for its threads. The journal is already on the disk."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo("digitq: interrupted", err=True)
        sys.stdout.flush()
        os._exit(INTERRUPTED)


def _prediction_or_batch(id: str, prediction: Callable[[str], Any], batch: Callable[[str], Any]) -> Any:
    """Return `prediction(id)`, or `batch(id)` if there is no such prediction. Raises NotFound, Lost, Expired."""
    try:
        return prediction(id)
    except (NotFound, Lost, Expired) as error:
        try:
            return batch(id)
        except NotFound:
            raise NotFound("There is no such prediction or batch") from None
        except (Lost, Expired):
            raise error from None


@click.command()
@click.argument("id", required=False)
@click.option("--wait", type=SECONDS, default=0.0, help="Seconds to wait for the end")
@click.option("--results", is_flag=True, help="Of a batch: print each picture too")
@url_option
@json_option
def status(id: str | None, wait: float, results: bool, url: str | None, as_json: bool) -> None:
    """Show a prediction, a batch, or the load of the service.

    Without ID: the queue, the workers, and how many workers are needed.

    \b
    digitq status
    digitq status ID
    digitq status ID --wait 10 --json
    digitq status BATCH --results
    """
    with _client(url) as client:
        if id is None:
            load = client.status()
            click.echo(json.dumps(load) if as_json else "\n".join(load_lines(load)))
            return
        found: Prediction | Batch = _prediction_or_batch(
            id, lambda id: client.get(id, wait), lambda id: client.get_batch(id, wait)
        )
        if results and not isinstance(found, Batch):
            raise click.UsageError("--results belongs to a batch")
        if results:
            print_rows(client.results(id), _format(as_json, False))
    if isinstance(found, Batch):
        text = json.dumps(found.to_json()) if as_json and not results else batch_line(found)
        click.echo(text, err=as_json and results)
        sys.exit(batch_code(found, wait > 0))
    body = found.to_json()
    click.echo(json.dumps(body) if as_json else text_line(body, found.filename or id))
    sys.exit(exit_code(found, wait > 0))


@click.command()
@click.argument("id")
@url_option
def cancel(id: str, url: str | None) -> None:
    """Cancel a prediction or a batch, or delete an ended one.

    \b
    digitq cancel ID
    """
    with _client(url) as client:
        _prediction_or_batch(id, client.cancel, client.cancel_batch)


@click.command()
@click.option("--seconds", type=float, help="Stop after this many seconds  [default: on Ctrl-C]")
@url_option
@json_option
def watch(seconds: float | None, url: str | None, as_json: bool) -> None:
    """Watch the queue, the workers and the last digits, live.

    On a terminal one screen, otherwise a line each second. Ctrl-C ends it.

    \b
    digitq watch
    digitq watch --json | jq .queued
    """
    try:
        address, api_key = server_and_key(url, Settings.from_env().api_key)
        Watch(address, as_json, authorization(api_key)).run(seconds)
    except KeyboardInterrupt:
        sys.exit(0)
