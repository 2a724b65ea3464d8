"""Reads multipart forms, and says what is wrong with one that cannot be what its sender meant."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, cast

from werkzeug import Request
from werkzeug.datastructures import Headers
from werkzeug.exceptions import BadRequest as WerkzeugBadRequest
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

from producer.uploads.admission import clean_filename
from producer.uploads.archive import decoded
from producer.uploads.received import BLOCK
from shared.errors import BadRequest, DigitqError, NoImage, TooManyFiles, UnexpectedField

#: The field of an image.
FILE = "file"
#: Text fields of a single upload.
CALLBACK = "callback_url"
#: What a form may have in front of its first part, as the head of a part, and behind its last part, in bytes.
MAX_PART_HEAD = 16 * 1024
#: Bytes of the rest of a form that are read before it is refused.
MAX_REST = 16 * 1024 * 1024
#: Longest boundary; RFC 2046 allows 70.
MAX_BOUNDARY = 200


@dataclass(slots=True)
class Form:
    """The form of a single upload."""

    image: bytes = b""
    filename: str = ""
    callback_url: str = ""


def form_of(request: Request) -> Form:
    """The form of a single upload, whose image may be in a text field too.

    Raises NoImage, TooManyFiles, UnexpectedField, BadRequest, and werkzeug's RequestEntityTooLarge.
    """
    contents: dict[str, bytearray] = {}
    name, filename = "", ""
    with read_to_the_end(request):
        for event in events(request):
            if isinstance(event, Data):
                contents[name] += event.data
                continue
            name = event.name or ""
            if name != FILE and not (name == CALLBACK and isinstance(event, Field)):
                raise unexpected(name)
            if name in contents:
                raise TooManyFiles(f"The form has several parts `{name}`: send many images to /v1/batches")
            contents[name], filename = bytearray(), filename_of(event) or filename
    if FILE not in contents:
        raise NoImage(f"The multipart field `{FILE}` is missing")
    return Form(bytes(contents[FILE]), filename, contents.get(CALLBACK, b"").decode("utf-8", "replace"))


class _Decoder(MultipartDecoder):
    """Reads file names in other encodings than UTF-8 too: curl on Windows sends those of the system's code page."""

    def _parse_headers(self, data: bytes | bytearray) -> Headers:
        return super()._parse_headers(decoded(bytes(data), "cp1252").encode())


@contextmanager
def read_to_the_end(request: Request) -> Iterator[None]:
    """Reads the rest of a form that is refused, up to a bound: a client that is still sending may miss the answer."""
    try:
        yield
    except DigitqError:
        with suppress(Exception):
            for _ in range(MAX_REST // BLOCK):
                if not request.stream.read(BLOCK):
                    break
        raise


def events(request: Request) -> Iterator[Field | File | Data]:
    """The parts of a multipart body as they come: what each is, and then its data in pieces.

    Raises BadRequest, and werkzeug's RequestEntityTooLarge.
    """
    boundary = request.mimetype_params.get("boundary", "").encode("latin-1", "replace")
    if not 0 < len(boundary) <= MAX_BOUNDARY:
        raise BadRequest(f"The Content-Type of a multipart body has a boundary of 1 to {MAX_BOUNDARY} characters")
    decoder, event = _Decoder(boundary), cast(Any, None)
    try:
        while not isinstance(event, Epilogue):
            event = decoder.next_event()
            if isinstance(event, Field | File | Data):
                yield event
            elif isinstance(event, NeedData):
                if len(decoder.buffer) > MAX_PART_HEAD:  # of a part's data nothing is left in there
                    raise BadRequest(f"The form has over {MAX_PART_HEAD} bytes before, between or after its parts")
                decoder.receive_data(request.stream.read(BLOCK) or None)
    except ValueError as error:
        raise BadRequest(f"The multipart body is malformed: {error}") from error
    except WerkzeugBadRequest as error:  # the client has gone in the middle
        raise BadRequest("The body ends before its time") from error


def filename_of(part: Field | File) -> str:
    """The name of a part's file; a part may be without one."""
    return clean_filename(getattr(part, "filename", ""))


def unexpected(name: str | None) -> UnexpectedField:
    """The error for a field of another name than those that are known."""
    which = f"a field `{name[:50]}`" if name else "a part without a name"
    return UnexpectedField(
        f"The form has {which}: an image is sent as `{FILE}`, many as several parts `{FILE}` to /v1/batches. "
        "Parameters such as `priority` belong in the query"
    )
