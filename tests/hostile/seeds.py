"""Valid pictures of every kind of each format, drawn and encoded here: the seeds of the mutations."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from functools import cache
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, ImageCms

import worker.decoding.heif  # noqa: F401  # tells Pillow of HEIF
from tests.pictures import png_chunk, seven

SIZE = 40


@cache
def seeds() -> dict[str, bytes]:
    """Name -> file, each read by a worker without complaint; a few kilobytes at most."""
    return dict([*_png(), *_jpeg(), *_gif(), *_webp(), *_bmp(), *_tiff(), *_avif(), *_heif()])


def drawn(mode: str = "L", size: tuple[int, int] = (SIZE, SIZE)) -> Image.Image:
    """A 7 of this mode, with a little colour where the mode has any."""
    seven_ = Image.open(BytesIO(seven(SIZE))).resize(size)
    if mode in ("L", "1", "I", "F"):
        return seven_.convert(mode)
    if mode == "I;16":
        return Image.fromarray(np.asarray(seven_).astype(np.uint16) * 257)
    if mode == "LAB":
        return Image.merge("LAB", [seven_] * 3)
    if mode in ("LA", "RGBA"):
        return Image.merge(mode, [seven_] * len(mode))
    colour = Image.merge("RGB", (seven_, seven_.point(lambda level: 255 - level // 2), seven_))
    return colour.convert(mode)


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    """A file."""
    out = BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def _animated(format: str, mode: str = "RGB", **options: Any) -> bytes:
    frames = [drawn(mode).rotate(20 * turn) for turn in range(3)]
    return encoded(frames[0], format, save_all=True, append_images=frames[1:], **options)


def _exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E], exif[0x8298] = 6, "seven", "\u202eevil/../"
    return exif


def _png() -> Iterator[tuple[str, bytes]]:
    yield "png-usual", encoded(drawn("L", (28, 28)), "PNG")  # read by worker/decoding/fast_png.py
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        yield f"png-{mode}", encoded(drawn(mode), "PNG")
    yield "png-transparent-colour", encoded(drawn("RGB"), "PNG", transparency=(0, 255, 0))
    yield "png-transparent-palette", encoded(drawn("P"), "PNG", transparency=bytes(range(256)))
    yield "png-exif-icc", encoded(drawn("RGB"), "PNG", exif=_exif(), icc_profile=b"no profile at all" * 9)
    yield "png-animated", _animated("PNG")
    yield "png-interlaced", interlaced(drawn())
    yield "png-narrow", encoded(drawn("L", (1, 300)), "PNG")
    yield "png-flat", encoded(drawn("RGB", (300, 1)), "PNG")
    yield "png-one", encoded(drawn("RGBA", (1, 1)), "PNG")


def interlaced(image: Image.Image) -> bytes:
    """An 8-bit grey PNG in the seven passes of Adam7, which Pillow does not write."""
    levels, rows = np.asarray(image), b""
    for top, left, down, right in (
        (0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)
    ):  # fmt: skip
        part = levels[top::down, left::right]
        rows += b"".join(b"\0" + row.tobytes() for row in part if row.size)
    head = struct.pack(">IIBBBBB", image.width, image.height, 8, 0, 0, 0, 1)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, data) for kind, data in chunks)


def _jpeg() -> Iterator[tuple[str, bytes]]:
    for mode in ("L", "RGB", "CMYK"):
        for progressive in (False, True):
            yield f"jpeg-{mode}-{progressive}", encoded(drawn(mode), "JPEG", progressive=progressive)
    yield "jpeg-rgb-components", encoded(drawn("RGB"), "JPEG", keep_rgb=True)
    yield "jpeg-restarts", encoded(drawn("RGB"), "JPEG", restart_marker_rows=1, subsampling=2)
    yield "jpeg-exif-icc", encoded(drawn("RGB"), "JPEG", exif=_exif(), icc_profile=bytes(range(256)))
    yield "jpeg-several", _animated("MPO")


def _gif() -> Iterator[tuple[str, bytes]]:
    yield "gif-P", encoded(drawn("P"), "GIF")
    yield "gif-L", encoded(drawn(), "GIF", interlace=0)
    yield "gif-transparent", encoded(drawn("P"), "GIF", transparency=0)
    yield "gif-animated", _animated("GIF", disposal=2, comment=b"x" * 300)


def _webp() -> Iterator[tuple[str, bytes]]:
    yield "webp-lossy", encoded(drawn("RGB"), "WEBP", exif=_exif(), icc_profile=b"none")
    yield "webp-lossless", encoded(drawn("RGBA"), "WEBP", lossless=True)
    yield "webp-alpha", encoded(drawn("RGBA"), "WEBP")
    yield "webp-animated", _animated("WEBP")


def _bmp() -> Iterator[tuple[str, bytes]]:
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        yield f"bmp-{mode}", encoded(drawn(mode), "BMP")
    palette = b"".join(bytes((level, level, level, 0)) for level in range(256))
    runs = b"".join(b"\x14\0\x14\xff\0\0" for _ in range(SIZE)) + b"\0\1"
    head = struct.pack("<IiiHHIIiiII", 40, SIZE, SIZE, 1, 8, 1, len(runs), 0, 0, 256, 0)
    yield "bmp-runs", b"BM" + struct.pack("<IHHI", 54 + 1024 + len(runs), 0, 0, 54 + 1024) + head + palette + runs
    rows = b"\x1f\xf8" * SIZE * SIZE
    head = struct.pack("<IiiHHIIiiII3I", 40, SIZE, -SIZE, 1, 16, 3, len(rows), 0, 0, 0, 0, 0xF800, 0x7E0, 0x1F)
    yield "bmp-fields", b"BM" + struct.pack("<IHHI", 66 + len(rows), 0, 0, 66) + head + rows


def _avif() -> Iterator[tuple[str, bytes]]:
    for mode in ("L", "RGB", "RGBA"):
        yield f"avif-{mode}", encoded(drawn(mode), "AVIF", speed=10)
    yield "avif-exif-icc", encoded(drawn("RGB"), "AVIF", speed=10, exif=_exif(), icc_profile=_profile())
    yield "avif-animated", _animated("AVIF", speed=10)


def _heif() -> Iterator[tuple[str, bytes]]:
    for mode in ("L", "LA", "RGB", "RGBA", "I;16"):
        yield f"heif-{mode}", encoded(drawn(mode), "HEIF")
    yield "heif-lossless", encoded(drawn("RGB"), "HEIF", quality=-1, chroma=444)
    yield "heif-exif-icc", encoded(drawn("RGB"), "HEIF", exif=_exif().tobytes(), icc_profile=_profile())
    yield "heif-thumbnail", encoded(drawn("RGB", (128, 128)), "HEIF", thumbnails=[64])
    yield "heif-several", _animated("HEIF", primary_index=1)
    yield "heif-tiles", encoded(drawn("RGB", (160, 130)), "HEIF", grid_tile_size=64)


def _profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _tiff() -> Iterator[tuple[str, bytes]]:
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "I", "F"):
        yield f"tiff-{mode}", encoded(drawn(mode), "TIFF")
    for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "lzma", "zstd"):
        yield f"tiff-{name}", encoded(drawn("RGB"), "TIFF", compression=name)
    for name in ("group3", "group4", "tiff_ccitt"):
        yield f"tiff-{name}", encoded(drawn("1"), "TIFF", compression=name)
    yield "tiff-big", encoded(drawn("RGB"), "TIFF", big_tiff=True, compression="tiff_lzw")
    yield "tiff-several", _animated("TIFF", exif=_exif())
    levels = np.asarray(drawn()).astype(np.float32)
    levels[:9, :9] = [[np.nan, np.inf, -np.inf, 1e38, -1e38, 1e-45, -0.0, 3e38, np.nan]]
    yield "tiff-nan", encoded(Image.fromarray(levels), "TIFF")
