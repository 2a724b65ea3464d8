"""Formats told by their first bytes: the size of AVIF and HEIC files, and a hint for those that are not read."""

from __future__ import annotations

import struct
from dataclasses import replace
from io import BytesIO

import pytest
from PIL import Image

from producer.uploads import headers, kinds
from producer.uploads.admission import SUPPORTED, admit, clean_path, image_format
from shared.errors import TooLarge, TooManyPixels, UndecodableImage, UnsupportedType
from shared.settings import Settings
from tests.formats import box, ftyp, heif, ispe
from tests.pictures import seven

SETTINGS = Settings()


@pytest.mark.parametrize("major", [b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"])
def test_a_heic_file_is_admitted_by_its_brand_and_its_largest_size(major: bytes) -> None:
    data = heif(ispe(320, 240), box(b"irot", b"\1"), ispe(4032, 3024), ispe(512, 512), major=major)
    assert admit(data, SETTINGS) == "image/heic"
    with pytest.raises(TooManyPixels, match="4032 x 3024"):
        admit(data, replace(SETTINGS, max_pixels=4032 * 3024 - 1))
    with pytest.raises(TooLarge):
        admit(data, replace(SETTINGS, max_upload_bytes=100))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_an_avif_file_of_pillow_has_the_size_that_pillow_finds(mode: str) -> None:
    out = BytesIO()
    Image.new(mode, (61, 43)).save(out, "AVIF")
    assert admit(out.getvalue(), SETTINGS) == "image/avif"
    with pytest.raises(TooManyPixels, match="61 x 43"):
        admit(out.getvalue(), replace(SETTINGS, max_pixels=100))
    place = out.getvalue().index(b"ispe")
    for end in range(1, place + 16, 3):
        with pytest.raises((UndecodableImage, UnsupportedType)):
            admit(out.getvalue()[:end], SETTINGS)


def test_the_compatible_brands_decide_where_the_major_brand_leaves_the_codec_open() -> None:
    assert image_format(heif(ispe(9, 9), major=b"mif1", others=(b"miaf", b"avif"))) == ("AVIF", "image/avif")
    assert image_format(heif(ispe(9, 9), major=b"mif1", others=(b"miaf", b"heic"))) == ("HEIC", "image/heic")
    assert image_format(heif(ispe(9, 9), major=b"heic", others=(b"avif",))) == ("HEIC", "image/heic")


@pytest.mark.parametrize(
    "rest",
    [bytes(64), box(b"meta", bytes(4)), heif()[24:], box(b"meta", struct.pack(">I", 3)), b"\0\0\0\1meta" + bytes(8),
     b"\0\0\0\x04meta", box(b"meta", bytes(4), box(b"iprp", box(b"ipco", ispe(5, 5)[:-1]))), box(b"free") * 20_000],
)  # fmt: skip
def test_a_file_that_only_begins_like_heic_is_an_error_that_names_heic(rest: bytes) -> None:
    with pytest.raises(UndecodableImage, match="HEIC"):
        admit(ftyp(b"heic", b"mif1") + rest, SETTINGS)


@pytest.mark.parametrize(
    ("data", "name", "remedy"),
    [
        (b"%PDF-1.7\n" + bytes(64), "PDF", "PNG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG", "PNG"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- a drawing -->\n<svg width='9'>", "SVG", "PNG"),
        ("<?xml version='1.0'?><svg width='9'>".encode("utf-16"), "SVG", "PNG"),
        (b"8BPS\0\1", "Photoshop", "PNG"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000", "PNG"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL", "PNG"),
        (b"\xff\x0a\x7f", "JPEG XL", "PNG"),
        (b"\0\0\1\0\1\0", "ICO", "PNG"),
        (b"II\x2b\0\x08\0", "BigTIFF", "PNG"),
        (b"P5\n28 28\n255\n" + bytes(784), "PNM", "PNG"),
        (ftyp(b"isom", b"mp42") + bytes(90), "video", "frame"),
        (ftyp(b"qt  ") + bytes(90), "video", "frame"),
        (ftyp(b"crx ") + bytes(90), "camera raw", "PNG"),
        (b"RIFF\0\0\0\0AVI LIST", "video", "frame"),
        (b"PK\3\4" + bytes(40), "zip", "/v1/batches"),
        (b"\x1f\x8b\x08" + bytes(40), "gzip", "/v1/batches"),
        (b"\0\0\x08\3\0\0\0\1", "IDX", "/v1/batches"),
        (b"Rar!\x1a\7\0", "RAR", "/v1/batches"),
        (bytes(257) + b"ustar\0", "tar", "/v1/batches"),
        (b"<!DOCTYPE html>\n<html><body>Log in", "HTML", "image itself"),
        (b'["data:image/png;base64,"]', "JSON", "base64"),
        ("sieben, acht: äöü".encode(), "text", "data URL"),
        (b"image=data%3Aimage%2Fpng%3Bbase64%2CiVBOR", "URL-encoded", "multipart"),
        (b"https://example.com/7.png", "address", "image itself"),
        (seven().translate(None, b"\r\n\0"), "PNG image whose line breaks", "--data-binary"),  # by `curl -d @FILE`
        (seven().decode("utf-8", "replace").encode(), "PNG image that was treated as text", "unchanged"),
        (seven().decode("latin-1").encode(), "PNG image that was treated as text", "unchanged"),
        (seven(28, "JPEG").decode("utf-8", "replace").encode(), "JPEG image", "unchanged"),
        (b"\1\2\3\4", "no image in a known format", ""),
    ],
)  # fmt: skip
def test_a_format_that_is_not_read_is_named_with_what_to_do(data: bytes, name: str, remedy: str) -> None:
    with pytest.raises(UnsupportedType) as error:
        admit(data, SETTINGS)
    assert name in str(error.value) and remedy in str(error.value)
    assert str(error.value).endswith(f"Supported formats: {SUPPORTED}")


def test_fill_bytes_of_a_jpeg_have_a_bound() -> None:
    picture = seven(56, "JPEG", "RGB")
    with pytest.raises(UndecodableImage):
        admit(picture[:2] + b"\xff" * 70_000 + picture[2:], SETTINGS)


def test_a_jpeg_with_fill_bytes_has_its_size() -> None:
    picture = seven(56, "JPEG", "RGB")
    padded = picture[:2] + b"\xff" * 100 + picture[2:]
    assert admit(padded, SETTINGS) == "image/jpeg"
    with pytest.raises(TooManyPixels, match="56 x 56"):
        admit(padded, replace(SETTINGS, max_pixels=9))


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("a/3.png", "a/3.png"), ("../../etc/passwd", "etc/passwd"), ("/a/./b//c.png", "a/b/c.png"),
        (r"C:\scans\..\a\3.png", "scans/a/3.png"), (r"\\server\share\3.png", "server/share/3.png"),
        ("a/\x00\n3.png", "a/3.png"), ("a/.. /b", "a/b"), ("..", ""), ("", ""),
        ("x" * 300 + "/3.png", "x" * 249 + "/3.png"),
    ],
)  # fmt: skip
def test_a_path_is_shown_relative_and_without_what_leads_elsewhere(path: str, shown: str) -> None:
    assert clean_path(path) == shown


JPEG_FRAME = b"\xff\xc0" + struct.pack(">HBHH", 17, 8, 30, 28)
WIDTH, HEIGHT = (struct.pack("<HHII", tag, 4, 1, size) for tag, size in ((256, 28), (257, 30)))


def tiff(*entries: bytes) -> bytes:
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(entries) + bytes(4)


@pytest.mark.parametrize(
    ("format", "data"),
    [
        ("BMP", b"BM" + bytes(12) + struct.pack("<IHH", 12, 28, 30)),
        ("BMP", b"BM" + bytes(12) + struct.pack("<Iii", 40, 28, -30)),
        ("WEBP", b"RIFF\0\0\0\0WEBPVP8 " + bytes(10) + struct.pack("<HH", 0x8000 | 28, 0x4000 | 30)),
        ("JPEG", b"\xff\xd8\xff\x01\xff\xd3" + JPEG_FRAME),
        ("JPEG", b"\xff\xd8\xff\xe0\0\x06abcd\xff\xff\xff" + JPEG_FRAME[1:]),
        ("TIFF", tiff(WIDTH, HEIGHT, struct.pack("<HHII", 256, 4, 1, 9))),
        ("TIFF", tiff(struct.pack("<HHII", 256, 4, 2, 9), WIDTH, HEIGHT)),
    ],
)  # fmt: skip
def test_a_head_of_any_make_has_its_size(format: str, data: bytes) -> None:
    assert headers.size(data, format) == (28, 30)


@pytest.mark.parametrize(
    ("format", "data"),
    [
        ("PNG", b"\x89PNG\r\n\x1a\n\0\0\0\x0dIDAT" + bytes(30)),
        ("WEBP", b"RIFF\0\0\0\0WEBPVP8?" + bytes(30)),
        ("TIFF", tiff(WIDTH)),
        ("JPEG", b"\xff\xd8\xff\xe0\0\x06abcd"),
    ],
)
def test_a_head_without_a_size_is_broken(format: str, data: bytes) -> None:
    with pytest.raises(ValueError):
        headers.size(data, format)


def test_a_box_may_reach_to_the_end_or_have_a_length_of_eight_bytes() -> None:
    items = box(b"iprp", box(b"ipco", ispe(28, 30)))
    meta = b"meta" + bytes(4) + items
    long = struct.pack(">I", 1) + b"meta" + struct.pack(">Q", 16 + 4 + len(items)) + bytes(4) + items
    for found in (bytes(4) + meta, long + box(b"mdat", bytes(9))):
        assert headers.size(ftyp(b"heic") + found, "HEIC") == (28, 30)


def test_a_box_that_is_smaller_than_its_head_is_broken() -> None:
    with pytest.raises(ValueError, match="smaller than its header"):
        headers.size(ftyp(b"heic") + b"\0\0\0\x07free" + heif(ispe(28, 30))[24:], "HEIC")


def test_a_text_that_is_cut_off_within_a_character_is_text() -> None:
    assert kinds.is_text(("x" * (kinds.HEAD - 1) + "ä").encode()[: kinds.HEAD])
    assert not kinds.is_text(b"x" * 100 + "ä".encode()[:1])
