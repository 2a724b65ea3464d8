"""Runs granian in front of the application, in processes that stop with their parent."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import resource
import signal
import threading
from asyncio import AbstractEventLoop
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from granian.constants import HTTPModes, Interfaces, Loops, TaskImpl
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server import MPServer

from producer.middleware.access import read_keys
from shared import NAMESPACE
from shared.runtime import garbage_collector
from shared.settings import Settings
from shared.standalone.port import check_port

if TYPE_CHECKING:
    from producer.serving.adapter import Application

log = logging.getLogger("digitq.web")

#: Makes the application in each process. By name: its package is above this one, and this process needs none of it.
APPLICATION = f"{NAMESPACE}producer.web.app:application"
#: Seconds for requests that are being answered when the process is told to stop; a long poll may take 30.
STOP_SECONDS = 3
#: Open connections of a process; more wait to be accepted.
CONNECTIONS = 8192
#: File descriptors beside those of connections, each of which may need two: one for its body or its stream.
DESCRIPTORS = 512
#: File descriptors that macOS allows even if its hard limit is unlimited.
MACOS_DESCRIPTORS = 10_240
#: Seconds for the head of a request, from the start of the connection or the end of the last response.
HEAD_SECONDS = 10
#: Bytes that are buffered for a connection in each direction.
BUFFER_BYTES = 16 * 1024
#: Seconds between two checks for a missing parent, or a missed signal.
ORPHAN_SECONDS = 1.0


class Process:
    """The application in a process of the server, with the threads that watch over it."""

    def __init__(self, app: Application) -> None:
        self._app = app
        self.__rsgi__ = app.__rsgi__

    def __rsgi_init__(self, loop: AbstractEventLoop) -> None:
        self._app.__rsgi_init__(loop)
        signals: SimpleQueue[int] = SimpleQueue()
        for number in (signal.SIGINT, signal.SIGTERM):
            # The loop notices signals in its own way, by which the server stops: this is beside it.
            signal.signal(number, lambda number, _: signals.put(number))

        def stop() -> None:
            wait_for_stop(signals, server_pid())
            loop.call_soon_threadsafe(self._app.stop)

        threading.Thread(target=stop, name="stop", daemon=True).start()
        self._app.services.webhooks.start()
        threading.Thread(target=self._app.services.store.server.watch, name="server-check", daemon=True).start()
        garbage_collector.tune()


def server_pid() -> int:
    """Return the process that started this one, even if it is gone: `getppid` would then name who adopted this one."""
    parent = multiprocessing.parent_process()
    return parent.pid if parent and parent.pid else os.getppid()


def wait_for_stop(signals: SimpleQueue[int], parent: int) -> None:
    """Return when the process is told to stop.

    A process whose parent was killed stops too: it would keep the port, beside its successor.
    """
    while True:
        try:
            signals.get(timeout=ORPHAN_SECONDS)
            return
        except Empty:
            if os.getppid() != parent:
                os.kill(os.getpid(), signal.SIGTERM)
                last = threading.Timer(STOP_SECONDS, os._exit, (1,))  # nobody is left who would kill it
                last.daemon = True
                last.start()


def raise_descriptors() -> int:
    """Raise the limit on open files as far as needed and allowed, and return it."""
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
    """Return how many connections fit into a number of descriptors: a server without free ones answers nobody."""
    return max(64, min(CONNECTIONS, (descriptors - DESCRIPTORS) // 2))


class Interrupt(threading.Event):
    """An event whose waiter wakes each second, to run the handlers of signals.

    Python runs them on the main thread, which stays asleep if the kernel delivers a signal to another thread, as after
    SIGSTOP and SIGCONT.
    """

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the event is set, for at most `timeout` seconds; return whether it is set."""
        while timeout is None and not super().wait(ORPHAN_SECONDS):
            pass
        return super().wait(timeout)


class WebServer(MPServer):
    """granian's server, which also replaces a process that is killed twice within seconds.

    granian considers that a crash loop and ends. Here only a process that exits has crashed.
    """

    def _respawn_workers(self, workers: list[int], *rest: Any, **options: Any) -> None:
        killed = [number for number in workers if self.wrks[number].inner.exitcode == -signal.SIGKILL]
        super()._respawn_workers(workers, *rest, **options)
        for number in killed:
            self.respawned_wrks.pop(number, None)


def serve(settings: Settings, take_over: bool = False) -> None:
    """Serve until told to stop. granian replaces a process that dies. Raises SettingsError or CannotStart.

    With `take_over` another process may still listen at the port.
    """
    settings.check_exposed()
    list(read_keys(settings))  # fails before a process is started
    if not take_over:
        check_port(settings.host, settings.port, STOP_SECONDS + 2 * ORPHAN_SECONDS)
    descriptors = raise_descriptors()
    connections = connections_of(descriptors)
    if connections < CONNECTIONS:
        log.warning("%d open files are allowed (ulimit -Hn): %d connections at a time", descriptors, connections)
    server = WebServer(
        APPLICATION,
        factory=True,
        address=settings.host,
        port=settings.port,
        interface=Interfaces.RSGI,
        loop=Loops.asyncio,
        task_impl=TaskImpl.asyncio,  # each request needs a contextvars context of its own
        workers=1,
        http=HTTPModes.http1,  # HTTP/2 has no limit on silence, and joins headers without end
        http1_settings=HTTP1Settings(header_read_timeout=HEAD_SECONDS * 1000, max_buffer_size=BUFFER_BYTES),
        backlog=connections,
        backpressure=connections,
        respawn_failed_workers=True,
        workers_kill_timeout=STOP_SECONDS,
        websockets=False,
        log_level=LogLevels.error,
        log_dictconfig={"loggers": {}},  # its lines go where ours go
    )
    server.main_loop_interrupt = Interrupt()
    gc.freeze()  # what the processes share stays shared: their collectors do not write to it
    server.serve()
