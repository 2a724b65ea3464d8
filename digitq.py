"""The command line. The only file that knows both sides; each command imports its side when it is asked for.

stdout is data, stderr is messages. Exit 0 ok, 1 a prediction failed, 2 usage or settings, 3 unavailable, 4 timeout.
"""

from __future__ import annotations

import importlib
import json
import logging
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import click

from shared import VERSION
from shared.errors import DigitqError, ModelError, PredictionFailed, SettingsError
from shared.settings import Settings

if TYPE_CHECKING:
    from shared.prediction import Prediction

FAILED, USAGE, UNAVAILABLE, TIMEOUT, BAD_MODEL = 1, 2, 3, 4, 78
#: Uploads under way at once in `digitq submit`.
PARALLEL = 16


def exit_code(error: DigitqError) -> int:
    """What a shell learns of an error; all that is answered 503 is `unavailable`."""
    codes = {SettingsError: USAGE, PredictionFailed: FAILED, ModelError: BAD_MODEL}
    return UNAVAILABLE if error.status == 503 else codes.get(type(error), FAILED)


@contextmanager
def exit_codes() -> Iterator[None]:
    """Every error that digitq raises on purpose becomes a line on stderr and its exit code."""
    try:
        yield
    except DigitqError as error:
        detail = f": {error}" if str(error) != error.title else ""
        click.echo(f"digitq: {error.title}{detail}", err=True)
        sys.exit(exit_code(error))
    except TimeoutError as error:
        click.echo(f"digitq: {error}", err=True)
        sys.exit(TIMEOUT)


class LazyGroup(click.Group):
    """Commands, some of which live with the side they need and are imported on first use."""

    elsewhere: ClassVar = {"train": "worker.training.cli", "evaluate": "worker.training.cli", "explain": "worker.cli"}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, sorted, without importing anything."""
        return sorted({*super().list_commands(ctx), *self.elsewhere})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported if it lives elsewhere."""
        if cmd_name in self.elsewhere:
            return getattr(importlib.import_module(self.elsewhere[cmd_name]), cmd_name)  # type: ignore[no-any-return]
        return super().get_command(ctx, cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command; its errors end as exit codes."""
        with exit_codes():
            return super().invoke(ctx)


def configure_logging(settings: Settings) -> None:
    """One line per event on stderr, as text or as JSON."""
    text = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else logging.Formatter(text))
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    logging.getLogger("rq").setLevel(logging.WARNING)


class JsonFormatter(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's time, level, logger and message, and its traceback if it has one."""
        fields = {"time": self.formatTime(record), "level": record.levelname, "logger": record.name,
                  "message": record.getMessage()}  # fmt: skip
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION)
def main() -> None:
    """Handwritten digits, through a durable queue, in batches.

    \b
    digitq up                         everything on this machine
    digitq submit photo.jpg --wait    hand in a picture and wait for its digit
    """


# ---------------------------------------------------------------------- serving


@main.command()
@click.option("--host", help="Address to bind  [DIGITQ_HOST]")
@click.option("--port", type=click.IntRange(1, 65535), help="Port to bind  [DIGITQ_PORT]")
@click.option("--workers", default=2, show_default=True, help="Worker processes")
def up(host: str | None, port: int | None, workers: int) -> None:
    """Start the embedded server (unless REDIS_URL is set), the web process and the workers; Ctrl-C stops them."""
    from shared.home import run

    sys.exit(run(Settings.from_env(), host, port, workers))


@main.command()
def web() -> None:
    """Run the web process alone."""
    from producer.server import serve

    settings = Settings.from_env()
    configure_logging(settings)
    serve(settings)


@main.command()
@click.option("--burst", is_flag=True, help="Stop when the queues are empty")
def worker(burst: bool) -> None:
    """Run one worker process."""
    from worker.service import serve

    settings = Settings.from_env()
    configure_logging(settings)
    serve(settings, burst)


