"""The command line. The only file that knows both sides; each command imports its side when it is asked for.

stdout is data, stderr is messages. Exit 0 ok, 1 a prediction failed, 2 usage or settings, 3 unavailable, 4 timeout.
"""

from __future__ import annotations

import importlib
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import click

from shared import NAMESPACE, VERSION
from shared.addresses import without_password
from shared.errors import (
    CannotStart,
    DigitqError,
    MissingPart,
    ModelError,
    PredictionFailed,
    SettingsError,
    Unauthorized,
)
from shared.runtime import extras, logs
from shared.settings import Settings, server_is_given
from shared.state_dir import running_server, socket_path

FAILED, USAGE, UNAVAILABLE, TIMEOUT, BAD_MODEL = 1, 2, 3, 4, 78


def exit_code(error: DigitqError) -> int:
    """Return the exit code of an error; temporary errors are `unavailable`."""
    codes: dict[type[DigitqError], int] = {
        SettingsError: USAGE, CannotStart: USAGE, MissingPart: USAGE, PredictionFailed: FAILED, ModelError: BAD_MODEL,
    }  # fmt: skip
    return UNAVAILABLE if error.status in (429, 503) else codes.get(type(error), FAILED)


def told(error: DigitqError) -> str:
    """Return the line for stderr: the title, and the message where it says more."""
    if isinstance(error, Unauthorized):
        return f"digitq: {error.title}. Set DIGITQ_API_KEY to a key that this server knows."
    text = str(error) if str(error).startswith(error.title) else f"{error.title}: {error}"
    return text if text.startswith("digitq ") else f"digitq: {text}"


@contextmanager
def exit_codes() -> Iterator[None]:
    """Every error that digitq raises on purpose becomes a line on stderr and its exit code."""
    try:
        yield
    except DigitqError as error:
        logs.report_failure(told(error))
        sys.exit(exit_code(error))
    except TimeoutError as error:
        logs.report_failure(f"digitq: {error}")
        sys.exit(TIMEOUT)


class LazyGroup(click.Group):
    """Commands, some of which live with the side they need and are imported on first use."""

    elsewhere: ClassVar = {
        "submit": "producer.cli.commands",
        "status": "producer.cli.commands",
        "cancel": "producer.cli.commands",
        "watch": "producer.cli.commands",
        "batches": "producer.cli.batches",
        "train": "worker.training.cli",
        "evaluate": "worker.training.cli",
        "learn": "worker.training.learning.cli",
        "explain": "worker.cli",
        "promote": "worker.cli",
        "verify": "verify.cli",
    }

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, sorted, without importing anything."""
        return sorted({*super().list_commands(ctx), *self.elsewhere})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported if it lives elsewhere; None if that side is not here, as in the images."""
        if cmd_name not in self.elsewhere:
            return super().get_command(ctx, cmd_name)
        home = NAMESPACE + self.elsewhere[cmd_name]
        try:
            return getattr(importlib.import_module(home), cmd_name)  # type: ignore[no-any-return]
        except ModuleNotFoundError as error:
            if error.name and (home == error.name or home.startswith(error.name + ".")):
                return None
            raise

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; its errors end as exit codes."""
        with exit_codes():
            return super().invoke(ctx)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION)
def main() -> None:
    """Handwritten digits, through a durable queue, in batches.

    \b
    digitq up                         everything on this machine
    digitq submit photo.jpg --wait    submit a picture and wait for its digit
    digitq watch                      see the queue and the workers, live
    """


# ---------------------------------------------------------------------- serving


@main.command()
@click.option("--host", help="Address to bind  [DIGITQ_HOST]")
@click.option("--port", type=click.IntRange(1, 65535), help="Port to bind  [DIGITQ_PORT]")
@click.option("--workers", type=click.IntRange(0), default=2, show_default=True, help="Worker processes")
@click.option("--parent", type=click.IntRange(1), help="Stop also when this process, which started it, is gone")
def up(host: str | None, port: int | None, workers: int, parent: int | None) -> None:
    """Start everything on this machine; Ctrl-C stops it.

    Runs an embedded server (unless REDIS_URL is set), the web process and the workers. A process that dies is
    restarted; one stopped with SIGTERM is not.
    """
    from shared.standalone.up import run

    settings = Settings.from_env()
    logs.configure(settings)
    sys.exit(run(settings, host, port, workers, parent or 0))


@main.command()
@click.option("--take-over", is_flag=True, help="Start although a process listens at the port: it is about to stop")
def web(take_over: bool) -> None:
    """Run the web process alone."""
    from producer.serving.server import serve

    settings = Settings.from_env()
    logs.configure(settings)
    serve(settings, take_over)


@main.command()
@click.option("--burst", is_flag=True, help="Stop when the queues are empty")
def worker(burst: bool) -> None:
    """Run one worker process."""
    settings = Settings.from_env()
    logs.configure(settings)
    extras.require("worker")
    from worker.service import serve

    serve(settings, burst)


@main.command()
@click.argument("part", type=click.Choice(["web", "worker"]))
def healthcheck(part: str) -> None:
    """Exit 0 if the web process or a worker here is healthy."""
    from shared.runtime.health import is_healthy

    if not is_healthy(part, Settings.from_env()):
        click.echo(f"digitq: the {part} is not healthy", err=True)
        sys.exit(UNAVAILABLE)


@main.command()
@click.option("--json", "as_json", is_flag=True)
@click.option("--check", is_flag=True, help="Say what is wrong with the server that REDIS_URL names instead.")
def config(as_json: bool, check: bool) -> None:
    """Print the effective settings, secrets masked.

    With --check it prints a line for each thing to know about Redis: error (digitq accepts nothing), warning (accepted
    pictures may be lost) or note, what it is, and what to do. Exit 0 if there are notes at most, 2 if there is more, 3
    if no server answers.
    """
    settings = Settings.from_env()
    if check:
        sys.exit(_check(settings, as_json))
    table = settings.table()
    lines = json.dumps(table, indent=2) if as_json else "\n".join(f"{name}={value}" for name, value in table.items())
    click.echo(lines)
    if not server_is_given():
        click.echo(f"digitq: REDIS_URL is not set: {_default_server(settings)}", err=True)


def _default_server(settings: Settings) -> str:
    """Say whose server the effective URL names where none is set."""
    if running_server(settings.state_dir):
        return "this is the server of the `digitq up` that runs here, and ends with it"
    own = f"unix://{socket_path(settings.state_dir)}"
    return f"no `digitq up` runs in this folder; one that is started here has its own server, {own}"


def _check(settings: Settings, as_json: bool) -> int:
    from shared.redis_server.server_report import loses, report

    logging.getLogger("digitq").setLevel(logging.CRITICAL)  # what it would log is what it prints
    found, address = report(settings), without_password(settings.redis_url)
    if as_json:
        click.echo(json.dumps({"redis": address, "findings": [one.to_json() for one in found]}, indent=2))
    else:
        for one in found:
            click.echo(f"{one.level} {one.code}: {one}")
        click.echo(f"digitq: {address}: {len(found)} findings", err=True)
    return USAGE if loses(found) else 0


@main.command(context_settings={"ignore_unknown_options": True}, add_help_option=False)
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def bench(words: tuple[str, ...]) -> None:
    """Measure digitq beside its alternatives (needs a checkout)."""
    from shared import ROOT

    extras.require_checkout(ROOT, ["benchmarks/cli.py"], "There it is `make bench`.")
    extras.require("worker")
    sys.path.insert(0, str(ROOT))
    importlib.import_module("benchmarks.cli").bench.main(list(words), prog_name="digitq bench", standalone_mode=False)
