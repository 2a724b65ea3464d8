"""A request with a batch in its body -> a temporary file and what is in it. Nothing goes to Redis before all is here.

A connection that breaks in the middle leaves a temporary file that is gone with the request.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import SpooledTemporaryFile
from typing import IO, Any, cast

from werkzeug import Request
from werkzeug.exceptions import BadRequest as WerkzeugBadRequest
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

from producer.received import BLOCK, IN_MEMORY, Received
from producer.uploads import batch_too_large
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
    """The parts named `file`, one after another into the file; other fields are ignored."""
    boundary = request.mimetype_params.get("boundary", "").encode("latin-1", "replace")
    decoder, wanted, event = MultipartDecoder(boundary), False, cast(Any, None)
    try:
        while not isinstance(event, Epilogue):
            event = decoder.next_event()
            if isinstance(event, NeedData):
                decoder.receive_data(request.stream.read(BLOCK) or None)
            elif isinstance(event, Field | File):
                wanted = event.name == "file"
                if wanted:
                    body.names.append(getattr(event, "filename", ""))  # a part may be without a name
                    body.ends.append(body.file.tell())
                if len(body.names) > settings.batch_max_images:
                    raise TooManyImages(limit=settings.batch_max_images)
            elif isinstance(event, Data) and wanted:
                body.file.write(event.data)
                body.ends[-1] = body.file.tell()
    except ValueError as error:
        raise BadRequest(f"The multipart body is malformed: {error}") from error
    if not body.names:
        raise NoImage("The multipart field `file` is missing")
