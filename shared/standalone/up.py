"""Runs `digitq up`: the embedded server, the web process and the workers, supervised on one machine."""

from __future__ import annotations

import os
import sys
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path

from shared import ROOT
from shared.addresses import without_password
from shared.errors import RedisUnavailable, SettingsError
from shared.redis_server.server_check import read_server
from shared.redis_server.server_findings import ERROR
from shared.runtime.extras import require
from shared.settings import Settings, child_environment, server_is_given
from shared.standalone.console import Console, reserve_standard_streams
from shared.standalone.embedded_server import server_binary, supervised_server
from shared.standalone.port import check_port
from shared.standalone.process import Process
from shared.standalone.supervisor import Supervisor
from shared.state_dir import locked
from shared.store import Store, connect

#: Seconds that web and workers get to finish their work.
STOP_SECONDS = 15.0


def run(settings: Settings, host: str | None, port: int | None, workers: int, parent: int = 0) -> int:
    """Start everything, print a message when it is ready, supervise it until a shutdown; return the exit status.

    The end of the process `parent` shuts everything down too; 0 for none. Raises CannotStart, MissingPart,
    SettingsError or RedisUnavailable.
    """
    reserve_standard_streams()
    host, port = host or settings.host, port or settings.port
    _check_parts()
    replace(settings, host=host).check_exposed()
    with ExitStack() as stack:
        supervisor = Supervisor(Console(as_json=settings.log_format == "json"), parent)
        stack.callback(supervisor.close)
        supervisor.stop_on_signals()
        url, server = settings.redis_url, None
        if server_is_given():
            check_port(host, port)
            _check_server(settings)
        else:
            held = stack.enter_context(locked(settings.state_dir))
            check_port(host, port)
            bytes_allowed = settings.embedded_maxmemory()
            server, url = stack.enter_context(supervised_server(supervisor, settings.state_dir, held, bytes_allowed))
            # Workers that were killed still count as alive: without this, /readyz would report them.
            Store(connect(url), settings).forget_workers()
        web, fleet = _processes(url, host, port, workers)
        try:
            for process in (web, *fleet):
                supervisor.start(process)
            code = _serve(supervisor, server, web, fleet, f"http://{host}:{port}{settings.root_path}", url)
        finally:
            told = "stopping; Ctrl-C once more kills what has not stopped" if supervisor.stopping else ""
            supervisor.stop([web, *fleet], STOP_SECONDS, told)
    return code


def _serve(
    supervisor: Supervisor, server: Process | None, web: Process, fleet: Sequence[Process], url: str, redis_url: str
) -> int:
    """Supervise everything, and print a message when it is ready; return the exit status at a shutdown.

    That is on a signal, when web or all workers have failed for good, or when an operator has stopped all of them.
    """
    ready_said = False
    while not supervisor.stopping:
        supervisor.tend(0.2)
        if server and server.code is not None:
            raise RedisUnavailable("the embedded server ends again and again")
        for role in ([web], fleet):
            codes = [process.code for process in role if process.code is not None]
            if len(codes) == len(role) and any(codes):
                return next(code for code in codes if code)
        if all(process.code is not None for process in (web, *fleet)):
            return 0
        if not ready_said and http_ok(f"{url}/{'readyz' if fleet else 'healthz'}"):
            text = ready(url, redis_url, with_workers=bool(fleet))
            supervisor.console.announce(text, url=url, redis_url=without_password(redis_url))
            ready_said = True
    return 0


def _processes(redis_url: str, host: str, port: int, workers: int) -> tuple[Process, list[Process]]:
    """Return the web process and the workers."""
    env = environment(REDIS_URL=redis_url, DIGITQ_HOST=host, DIGITQ_PORT=str(port))
    digitq = [sys.executable, "-P", "-m", "digitq"]
    fleet = [Process(f"worker.{number}", [*digitq, "worker"], env) for number in range(1, workers + 1)]
    return Process("web", [*digitq, "web", "--take-over"], env), fleet


def environment(**changes: str) -> dict[str, str]:
    """Return the environment of web and workers, in which Python imports this digitq from any folder."""
    env = child_environment(**changes)
    return {**env, "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), env.get("PYTHONPATH"))))}


def _check_parts() -> None:
    """Raise MissingPart, before anything is created or started, if a part is not installed."""
    require("worker")
    if not server_is_given():
        server_binary()


def _check_server(settings: Settings) -> None:
    """Raise SettingsError if the server at REDIS_URL is configured to lose accepted pictures."""
    with connect(settings.redis_url) as client, suppress(RedisUnavailable):  # it may start later
        for one in read_server(client, settings):
            if one.level == ERROR:
                raise SettingsError(f"REDIS_URL: {one}")


def ready(url: str, redis_url: str, with_workers: bool = True) -> str:
    """Return the message of a successful start: the URL, a command to try, and the URL of Redis."""
    redis_line = f"  REDIS_URL {without_password(redis_url)}"
    if not with_workers:
        return f"digitq is ready at {url}\n  no worker runs: pictures wait until one is started\n{redis_line}"
    command = Path(sys.executable).parent / "digitq"
    if command.is_relative_to(Path.cwd()):
        command = command.relative_to(Path.cwd())
    elsewhere = "" if url == Settings().client_url() else f" --url {url}"
    example = "examples/seven.png" if Path("examples/seven.png").exists() else "PICTURE"
    return f"digitq is ready at {url}\n  try it    {command} submit {example} --wait{elsewhere}\n{redis_line}"


def http_ok(url: str) -> bool:
    """Tell whether a URL of this machine answers 200 within two seconds, without a proxy."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=2) as response:
            return bool(response.status == 200)
    except (OSError, HTTPException):
        return False