@main.command()
@click.argument("part", type=click.Choice(["web", "worker"]))
def healthcheck(part: str) -> None:
    """Exit 0 if this machine's web process or worker is healthy (for containers)."""
    from shared.home import is_healthy

    if not is_healthy(part, Settings.from_env()):
        click.echo(f"digitq: the {part} is not healthy", err=True)
        sys.exit(UNAVAILABLE)


@main.command()
@click.option("--json", "as_json", is_flag=True)
def config(as_json: bool) -> None:
    """Print the effective settings, secrets masked."""
    table = Settings.from_env().table()
    lines = json.dumps(table, indent=2) if as_json else "\n".join(f"{name}={value}" for name, value in table.items())
    click.echo(lines)


# ---------------------------------------------------------------------- using

url_option = click.option("--url", default="http://127.0.0.1:8000", show_default=True, help="Where digitq runs")
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object per line")


@main.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--wait", is_flag=True, help="Wait for the digits")
@click.option("--timeout", default=60.0, show_default=True, help="Seconds to wait for each picture")
@click.option("--priority", type=click.Choice(["high", "normal", "low"]), default="normal", show_default=True)
@url_option
@json_option
def submit(files: tuple[Path, ...], wait: bool, timeout: float, priority: str, url: str, as_json: bool) -> None:
    """Hand in pictures; results come in the order of the files.

    \b
    digitq submit photo.jpg --wait
    digitq submit scans/*.png --wait --json | jq .digit
    """
    from producer.client import Client

    client = Client(url)
    worst = 0

    def one(path: Path) -> Prediction | DigitqError | TimeoutError:
        try:
            prediction = client.submit(path.read_bytes(), path.name, priority=priority)
            return client.get(prediction.id, wait=timeout) if wait else prediction
        except (DigitqError, TimeoutError) as error:
            return error

    with ThreadPoolExecutor(PARALLEL) as pool:
        results = pool.map(one, files)
        few = len(files) < 2
        with click.progressbar(results, length=len(files), label="pictures", file=sys.stderr, hidden=few) as bar:
            for path, result in zip(files, bar, strict=True):
                worst = max(worst, report(path, result, wait, as_json))
    sys.exit(worst)


def report(path: Path, result: Prediction | DigitqError | TimeoutError, wait: bool, as_json: bool) -> int:
    """Prints one result; returns its exit code."""
    if isinstance(result, DigitqError | TimeoutError):
        error = {"code": getattr(result, "code", "timeout"), "message": str(result)}
        if as_json:
            click.echo(json.dumps({"filename": path.name, "state": None, "error": error}))
        click.echo(f"{path}: {error['code']}: {result}", err=True)
        return exit_code(result) if isinstance(result, DigitqError) else TIMEOUT
    click.echo(json.dumps(result.to_json()) if as_json else line(result, str(path)))
    if wait and not result.state.terminal:
        return TIMEOUT
    return FAILED if result.state.terminal and result.digit is None else 0


def line(prediction: Prediction, name: str) -> str:
    """One prediction as a line for people."""
    if prediction.digit is not None and prediction.confidence is not None:
        return f"{name}: {prediction.digit}  ({prediction.confidence:.1%}, {prediction.decision})"
    error = f"  {prediction.error['code']}: {prediction.error['message']}" if prediction.error else ""
    return f"{name}: {prediction.state.value}  {prediction.id}{error}"


@main.command()
@click.argument("id")
@click.option("--wait", default=0.0, help="Seconds to wait for the end")
@url_option
@json_option
def status(id: str, wait: float, url: str, as_json: bool) -> None:
    """Print a prediction."""
    from producer.client import Client

    prediction = Client(url).get(id, wait)
    click.echo(json.dumps(prediction.to_json()) if as_json else line(prediction, prediction.filename or id))
    if wait and not prediction.state.terminal:
        sys.exit(TIMEOUT)
    sys.exit(FAILED if prediction.state.terminal and prediction.digit is None else 0)


@main.command()
@click.argument("id")
@url_option
def cancel(id: str, url: str) -> None:
    """Take a waiting picture back, or forget one that has ended."""
    from producer.client import Client

    Client(url).cancel(id)


if __name__ == "__main__":
    main()
