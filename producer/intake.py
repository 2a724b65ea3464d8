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

from producer.admission import clean_filename
from producer.forms import FILE, unexpected
from producer.received import BLOCK, IN_MEMORY, Received
from producer.uploads import batch_too_large
from shared.errors import BadRequest, NoImage, TooManyImages
from shared.settings import Settings

#: What a form may have in front of its first part, as the head of a part, and behind its last part, in bytes.
MAX_PART_HEAD = 16 * 1024
#: Longest boundary; RFC 2046 allows 70.
MAX_BOUNDARY = 200


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
    boundary = request.mimetype_params.get("boundary", "").encode("latin-1", "replace")
    if len(boundary) > MAX_BOUNDARY:
        raise BadRequest(f"The boundary of the multipart body has over {MAX_BOUNDARY} bytes")
    decoder, event = MultipartDecoder(boundary), cast(Any, None)
    try:
        while not isinstance(event, Epilogue):
            event = decoder.next_event()
            if isinstance(event, NeedData):
                if len(decoder.buffer) > MAX_PART_HEAD:  # of a part's data nothing is left in there
                    raise BadRequest(
                        f"The multipart body has over {MAX_PART_HEAD} bytes before, between or after its parts"
                    )
                decoder.receive_data(request.stream.read(BLOCK) or None)
            elif isinstance(event, Field | File):
                if event.name != FILE:
                    raise unexpected(event.name)
                body.names.append(clean_filename(getattr(event, "filename", "")))  # a part may be without a name
                body.ends.append(body.file.tell())
                if len(body.names) > settings.batch_max_images:
                    raise TooManyImages(limit=settings.batch_max_images)
            elif isinstance(event, Data):
                body.file.write(event.data)
                body.ends[-1] = body.file.tell()
    except ValueError as error:
        raise BadRequest(f"The multipart body is malformed: {error}") from error
    if not body.names:
        raise NoImage(f"The multipart field `{FILE}` is missing")
