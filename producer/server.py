"""The web process: granian in front of the application."""

from __future__ import annotations

import os
import signal
import socket
import threading

from flask import Flask
from granian.constants import Interfaces
from granian.log import LogLevels
from granian.server import Server

from producer.access import read_keys
from producer.app import create_app
from producer.trace import request_id
from shared import collector, logs, tracing
from shared.settings import Settings

#: Seconds that requests in hand get when the process is told to stop; long polls would take thirty.
STOP_SECONDS = 3
#: How often a process looks whether the one that started it is still there.
ORPHAN_SECONDS = 1.0


def application() -> Flask:
    """The application in a process of the server's, told when the process is to stop: streams and waits end at once.

    The server sets its own signal handlers after this; the wake-up descriptor tells of a signal beside them. A process
    whose parent was killed stops too: it would keep the port, beside its successor.
    """
    logs.configure(Settings.from_env(), request_id)
    tracing.start("digitq-web")
    app, parent = create_app(), os.getppid()
    reader, writer = socket.socketpair()
    reader.settimeout(ORPHAN_SECONDS)
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)

    def watch() -> None:
        stopped = False
        while not stopped:
            try:
                stopped = reader.recv(1)[0] in (signal.SIGINT, signal.SIGTERM)
            except TimeoutError:
                if os.getppid() != parent:
                    os.kill(os.getpid(), signal.SIGTERM)
        app.extensions["digitq_events"].stop()
        app.extensions["digitq_waiters"].stop()
        app.extensions["digitq_webhooks"].stop()

    threading.Thread(target=watch, name="stop", daemon=True).start()
    app.extensions["digitq_webhooks"].start()
    app.extensions["digitq_stop"] = reader, writer  # open as long as the application lives: a signal may come twice
    collector.settle()
    return app


def serve(settings: Settings) -> None:
    """Serves until told to stop. A process that dies is started again by granian itself. Raises SettingsError."""
    settings.check_exposed()
    list(read_keys(settings))  # a mistake in them is found before a process is started
    Server(
        "producer.server:application",
        factory=True,
        address=settings.host,
        port=settings.port,
        interface=Interfaces.WSGI,
        workers=1,
        blocking_threads=settings.web_threads,
        respawn_failed_workers=True,
        workers_kill_timeout=STOP_SECONDS,
        websockets=False,
        # Its only warning is that we have many threads: most of them wait for Redis.
        log_level=LogLevels.error,
    ).serve()
