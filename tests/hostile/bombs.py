"""Small files that would take much memory or time, or would reach a decoder that is not allowed."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from PIL import Image

from tests.hostile.seeds import drawn, encoded, interlaced
from tests.pictures import png_chunk, png_header

PNG_28 = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 28, 28, 8, 0, 0, 0, 0))
PNG_END = png_chunk(b"IDAT", zlib.compress(bytes(28 * 29))) + png_chunk(b"IEND", b"")


def bombs() -> dict[str, bytes]:
    """Name -> file, at most a megabyte."""
    return dict(_all())


def gif_with_a_frame_beyond_its_screen(side: int) -> bytes:
    """A GIF with a huge frame: Pillow allocates it while it opens the file, and takes its size for the picture's."""
    screen = struct.pack("<HHBBB", 28, 28, 0, 0, 0)
    frame = b"," + struct.pack("<HHHHB", 0, 0, side, side, 0)
    return b"GIF89a" + screen + b"!\xf9\x04\x08\0\0\0\0" + frame + b"\x02\x02\x4c\x01\0;"


def tiff_with_a_tile(side: int) -> bytes:
    """28 x 28 pixels, in one compressed tile of side x side."""
    packed = zlib.compressobj(1)
    tile = b"".join(packed.compress(bytes(side)) for _ in range(side)) + packed.flush()
    tags = [(256, 3, 28), (257, 3, 28), (258, 3, 8), (259, 3, 8), (262, 3, 1), (277, 3, 1),
            (322, 4, side), (323, 4, side), (324, 4, 8 + 2 + 10 * 12 + 4), (325, 4, len(tile))]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4) + tile


def fax_of_bad_rows(rows: int) -> bytes:
    """A TIFF of Group 4 with damage in every row: libtiff writes a message for each."""
    data = b"\xaa" * (rows * 5)
    tags = [(256, 4, 8), (257, 4, rows), (258, 3, 1), (259, 3, 4), (262, 3, 0),
            (273, 4, 8 + 2 + 9 * 12 + 4), (277, 3, 1), (278, 4, rows), (279, 4, len(data))]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4) + data


def jpeg_with_scans(width: int, height: int, scans: int) -> bytes:
    """A progressive JPEG with scans of a few bytes that cover all blocks and add nothing."""
    head = bytearray(encoded(Image.new("L", (16, 16)), "JPEG", progressive=True))
    del head[head.index(b"\xff\xda") :]
    frame = head.index(b"\xff\xc2")
    head[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    table = b"\xff\xc4\0\x14\x10" + bytes([1] + [0] * 15) + b"\xe0"  # one code: the end of 2^14 or more blocks
    runs = -(-width // 8) * -(-height // 8) // 16384 + 1
    bits = "0" * 15 * runs + "1" * (-15 * runs % 8)
    scan = b"\xff\xda\0\x08\x01\x01\0\x01\x3f\0" + int(bits, 2).to_bytes(len(bits) // 8, "big")
    return bytes(head) + table + scan * scans + b"\xff\xd9"


def jpeg_with_segments(kind: int, count: int) -> bytes:
    """A picture behind many empty segments."""
    picture = encoded(drawn(), "JPEG")
    return picture[:2] + bytes((0xFF, kind, 0, 2)) * count + picture[2:]


def lying(format: str, coded: int, said: int) -> bytes:
    """An AVIF or HEIF of coded x coded pixels whose header gives another size."""
    data = encoded(Image.new("L", (coded, coded)), format)
    at = data.index(b"ispe") + 8
    return data[:at] + struct.pack(">II", said, said) + data[at + 8 :]


def _all() -> Iterator[tuple[str, bytes]]:
    for width, height in ((50_000, 50_000), (2**31 - 1, 2**31 - 1), (0, 0), (60_000, 1_000), (1, 2**31 - 1)):
        yield f"png {width} x {height}", png_header(width, height)
    yield "gif frame", gif_with_a_frame_beyond_its_screen(65_535)
    yield "gif frame, half as large as refused", gif_with_a_frame_beyond_its_screen(9_000)
    yield "tiff tile", tiff_with_a_tile(12_000)
    yield "fax of bad rows", fax_of_bad_rows(100_000)
    yield "jpeg scans", jpeg_with_scans(7_000, 7_000, 8_000)
    yield "jpeg scans, just allowed", jpeg_with_scans(7_000, 7_000, 499)
    yield "jpeg segments", jpeg_with_segments(0xE1, 200_000)
    yield "jpeg comments", jpeg_with_segments(0xFE, 9_000)
    yield "jpeg fill bytes", b"\xff\xd8" + b"\xff" * 900_000 + encoded(drawn(), "JPEG")[2:]
    for format in ("AVIF", "HEIF"):
        yield f"{format}, larger than it says", lying(format, 5_000, 28)
        yield f"{format}, smaller than it says", lying(format, 64, 7_000)
        yield f"{format}, much smaller than it says", lying(format, 64, 65_000)
        yield f"{format} of 36 million pixels", encoded(Image.new("RGBA", (6_000, 6_000)), format)
    yield "webp", encoded(Image.new("RGB", (16_383, 16_383)), "WEBP", lossless=True, method=0)
    yield "png text", PNG_28 + png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**6))) * 500 + PNG_END
    yield "png profile", PNG_28 + png_chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(10**8))) + PNG_END
    yield "png chunks", PNG_28 + png_chunk(b"teSt", b"") * 50_000 + PNG_END
    yield "png rest", PNG_28 + png_chunk(b"IDAT", zlib.compress(bytes(10**8))) + png_chunk(b"IEND", b"")
    for mode in ("L", "RGBA", "I;16"):
        flat = Image.new(mode, (6_000, 6_000))
        yield f"png of 36 million pixels, {mode}", encoded(flat, "PNG", compress_level=9)
    yield "png of 36 million pixels, interlaced", interlaced(Image.new("L", (6_000, 6_000)))
    yield "tiff of 25 million floats", encoded(Image.new("F", (5_000, 5_000)), "TIFF", compression="tiff_adobe_deflate")
    yield "gif of 25 million pixels", encoded(Image.new("P", (5_000, 5_000)), "GIF", transparency=0)
    yield "webp of 25 million pixels", encoded(Image.new("RGBA", (5_000, 5_000)), "WEBP", lossless=True, method=0)
    for format in ("EPS", "PDF", "ICO", "PPM", "TGA", "PCX", "DDS", "JPEG2000", "AVIF", "IM", "MSP", "SPIDER"):
        yield f"a {format}", encoded(drawn("F" if format == "SPIDER" else "1" if format == "MSP" else "RGB"), format)
    for begin, end in (("jpeg", "png"), ("png", "gif"), ("gif", "jpeg")):
        yield f"a {begin} and a {end}", encoded(drawn(), begin.upper()) + encoded(drawn(), end.upper())
