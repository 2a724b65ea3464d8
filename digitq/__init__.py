"""Handwritten digits through a durable queue, in batches: the names that programs import.

`Client` (over HTTP) and `Queue` (straight to Redis) submit pictures; `AsyncClient` and `AsyncQueue` are the same for
asyncio. `BatchWorker` and what belongs to it serve a model of your own. The errors are in `digitq.errors`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from shared import NAMESPACE, VERSION

if TYPE_CHECKING:
    from digitq.cli import main
    from producer import (
        NEVER,
        AsyncClient,
        AsyncQueue,
        Client,
        Image,
        PageReading,
        Picture,
        Prediction,
        Priority,
        Queue,
        Retry,
        State,
    )
    from shared.batch import Batch, BatchResult, BatchState
    from worker import BatchWorker, Classified, Outcome, Settings, Store, connect

__version__ = VERSION
__all__ = [
    "NEVER", "AsyncClient", "AsyncQueue", "Batch", "BatchResult", "BatchState", "BatchWorker", "Classified", "Client",
    "Image", "Outcome", "PageReading", "Picture", "Prediction", "Priority", "Queue", "Retry", "Settings", "State",
    "Store", "connect", "main",
]  # fmt: skip
#: Where a name is if not in `producer`. Each is imported when it is asked for: a client needs neither RQ nor NumPy.
_HOMES = {
    "Batch": "shared.batch",
    "BatchResult": "shared.batch",
    "BatchState": "shared.batch",
    "BatchWorker": "worker",
    "Classified": "worker",
    "Outcome": "shared.prediction",
    "Settings": "shared.settings",
    "Store": "shared.store",
    "connect": "shared.store",
}


def __getattr__(name: str) -> Any:
    if name == "main":
        return import_module("digitq.cli").main
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(NAMESPACE + _HOMES.get(name, "producer")), name)
