"""Bounds how many large responses are sent at a time."""

from __future__ import annotations

from producer.middleware.request import Request
from producer.middleware.responses import Response
from shared.errors import TooManyDownloads

#: Results and large pictures that one web process sends at a time; each has buffers of some 300 KB.
MAX_DOWNLOADS = 128


def take_download(request: Request, response: Response) -> None:
    """Count a download until its response is closed. Raises TooManyDownloads."""
    downloads = request.services.downloads
    if not downloads.acquire(blocking=False):
        raise TooManyDownloads(f"At most {MAX_DOWNLOADS} may run at a time", limit=MAX_DOWNLOADS, retry_after_seconds=5)
    response.on_close = downloads.release
