"""The submitting side: the web application, the Python clients and the command line.

`Client` (over HTTP) and `Queue` (straight to Redis) have counterparts for asyncio, `AsyncClient` and `AsyncQueue`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from shared import NAMESPACE

if TYPE_CHECKING:
    from producer.client.async_clients import AsyncClient, AsyncQueue
    from producer.client.images import Image, Picture
    from producer.client.retry import NEVER, Retry
    from producer.client.sync_clients import Client, Queue
    from shared.keys import Priority
    from shared.numbers import PageReading
    from shared.prediction import Prediction, State

__all__ = [
    "NEVER", "AsyncClient", "AsyncQueue", "Client", "Image", "PageReading", "Picture", "Prediction", "Priority",
    "Queue", "Retry", "State",
]  # fmt: skip
#: Where each name is. It is imported when it is asked for: the web process needs no client.
_HOMES = {
    **dict.fromkeys(("AsyncClient", "AsyncQueue"), "producer.client.async_clients"),
    **dict.fromkeys(("Image", "Picture"), "producer.client.images"),
    **dict.fromkeys(("NEVER", "Retry"), "producer.client.retry"),
    **dict.fromkeys(("Client", "Queue"), "producer.client.sync_clients"),
    **dict.fromkeys(("Prediction", "State"), "shared.prediction"),
    "Priority": "shared.keys",
    "PageReading": "shared.numbers",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(NAMESPACE + _HOMES[name]), name)
