"""The collaborators of a worker's parts."""

from __future__ import annotations

from unittest.mock import Mock, create_autospec

import pytest

from shared.settings import Settings
from shared.store import Store
from worker.queue.heartbeat import Heartbeat
from worker.queue.rq_compat import RqWorker


@pytest.fixture
def store() -> Mock:
    store: Mock = create_autospec(Store, instance=True)
    store.settings = Settings()
    store.finish.return_value = [], []
    store.image.return_value = None
    return store


@pytest.fixture
def rq() -> Mock:
    rq: Mock = create_autospec(RqWorker, instance=True)
    rq.name, rq.maintenance_due = "w", False
    return rq


@pytest.fixture
def heartbeat(store: Mock) -> Heartbeat:
    return Heartbeat(store, "w", "", lambda: None)
