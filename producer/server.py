"""The web process: granian in front of the application."""

from __future__ import annotations

import os
import signal
import threading
from asyncio import AbstractEventLoop
from queue import Empty, SimpleQueue

from flask import Flask
from granian.constants import Interfaces, Loops
from granian.log import LogLevels
from granian.server import Server

from producer.access import read_keys
from producer.app import create_app
from producer.express import Lanes
from producer.trace import request_id
from shared import collector, logs, tracing
from shared.settings import Settings

#: Seconds that requests in hand get when the process is told to stop; long polls would take thirty.
STOP_SECONDS = 3
#: Connections that a process has at a time; more wait to be accepted.
CONNECTIONS = 1024
#: How often a process looks whether the one that started it is still there.
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
        collector.settle()


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
    app.extensions["digitq_events"].stop()
    app.extensions["digitq_waiters"].stop()
    app.extensions["digitq_webhooks"].stop()


def application() -> Process:
    """What the server calls, in each of its processes."""
    settings = Settings.from_env()
    logs.configure(settings, request_id)
    tracing.start("digitq-web")
    return Process(create_app(), settings.web_threads)


def serve(settings: Settings) -> None:
    """Serves until told to stop. A process that dies is started again by granian itself. Raises SettingsError."""
    settings.check_exposed()
    list(read_keys(settings))  # a mistake in them is found before a process is started
    Server(
        "producer.server:application",
        factory=True,
        address=settings.host,
        port=settings.port,
        interface=Interfaces.RSGI,
        loop=Loops.asyncio,
        workers=1,
        backpressure=CONNECTIONS,
        respawn_failed_workers=True,
        workers_kill_timeout=STOP_SECONDS,
        websockets=False,
        log_level=LogLevels.error,
    ).serve()
