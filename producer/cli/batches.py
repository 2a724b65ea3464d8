"""The command `batches`."""

from __future__ import annotations

import json
import sys
from datetime import datetime

import click

from producer.cli.output import batch_line
from producer.client.http_requests import server_and_key
from producer.client.sync_clients import Client
from shared.batch import Batch
from shared.settings import Settings

#: Most batches that the server lists at once.
PAGE = 100


@click.command()
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many to list")
@click.option("--url", help="URL of the server  [default: DIGITQ_URL, or http://127.0.0.1:8000]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line")
def batches(limit: int, url: str | None, as_json: bool) -> None:
    """List the batches, newest first.

    \b
    digitq batches
    digitq status ID --results    the digits of one of them
    """
    cursor, left = None, limit
    with Client(*server_and_key(url, Settings.from_env().api_key)) as client:
        while left:
            page, cursor = client.list_batches(min(left, PAGE), cursor)
            for batch in page:
                click.echo(json.dumps(batch.to_json()) if as_json else _line(batch))
            left -= len(page)
            if cursor is None:
                break
    if left == limit:
        click.echo("digitq: there are no batches", err=True)
    sys.exit(0)


def _line(batch: Batch) -> str:
    """Return when a batch was submitted, in local time, with its state and its name."""
    at = datetime.fromtimestamp(batch.submitted_at or 0).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return f"{at}  {batch_line(batch)}" + (f"  {batch.filename}" if batch.filename else "")
