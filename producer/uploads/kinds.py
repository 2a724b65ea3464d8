"""Names the format of a file by its first bytes: those that are not read, and what to do about them."""

from __future__ import annotations

import re

#: Bytes at the beginning of a file that are looked at.
HEAD = 1024

#: What files of the formats that are read are called.
SUFFIXES = frozenset({
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".avif", ".heic",
    ".heif",
})  # fmt: skip
#: Names of `kind` for what is written in letters, but draws no image.
TEXTS = frozenset({
    "an HTML page", "an XML document", "JSON", "a data URL", "the address of an image", "a URL-encoded form", "text",
})  # fmt: skip

PNG_INSTEAD = "export it as PNG or JPEG"
TO_BATCHES = "send it to /v1/batches"
ZIP_INSTEAD = "send its images as a zip to /v1/batches"
BINARY = "send its bytes unchanged, as curl does with --data-binary @FILE, and not with -d @FILE"
SCREENSHOT = "send a single frame of it as PNG or JPEG"

#: First bytes, name, remedy.
SIGNATURES = (
    (b"%PDF", "a PDF document", "send its page as PNG or JPEG"),
    (b"%!PS", "a PostScript document", PNG_INSTEAD),
    (b"\xc5\xd0\xd3\xc6", "an EPS drawing", PNG_INSTEAD),
    (b"\x89PNG", "a PNG image whose line breaks were changed on its way", BINARY),
    (b"\xef\xbf\xbdPNG", "a PNG image that was treated as text on its way", BINARY),
    (b"\xc2\x89PNG", "a PNG image that was treated as text on its way", BINARY),
    (b"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd", "a JPEG image, perhaps, that was treated as text on its way", BINARY),
    (b"\xc3\xbf\xc3\x98\xc3\xbf", "a JPEG image that was treated as text on its way", BINARY),
    (b"8BPS", "a Photoshop document", PNG_INSTEAD),
    (b"gimp xcf", "a GIMP document", PNG_INSTEAD),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 image", PNG_INSTEAD),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 image", PNG_INSTEAD),
    (b"\0\0\0\x0cJXL ", "a JPEG XL image", PNG_INSTEAD),
    (b"\xff\x0a", "a JPEG XL image", PNG_INSTEAD),
    (b"II\x2b\0", "a BigTIFF image", PNG_INSTEAD),
    (b"MM\0\x2b", "a BigTIFF image", PNG_INSTEAD),
    (b"II\xbc\x01", "a JPEG XR image", PNG_INSTEAD),
    (b"\0\0\x01\0", "an icon (ICO)", PNG_INSTEAD),
    (b"\0\0\x02\0", "a cursor (CUR)", PNG_INSTEAD),
    (b"icns", "an icon (ICNS)", PNG_INSTEAD),
    (b"DDS ", "a DDS texture", PNG_INSTEAD),
    (b"qoif", "a QOI image", PNG_INSTEAD),
    (b"v/1\x01", "an OpenEXR image", PNG_INSTEAD),
    (b"#?RADIANCE", "a Radiance HDR image", PNG_INSTEAD),
    (b"SIMPLE  =", "a FITS image", PNG_INSTEAD),
    (b"\xd7\xcd\xc6\x9a", "a WMF drawing", PNG_INSTEAD),
    (b"\x01\0\0\0\x58\0\0\0", "an EMF drawing", PNG_INSTEAD),
    (b"AT&TFORM", "a DjVu document", PNG_INSTEAD),
    (b"FUJIFILMCCD-RAW", "a camera raw file", PNG_INSTEAD),
    (b"IIRO", "a camera raw file", PNG_INSTEAD),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Office document", PNG_INSTEAD),
    (b"\x93NUMPY", "a NumPy array", PNG_INSTEAD),
    (b"PK\x03\x04", "a zip archive", TO_BATCHES),
    (b"PK\x05\x06", "an empty zip archive", TO_BATCHES),
    (b"\x1f\x8b", "a gzip file", f"if it holds an IDX file of images, {TO_BATCHES}"),
    (b"\0\0\x08\x03", "an IDX file of images", TO_BATCHES),
    (b"\0\0\x08\x01", "an IDX file of labels", "send the file of images to /v1/batches"),
    (b"Rar!\x1a\x07", "a RAR archive", ZIP_INSTEAD),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", ZIP_INSTEAD),
    (b"BZh", "a bzip2 file", ZIP_INSTEAD),
    (b"\xfd7zXZ", "an xz file", ZIP_INSTEAD),
    (b"\x28\xb5\x2f\xfd", "a zstd file", ZIP_INSTEAD),
    (b"\x1aE\xdf\xa3", "a video (Matroska or WebM)", SCREENSHOT),
    (b"RIFF", "an audio or video file (RIFF)", SCREENSHOT),
    (b"OggS", "an audio or video file (Ogg)", SCREENSHOT),
    (b"ID3", "an audio file (MP3)", "send an image"),
)  # fmt: skip
_SVG = re.compile(rb"<(?:\w+:)?svg[\s>]", re.IGNORECASE)
_HTML = re.compile(rb"<(?:!doctype\s{1,9}html|html|head|body)[\s>]", re.IGNORECASE)
_URLENCODED = re.compile(rb"[\w.-]{1,50}=(?:data(?::|%3A)|%7B)", re.IGNORECASE)
_PNM = re.compile(rb"P[1-7FfH]\s")
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f]")


def kind(data: bytes) -> tuple[str, str]:
    """Names the format of a file that is not read, and what to do instead; both are empty if it is not known."""
    for signature, name, remedy in SIGNATURES:
        if data.startswith(signature):
            return name, remedy
    if data[4:8] == b"ftyp":
        if data[8:11] == b"crx":
            return "a camera raw file (CR3)", PNG_INSTEAD
        return "a video (MP4 or QuickTime)", SCREENSHOT
    if data[257:262] == b"ustar":
        return "a tar archive", ZIP_INSTEAD
    if _PNM.match(data):
        return "a portable bitmap (PNM)", PNG_INSTEAD
    return _text(data[:HEAD])


def _text(head: bytes) -> tuple[str, str]:
    """Do what `kind` does, for text."""
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):  # UTF-16
        head = head.decode("utf-16", "replace").encode()
    if _SVG.search(head):
        return "an SVG drawing", PNG_INSTEAD
    if not is_text(head):
        return "", ""
    if _HTML.search(head):
        return "an HTML page", "send the image itself"
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(b"<"):
        return "an XML document", "send an image"
    if start.startswith((b"{", b"[", b'"')):
        return "JSON", 'send an object with the image as base64, {"image": "…"}, to /v1/predictions'
    if start[:5].lower() == b"data:":
        return "a data URL", "send it to /v1/predictions"
    if re.match(rb"https?://", start):
        return "the address of an image", "send the image itself"
    if _URLENCODED.match(start):
        return "a URL-encoded form", 'send the image as multipart/form-data, or as JSON, {"image": "…"}'
    return "text", "send an image, or a data URL of one"


def is_text(head: bytes) -> bool:
    """Tells whether the beginning of a file is text in UTF-8."""
    if not head or _CONTROL.search(head):
        return False
    try:
        head.decode()
    except UnicodeDecodeError as error:
        return len(head) == HEAD and error.start > HEAD - 4  # a character that is cut off at the end
    return True
