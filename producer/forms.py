"""Reads the form of a single upload, and says what is wrong with a form that cannot be what its sender meant."""

from __future__ import annotations

from flask import Request

from producer.admission import clean_filename
from producer.embedded import text_limit
from shared.errors import NoImage, TooManyFiles, UnexpectedField
from shared.settings import Settings

#: The field of an image.
FILE = "file"
#: Text fields of a single upload.
TEXTS = frozenset({FILE, "callback_url"})


def form_file(request: Request, settings: Settings) -> tuple[bytes, str]:
    """The image and its name in the multipart field `file`, which may be a text field too.

    Raises NoImage, TooManyFiles, UnexpectedField, and werkzeug's RequestEntityTooLarge.
    """
    request.max_content_length = request.max_form_memory_size = text_limit(settings)
    for name in (*(request.files.keys() - {FILE}), *(request.form.keys() - TEXTS)):
        raise unexpected(name)
    files, texts = request.files.getlist(FILE), request.form.getlist(FILE)
    if len(files) + len(texts) > 1:
        raise TooManyFiles(f"The form has {len(files) + len(texts)} parts `{FILE}`: send many images to /v1/batches")
    if texts:
        return texts[0].encode(), ""
    if not files:
        raise NoImage(f"The multipart field `{FILE}` is missing")
    return files[0].read(text_limit(settings)), clean_filename(files[0].filename)


def unexpected(name: str | None) -> UnexpectedField:
    """The error for a field of another name than those that are known."""
    which = f"a field `{name[:50]}`" if name else "a part without a name"
    return UnexpectedField(
        f"The form has {which}: an image is sent as `{FILE}`, many as several parts `{FILE}` to /v1/batches. "
        "Parameters such as `priority` belong in the query"
    )
