"""Reads a batch from the body of a request, all of which has arrived."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import SEEK_END
from tempfile import SpooledTemporaryFile
from typing import IO, cast

from werkzeug.sansio.multipart import Data

from producer.middleware.request import Request
from producer.uploads.files import batch_too_large
from producer.uploads.forms import FILE, events, filename_of, unexpected
from producer.uploads.received import IN_MEMORY, Received
from shared.errors import NoImage, TooManyImages
from shared.settings import Settings


@contextmanager
def received(request: Request, settings: Settings) -> Iterator[Received]:
    """The batch in the body: of a form its files, otherwise the body itself.

    Raises TooLarge, TooManyImages, NoImage, UnexpectedField, BadRequest.
    """
    body: IO[bytes] = request.environ["wsgi.input"]
    size = body.seek(0, SEEK_END)
    body.seek(0)
    if max(size, request.length or 0) > settings.batch_max_bytes:
        raise batch_too_large(settings)
    if not request.is_form:
        yield Received(body)
        return
    with SpooledTemporaryFile(IN_MEMORY) as spool:
        files = Received(cast(IO[bytes], spool))
        _read_form(request, files, settings)
        yield files


def _read_form(request: Request, files: Received, settings: Settings) -> None:
    """Write the files of a form, all named `file`, one after another."""
    for event in events(request):
        if isinstance(event, Data):
            files.file.write(event.data)
        elif event.name != FILE:
            raise unexpected(event.name)
        else:
            files.names.append(filename_of(event))
            files.ends.append(0)
            if len(files.names) > settings.batch_max_images:
                raise TooManyImages(limit=settings.batch_max_images)
        files.ends[-1] = files.file.tell()
    if not files.names:
        raise NoImage(f"The multipart field `{FILE}` is missing")
