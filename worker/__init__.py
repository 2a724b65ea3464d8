"""The side that classifies: the batching RQ worker, the preprocessing, the model and its training.

For a model of your own: `BatchWorker(Store(connect(url, timeout=5), settings), classify)`, where `classify` makes a
`Classified` of a batch of pictures; the README beside this file has an example.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from shared import NAMESPACE

if TYPE_CHECKING:
    from shared.prediction import Outcome as Outcome
    from shared.settings import Settings as Settings
    from shared.store import Store as Store
    from shared.store import connect as connect
    from worker.inference.classify import Classified as Classified
    from worker.queue.batch_worker import BatchWorker as BatchWorker

#: Where each name is, imported when it is asked for: the command line must not load RQ and NumPy for its help.
_HOMES = {
    "BatchWorker": "worker.queue.batch_worker",
    "Classified": "worker.inference.classify",
    "Outcome": "shared.prediction",
    "Settings": "shared.settings",
    "Store": "shared.store",
    "connect": "shared.store",
}
__all__ = ["BatchWorker", "Classified", "Outcome", "Settings", "Store", "connect"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(NAMESPACE + _HOMES[name]), name)
