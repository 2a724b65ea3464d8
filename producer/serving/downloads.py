"""Responses that are sent piece by piece: how many run at a time, and pictures as they were uploaded."""

from __future__ import annotations

from itertools import chain
from threading import BoundedSemaphore

from flask import Response, current_app

from producer.serving.wsgi import SMALL
from producer.uploads.admission import media_type
from shared.errors import NotFound, TooManyDownloads
from shared.store import Store

#: Results and large pictures that one web process sends at a time; each has buffers of some 300 KB.
MAX_DOWNLOADS = 128


def take_download(response: Response) -> None:
    """Counts a download until its response is closed. Raises TooManyDownloads."""
    room: BoundedSemaphore = current_app.extensions["digitq_downloads"]
    if not room.acquire(blocking=False):
        raise TooManyDownloads(f"At most {MAX_DOWNLOADS} may run at a time", limit=MAX_DOWNLOADS, retry_after_seconds=5)
    response.call_on_close(room.release)


def uploaded_picture(store: Store, id: str) -> Response:
    """The picture as it came, streamed: a large one is in memory piece by piece, however slowly it is read.

    Raises NotFound, TooManyDownloads.
    """
    size, pieces = store.image_pieces(id)
    if not size:
        raise NotFound("There is no such picture")
    first = next(pieces)
    response = Response(chain((first,), pieces), content_type=media_type(first))
    response.content_length = size
    if size > SMALL:
        take_download(response)
    return response
