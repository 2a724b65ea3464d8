"""The forms in which the clients take pictures, and the files that are sent of them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from producer.uploads.received import Pictures

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

EXPECTED = "bytes, a path, a file opened with 'rb', a NumPy array or a Pillow image"
SHAPES = "height × width, or height × width × 1, 3 (RGB) or 4 (RGBA) channels"


class Readable(Protocol):
    """A file opened with "rb", or an object like one."""

    def read(self) -> bytes:
        """Return the rest of the file."""


class Array(Protocol):
    """A NumPy array, or what NumPy makes one of, such as a tensor."""

    def __array__(self) -> Any:
        """Return the array."""


#: A picture: the bytes of an image file, its path, the open file, an array, or a Pillow image. An array has the shape
#: (height, width) or (height, width, channels), and holds integers from 0 to 255, floats from 0 to 1, or booleans.
Image: TypeAlias = "bytes | bytearray | memoryview | str | os.PathLike[str] | Readable | Array | PillowImage"
#: A picture, alone or with its name.
Picture: TypeAlias = "Image | tuple[str, Image]"
#: A batch: a zip or an IDX file in one of these forms, or pictures.
PictureBatch: TypeAlias = "bytes | bytearray | memoryview | str | os.PathLike[str] | Readable | Iterable[Picture]"


def name_and_data(picture: Picture, filename: str = "") -> tuple[str, bytes]:
    """Return a picture's name and bytes. The name is `filename`, else that of the file, else empty.

    Raises TypeError or ValueError for what is no picture, and OSError if its file cannot be read.
    """
    if isinstance(picture, tuple):
        filename, picture = picture
    if isinstance(picture, bytes | bytearray | memoryview):
        return filename, bytes(picture)
    if isinstance(picture, str | os.PathLike):
        path = Path(picture)
        return filename or path.name, path.read_bytes()
    if hasattr(picture, "read"):
        name = getattr(picture, "name", "")  # an integer if it was opened by its descriptor
        return filename or (Path(name).name if isinstance(name, str) else ""), _content(picture)
    return filename, _drawn(picture)


def batch_file(batch: PictureBatch) -> Pictures:
    """Return a batch as `gathered` takes it. Raises as `name_and_data`, also while pictures are read."""
    if isinstance(batch, bytes | bytearray | memoryview):
        return bytes(batch)
    if isinstance(batch, str | os.PathLike):
        return Path(batch)
    if hasattr(batch, "read"):
        return _content(batch)
    return map(name_and_data, batch)


def _content(file: Any) -> bytes:
    data = file.read()
    if isinstance(data, bytes):
        return data
    raise TypeError(f"expected {EXPECTED}, not a file that is read as {type(data).__name__}")


def _drawn(picture: Any) -> bytes:
    """Return an array or a Pillow image as PNG. Raises TypeError and ValueError."""
    from PIL import Image, ImageOps  # only here: the import costs more than a request

    if not isinstance(picture, Image.Image):
        if not hasattr(picture, "__array__"):
            raise TypeError(f"expected {EXPECTED}, not {type(picture).__name__}")
        picture = Image.fromarray(_pixels(picture))
    picture = ImageOps.exif_transpose(picture)
    if picture.mode not in ("1", "L", "LA", "I;16", "P", "RGB", "RGBA"):  # what PNG has
        picture = picture.convert("RGBA" if picture.mode in ("PA", "RGBa") else "RGB")
    out = BytesIO()
    picture.save(out, "PNG", compress_level=1)
    return out.getvalue()


def _pixels(picture: Array) -> Any:
    """Return an array as unsigned bytes, without a third dimension of one channel. Raises TypeError, ValueError."""
    import numpy as np  # only here: whoever has an array has NumPy

    array = np.asarray(picture)
    if array.ndim not in (2, 3) or array.shape[2:] not in ((), (1,), (3,), (4,)) or not array.size:
        raise ValueError(f"expected an array of {SHAPES}, not {array.shape}")
    if array.dtype.kind not in "biuf":
        raise TypeError(f"expected an array of numbers or booleans, not of {array.dtype}")
    most = 255 if array.dtype.kind in "iu" else 1
    if not (array.min() >= 0 and array.max() <= most):  # neither is true of NaN
        raise ValueError(f"expected {array.dtype} from 0 to {most}, found {array.min()} to {array.max()}")
    array = array if most == 255 else np.rint(array * np.float32(255))
    return array.astype(np.uint8).reshape(array.shape[:2] if array.shape[2:] == (1,) else array.shape)
