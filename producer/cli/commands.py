"""The commands that hand pictures in and look after them: submit, status, cancel, watch."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from producer.cli.bulk import Bulk
from producer.cli.printing import Format, batch_code, batch_line, code_of, head, line, show, show_rows
from producer.cli.sending import Sender
from producer.cli.sources import Source, expanded
from producer.cli.watch import Watch, load_lines
from producer.client import journal
from producer.client.http import Client, authorization
from producer.client.many import in_order
from producer.client.wire import target
from shared.batch import Batch
from shared.errors import Expired, Lost, NotFound
from shared.prediction import Prediction
from shared.settings import Settings

#: What a shell makes of Ctrl-C.
INTERRUPTED = 130

url_option = click.option("--url", help="Where digitq runs  [default: DIGITQ_URL, or http://127.0.0.1:8000]")
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object per line")
csv_option = click.option("--csv", "as_csv", is_flag=True, help="CSV with a header row; a file begins with a BOM")
strict_option = click.option("--strict", is_flag=True, help="Exit 1 if a digit is not accepted (review, reject)")


def _client(url: str | None) -> Client:
    return Client(*target(url, Settings.from_env().api_key))


def _format(as_json: bool, as_csv: bool) -> Format:
    if as_json and as_csv:
        raise click.UsageError("--json or --csv, not both")
    return "json" if as_json else "csv" if as_csv else "text"


@click.command()
@click.argument("files", nargs=-1, required=True)
@click.option("--wait", is_flag=True, help="Wait for the digits")
@click.option("--timeout", default=60.0, show_default=True, help="Seconds to wait for each picture, or for the batch")
@click.option("--priority", type=click.Choice(["high", "normal", "low"]), help="[default: normal; low for a batch]")
@click.option("--labels", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="IDX file of labels")
@click.option("--journal", "kept", type=click.Path(dir_okay=False, path_type=Path), help="File to resume from")
@strict_option
@url_option
@json_option
@csv_option
def submit(
    files: tuple[str, ...], wait: bool, timeout: float, priority: str | None, labels: Path | None, kept: Path | None,
    strict: bool, url: str | None, as_json: bool, as_csv: bool,
) -> None:  # fmt: skip
    """Submit pictures, and print their digits.

    The results are in the order of the files. FILES are pictures, folders (searched for pictures), patterns, or - for
    the standard input. An IDX file or a zip is a batch, and goes alone.

    With --journal, the same command goes on after any crash where it was: nothing is handed in twice, and what has
    ended is not sent again.

    \b
    With --wait it prints for each picture
              a line: name and digit, or ? if rejected
    --json    an object, as the API answers it
    --csv     a row

    In --json and --csv `digit` is the best guess whatever the `decision`: look at both, or use --strict. A batch ends
    with a line of its id and totals, on stderr with --json, --csv and --labels. With --labels, text and --json have one
    summary in place of the pictures: total, succeeded, failed, accuracy, images_per_second.

    \b
    digitq submit photo.jpg --wait
    digitq submit scans/ 'more/**/*.png' --wait --json | jq 'select(.decision == "accept").digit'
    digitq submit scans.zip --wait --strict
    curl -s https://example.org/4.png | digitq submit - --wait
    digitq submit scans/ --wait --journal scans.jsonl --csv > digits.csv
    digitq submit t10k-images-idx3-ubyte.gz --labels t10k-labels-idx1-ubyte.gz --wait
    """
    format, sources, patience = _format(as_json, as_csv), expanded(files), timeout if wait else None
    alone = len(sources) == 1 and sources[0].is_batch()
    if labels and not alone:
        raise click.UsageError("--labels belongs to one IDX file")
    if strict and not wait:
        raise click.UsageError("--strict needs --wait")
    with journal.opened(kept) as book, _client(url) as client, interrupted_at_once():
        if alone:
            sys.exit(Bulk(client, book, priority or "low", patience, format, strict).send(sources[0], labels))
        sys.exit(send(Sender(client, book, priority or "normal", patience), sources, format, strict))


class interrupted_at_once:  # noqa: N801  # used like a function
    """Ctrl-C ends the process, and does not wait for what its threads wait for. What was noted is on the disk."""

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is KeyboardInterrupt:
            click.echo("digitq: interrupted", err=True)
            sys.stdout.flush()
            os._exit(INTERRUPTED)


def send(sender: Sender, sources: list[Source], format: Format, strict: bool) -> int:
    """Hands in pictures and prints what became of each; returns the worst exit code."""
    worst, wait = 0, sender.patience is not None
    hidden = len(sources) < 2 or not sys.stderr.isatty() or sys.stdout.isatty()
    head(format)
    results = in_order(sender.send, sources)
    with click.progressbar(results, length=len(sources), label="pictures", file=sys.stderr, hidden=hidden) as bar:
        for source, result in zip(sources, bar, strict=True):
            show(source.label, result, format)
            worst = max(worst, code_of(result, wait, strict))
    return worst


def _either(id: str, prediction: Callable[[str], Any], batch: Callable[[str], Any]) -> Any:
    """What the first makes of the id, or the second if it is a batch's. Raises NotFound, Lost, Expired."""
    try:
        return prediction(id)
    except (NotFound, Lost, Expired) as error:
        try:
            return batch(id)
        except (NotFound, Lost, Expired) as other:
            # Only the side that it belonged to knows that it was forgotten.
            raise (other if isinstance(other, NotFound) and not isinstance(error, NotFound) else error) from None


@click.command()
@click.argument("id", required=False)
@click.option("--wait", default=0.0, help="Seconds to wait for the end")
@click.option("--results", is_flag=True, help="Of a batch: print each picture too")
@url_option
@json_option
def status(id: str | None, wait: float, results: bool, url: str | None, as_json: bool) -> None:
    """Show a prediction, a batch, or how busy the service is.

    Without ID: the queue, the workers, and how many workers it takes.

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
        found: Prediction | Batch = _either(id, lambda id: client.get(id, wait), lambda id: client.get_batch(id, wait))
        if results:
            if not isinstance(found, Batch):
                raise click.UsageError("--results belongs to a batch")
            show_rows(list(client.results(id)), _format(as_json, False))
            click.echo(batch_line(found), err=as_json)
            sys.exit(batch_code(found, wait > 0))
    if as_json:
        click.echo(json.dumps(found.to_json()))
    elif isinstance(found, Batch):
        click.echo(batch_line(found))
    else:
        click.echo(line(found, found.filename or id))
    sys.exit(batch_code(found, wait > 0) if isinstance(found, Batch) else code_of(found, wait > 0))


@click.command()
@click.argument("id")
@url_option
def cancel(id: str, url: str | None) -> None:
    """Cancel a prediction or a batch, or delete an ended one.

    \b
    digitq cancel ID
    """
    with _client(url) as client:
        _either(id, client.cancel, client.cancel_batch)


@click.command()
@click.option("--seconds", type=float, help="Stop after so many seconds  [default: on Ctrl-C]")
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
        address, api_key = target(url, Settings.from_env().api_key)
        Watch(address, as_json, authorization(api_key)).run(seconds)
    except KeyboardInterrupt:
        sys.exit(0)
