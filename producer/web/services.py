"""The state of a web process, by name: what every request and view may use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import BoundedSemaphore

from prometheus_client import CollectorRegistry

from producer.middleware.access import Access
from producer.middleware.responses import Response
from producer.serving.waiting import Waiting
from producer.web.events import Events
from producer.webhooks.delivery import Deliverer
from shared.batches import Batches
from shared.history import History
from shared.settings import Settings
from shared.store import Store


@dataclass(frozen=True, slots=True)
class Services:
    """One of each for the process."""

    settings: Settings
    store: Store
    batches: Batches
    history: History
    waiting: Waiting
    events: Events
    webhooks: Deliverer
    access: Access
    fleet: CollectorRegistry
    #: Counts the large responses that are being sent.
    downloads: BoundedSemaphore
    #: Counts the requests that hold a thread until a batch has ended.
    batch_waits: BoundedSemaphore
    #: The page that asks a browser for its API key.
    key_form: Callable[[], Response]
    #: The page for an error: status, title, detail.
    error_page: Callable[[int, str, str], Response]
