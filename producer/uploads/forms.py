"""Reads multipart forms, and refuses one whose fields cannot be what its sender meant."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from werkzeug.datastructures import Headers
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

from producer.middleware.request import Request
from producer.uploads.admission import clean_filename
from producer.uploads.archive import decoded
from producer.uploads.received import BLOCK
from shared.errors import BadRequest, NoImage, TooManyFiles, UnexpectedField

#: The field of an image.
FILE = "file"
#: Text fields of a single upload.
CALLBACK = "callback_url"
#: Bytes that a form may have before its first part, as the head of a part, and after its last part.
MAX_PART_HEAD = 16 * 1024
#: Longest boundary; RFC 2046 allows 70.
MAX_BOUNDARY = 200


@dataclass(slots=True)
class Form:
    """The form of a single upload."""

    image: bytes = b""
    filename: str = ""
    callback_url: str = ""


def form_of(request: Request) -> Form:
    """Read the form of a single upload; the image may be in a text field, too.

    Raises NoImage, TooManyFiles, UnexpectedField, BadRequest, and werkzeug's RequestEntityTooLarge.
    """
    contents: dict[str, bytearray] = {}
    name, filename = "", ""
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
    """Decodes file names in other encodings than UTF-8: curl on Windows sends the code page of the system."""

    def _parse_headers(self, data: bytes | bytearray) -> Headers:
        return super()._parse_headers(decoded(bytes(data), "cp1252").encode())


def events(request: Request) -> Iterator[Field | File | Data]:
    """Yield the parts of a multipart body: the head of each, and then its data in pieces.

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


def filename_of(part: Field | File) -> str:
    """Return the file name of a part, which may be empty."""
    return clean_filename(getattr(part, "filename", ""))


def unexpected(name: str | None) -> UnexpectedField:
    """Return the error for a field with an unknown name."""
    which = f"a field `{name[:50]}`" if name else "a part without a name"
    return UnexpectedField(
        f"The form has {which}: an image is sent as `{FILE}`, many as several parts `{FILE}` to /v1/batches. "
        "Parameters such as `priority` belong in the query"
    )
