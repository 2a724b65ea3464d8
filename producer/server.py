"""The web process: granian in front of the application."""

from __future__ import annotations

from granian.constants import Interfaces
from granian.log import LogLevels
from granian.server import Server

from shared.settings import Settings

#: Seconds that requests in hand get when the process is told to stop; long polls would take thirty.
STOP_SECONDS = 3


def serve(settings: Settings) -> None:
    """Serves until told to stop. A process that dies is started again by granian itself."""
    Server(
        "producer.app:create_app",
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
