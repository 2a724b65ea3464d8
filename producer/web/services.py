"""The state of a web process, by name: what every request and view may use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import BoundedSemaphore

from prometheus_client import CollectorRegistry

from producer.middleware.access import Access
from producer.middleware.responses import Response
from producer.serving.waiting import Waiting
from producer.web.events import Events
from producer.webhooks.delivery import Deliverer
from shared.batches import Batches
from shared.errors import TooManyDownloads
from shared.history import History
from shared.settings import Settings
from shared.store import Store

#: Results and large pictures that one web process sends at a time; each has buffers of some 300 KB.
MAX_DOWNLOADS = 128
#: Requests that may wait for a batch, a thread each; beyond that they are answered at once, and poll.
MAX_BATCH_WAITS = 16


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
    #: The page that asks a browser for its API key.
    key_form: Callable[[], Response]
    #: The page for an error: status, title, detail.
    error_page: Callable[[int, str, str], Response]
    #: Counts the large responses that are being sent.
    downloads: BoundedSemaphore = field(default_factory=lambda: BoundedSemaphore(MAX_DOWNLOADS))
    #: Counts the requests that hold a thread until a batch has ended.
    batch_waits: BoundedSemaphore = field(default_factory=lambda: BoundedSemaphore(MAX_BATCH_WAITS))

    def count_download(self, response: Response) -> None:
        """Count a download until its response is closed. Raises TooManyDownloads."""
        if not self.downloads.acquire(blocking=False):
            what = f"At most {MAX_DOWNLOADS} may run at a time"
            raise TooManyDownloads(what, limit=MAX_DOWNLOADS, retry_after_seconds=5)
        response.on_close = self.downloads.release
