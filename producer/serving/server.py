"""The web process: granian in front of the application."""

from __future__ import annotations

import logging
import os
import resource
import signal
import threading
from asyncio import AbstractEventLoop
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

from flask import Flask
from granian.constants import HTTPModes, Interfaces, Loops
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server import MPServer

from producer.middleware.access import read_keys
from producer.middleware.trace import request_id
from producer.serving.express import Lanes
from producer.web.app import create_app
from shared.runtime import garbage_collector, logs, tracing
from shared.settings import Settings

log = logging.getLogger("digitq.web")

#: Seconds that requests in hand get when the process is told to stop; long polls would take thirty.
STOP_SECONDS = 3
#: Connections that a process has at most at a time; more wait to be accepted.
CONNECTIONS = 8192
#: Descriptors for all but connections; each of those may need a second one, for its body or its stream.
DESCRIPTORS = 512
#: What macOS allows at least, whatever its limit says.
MACOS_DESCRIPTORS = 10_240
#: Seconds for the head of a request, from the connection's first or the last answer's end; silence is closed after it.
HEAD_SECONDS = 10
#: Bytes that are kept of what a connection has sent or is to get.
BUFFER_BYTES = 16 * 1024
#: How often a process looks whether the one that started it is still there, and whether a signal was missed.
ORPHAN_SECONDS = 1.0


class Process(Lanes):
    """The application in a process of the server's."""

    def __rsgi_init__(self, loop: AbstractEventLoop) -> None:
        super().__rsgi_init__(loop)
        told: SimpleQueue[int] = SimpleQueue()
        for number in (signal.SIGINT, signal.SIGTERM):
            # The loop has its own way of noticing, by which the server stops: this is beside it.
            signal.signal(number, lambda number, _: told.put(number))
        threading.Thread(target=stop_when, args=(told, self.app, os.getppid()), name="stop", daemon=True).start()
        self.app.extensions["digitq_webhooks"].start()
        check = self.app.extensions["digitq_store"].server
        threading.Thread(target=check.watch, name="server-check", daemon=True).start()
        garbage_collector.tune()


def stop_when(told: SimpleQueue[int], app: Flask, parent: int) -> None:
    """Ends streams and waits at once when the process is told to stop.

    A process whose parent was killed stops too: it would keep the port, beside its successor.
    """
    while True:
        try:
            told.get(timeout=ORPHAN_SECONDS)
            break
        except Empty:
            if os.getppid() != parent:
                os.kill(os.getpid(), signal.SIGTERM)
                last = threading.Timer(STOP_SECONDS, os._exit, (1,))  # nobody is left who would kill it
                last.daemon = True
                last.start()
    app.extensions["digitq_events"].stop()
    app.extensions["digitq_waiters"].stop()
    app.extensions["digitq_webhooks"].stop()


def application() -> Process:
    """What the server calls, in each of its processes."""
    settings = Settings.from_env()
    logs.configure(settings, request_id)
    tracing.start("digitq-web")
    return Process(create_app(), settings.web_threads)


def raise_descriptors() -> int:
    """How many files this process may open, once it may open as many as it needs, or as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (2 * CONNECTIONS + DESCRIPTORS, MACOS_DESCRIPTORS):
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        if soft == resource.RLIM_INFINITY or soft >= most:
            break
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            return most
    return 2 * CONNECTIONS + DESCRIPTORS if soft == resource.RLIM_INFINITY else soft


def connections_of(descriptors: int) -> int:
    """How many connections a process with so many descriptors may have: a server out of them answers nobody."""
    return max(64, min(CONNECTIONS, (descriptors - DESCRIPTORS) // 2))


class Interrupt(threading.Event):
    """An event whose waiter also notices signals that the kernel gives to another thread, as after SIGSTOP and SIGCONT.

    Python runs their handlers on the main thread alone, and only once that is awake.
    """

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until the event is set, or for so many seconds; returns whether it is set."""
        while timeout is None and not super().wait(ORPHAN_SECONDS):
            pass
        return super().wait(timeout)


class WebServer(MPServer):
    """granian's server, but it also replaces a process that is killed twice within seconds.

    granian takes that for a crash loop and ends. Here only a process that ends by itself counts as crashed.
    """

    def _respawn_workers(self, workers: list[int], *rest: Any, **options: Any) -> None:
        killed = [number for number in workers if self.wrks[number].inner.exitcode == -signal.SIGKILL]
        super()._respawn_workers(workers, *rest, **options)
        for number in killed:
            self.respawned_wrks.pop(number, None)


def serve(settings: Settings) -> None:
    """Serves until told to stop. A process that dies is started again by granian itself. Raises SettingsError."""
    settings.check_exposed()
    list(read_keys(settings))  # a mistake in them is found before a process is started
    descriptors = raise_descriptors()
    connections = connections_of(descriptors)
    if connections < CONNECTIONS:
        log.warning("%d open files are allowed (ulimit -Hn): %d connections at a time", descriptors, connections)
    server = WebServer(
        "producer.serving.server:application",
        factory=True,
        address=settings.host,
        port=settings.port,
        interface=Interfaces.RSGI,
        loop=Loops.asyncio,
        workers=1,
        http=HTTPModes.http1,  # HTTP/2 has no limit on silence, and joins headers without end
        http1_settings=HTTP1Settings(header_read_timeout=HEAD_SECONDS * 1000, max_buffer_size=BUFFER_BYTES),
        backlog=connections,
        backpressure=connections,
        respawn_failed_workers=True,
        workers_kill_timeout=STOP_SECONDS,
        websockets=False,
        log_level=LogLevels.error,
    )
    server.main_loop_interrupt = Interrupt()
    server.serve()
