"""A request with a batch in its body -> a temporary file and what is in it. Nothing goes to Redis before all is here.

A connection that breaks in the middle leaves a temporary file that is gone with the request.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import SpooledTemporaryFile
from typing import IO, cast

from werkzeug import Request
from werkzeug.exceptions import BadRequest as WerkzeugBadRequest
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.sansio.multipart import Data

from producer.uploads.files import batch_too_large
from producer.uploads.forms import FILE, events, filename_of, read_to_the_end, unexpected
from producer.uploads.received import BLOCK, IN_MEMORY, Received
from shared.errors import BadRequest, NoImage, TooManyImages
from shared.settings import Settings


@contextmanager
def received(request: Request, settings: Settings) -> Iterator[Received]:
    """The body, all of it. Raises TooLarge, TooManyImages, NoImage, BadRequest."""
    limit = settings.batch_max_bytes
    if (request.content_length or 0) > limit:
        raise batch_too_large(settings)
    request.max_content_length = limit  # the application's own is for one picture
    with SpooledTemporaryFile(IN_MEMORY) as spool:
        body = Received(cast(IO[bytes], spool))
        try:
            if request.mimetype == "multipart/form-data":
                _read_form(request, body, settings)
            else:
                while block := request.stream.read(BLOCK):
                    body.file.write(block)
        except RequestEntityTooLarge as error:
            raise batch_too_large(settings) from error
        except WerkzeugBadRequest as error:  # the client has gone in the middle
            raise BadRequest("The body ends before its time") from error
        yield body


def _read_form(request: Request, body: Received, settings: Settings) -> None:
    """Writes the parts, all named `file`, one after another into the file."""
    with read_to_the_end(request):
        for event in events(request):
            if isinstance(event, Data):
                body.file.write(event.data)
            elif event.name != FILE:
                raise unexpected(event.name)
            else:
                body.names.append(filename_of(event))
                body.ends.append(0)
                if len(body.names) > settings.batch_max_images:
                    raise TooManyImages(limit=settings.batch_max_images)
            body.ends[-1] = body.file.tell()
    if not body.names:
        raise NoImage(f"The multipart field `{FILE}` is missing")
