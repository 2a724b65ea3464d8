"""Letters and signs as pictures of ink: written in single strokes, and set in the TrueType fonts that there are.

A form is written as strokes, a stroke as points "xy" on a grid from 0 to 9 (y down): "0950 5099 2676" is an A.
As in `strokes`, two points are joined by a slight arc, three by a corner, more by a curve.
"""

from __future__ import annotations

import zlib
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from worker.training.drawing.strokes import Stroke, _shaken

Picture = NDArray[np.uint8]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

#: Handwritten, these may be digits; what a model is to make of them is not decided here.
LOOKALIKES = frozenset("OoQDIil|!/()[]{}1ZzSsbGgqyB")
LETTERS = "".join(sorted(set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") - LOOKALIKES))
SIGNS = "+=?%&@#*<>~^€£¥"
#: Digits of other scripts (Arabic, Persian, Devanagari, Bengali), without those that are much like 0, 1, 2, 3, 8 or 9.
#: The 5 and 6 of Arabic remain: they are like a 0 and a 7 by another hand.
NUMERALS = "٢٣٤٥٦٧٨۴۵۶४५६८৩৫৬"

#: Latin, then Greek and Cyrillic letters as strokes.
WRITTEN = {
    "A": "0950 5099 2676",
    "C": "82502215285988",
    "E": "1019 1090 1575 1999",
    "F": "1019 1090 1575",
    "H": "1019 9099 1595",
    "J": "7076592816 3090",
    "K": "1019 8015 1599",
    "L": "101999",
    "M": "1910 1055 5590 9099",
    "N": "1910 1099 9990",
    "P": "1019 1070826515",
    "R": "1019 1070826515 4599",
    "T": "0090 5059",
    "U": "101639698680",
    "V": "005990",
    "W": "0029 2950 5079 7990",
    "X": "0099 9009",
    "Y": "0055 9055 5559",
    "d": "8089 855416396987",
    "e": "159581502115396998",
    "f": "81604249 1474",
    "h": "1019 1634647679",
    "k": "1019 7315 1579",
    "m": "0209 04224349 44629399",
    "n": "1219 1432628489",
    "r": "2229 25426282",
    "t": "50576988 1383",
    "u": "1216396987 8289",
    "Я": "8089 8030123585 5519",
    "Ж": "0099 9009 5059",
    "И": "1019 1990 9099",
    "Ш": "0009 5059 9099 0999",
    "Ф": "5059 52131657969352",
    "Π": "1019 1090 9099",
    "Γ": "1019 1090",
    "Λ": "0950 5099",
    "Σ": "9000 0055 5509 0999",
    "Ω": "093915215081957999",
    "Ψ": "5059 0114569491",
    "λ": "1099 5509",
    "π": "0090 2029 7079",
    "ω": "200529485468899570",
}
#: Signs as strokes, by their names.
DRAWN = {
    "plus": "5059 0595",
    "minus": "0595",
    "equals": "0393 0797",
    "hash": "3029 7069 0393 0696",
    "asterisk": "5059 1288 8218",
    "less": "900599",
    "check mark": "053990",
    "arrow": "0595 6295 9568",
    "heart": "591502205380928559",
    "star": "5089 8903 0393 9329 2950",
    "smiley": "501205285988958250 3334 6364 36476776",
    "house": "0550 5095 1519 8589 1989",
    "euro": "82502215285988 0464 0666",
    "yen": "0055 9055 5559 2575 2777",
}
#: Signs of arithmetic and punctuation as strokes, by the sign: the height as they are written beside a digit of height
#: 1, the place of their middle from 0 at its top to 1 at its foot, and the form.
ARITHMETIC = {
    "+": (0.6, 0.5, "5059 0595"),
    "-": (0.55, 0.55, "0595"),
    "×": (0.45, 0.6, "1188 8118"),
    "÷": (0.55, 0.55, "0595 5152 5758"),
    "=": (0.55, 0.55, "0393 0797"),
    "(": (1.2, 0.55, "503224263859"),
    ")": (1.2, 0.55, "305264665839"),
    "[": (1.15, 0.5, "50202959"),
    "]": (1.15, 0.5, "20505929"),
    "/": (1.1, 0.5, "8019"),
    "<": (0.55, 0.55, "910598"),
    ">": (0.55, 0.55, "019508"),
    ".": (0.6, 0.95, "4849"),
    ",": (0.6, 1.0, "554739"),
    ":": (0.6, 0.6, "5253 5758"),
    "%": (1.0, 0.5, "9009 2011223120 7768798877"),
    "√": (1.1, 0.45, "0526496090"),
}

#: The height of a letter in a font, and the side of a written one, in pixels.
SIZE = 56
#: Where systems keep their fonts.
FOLDERS = (
    *("/usr/share/fonts", "/usr/local/share/fonts", "/System/Library/Fonts", "/Library/Fonts", "C:/Windows/Fonts"),
    str(Path.home() / ".local/share/fonts"),
)
#: In the names of fonts whose letters may be anything, or missing.
_NO_LETTERS = ("sym", "math", "emoji", "dingbat", "icon", "cmex", "cmsy", "cmmi", "webding", "wingding", "lastresort")


def write(form: str, rng: np.random.Generator, pen: float | None = None) -> Picture:
    """Strokes, see above -> ink 255 on 0, uint8 [h, w], by a shaky, slanting hand.

    `pen` is the width of the strokes as a part of SIZE, at random if None.
    """
    lines = [_shaken(_points(stroke), rng) for stroke in form.split()]
    turn = np.array([[rng.uniform(0.6, 1.1), 0.0], [-rng.normal(0, 0.18), 1.0]])
    lines = [line @ turn for line in lines]
    thickness = max(1, round(SIZE * (pen or rng.uniform(0.03, 0.15))))
    every = np.concatenate(lines)
    low, high = every.min(axis=0), every.max(axis=0)
    width, height = (int(length) + 2 * thickness for length in (high - low) * SIZE)
    picture = np.zeros((height, width), np.uint8)
    for line in lines:
        placed = ((line - low) * SIZE + thickness) * 16  # sixteenths of a pixel, for smooth edges
        cv2.polylines(picture, [np.rint(placed).astype(np.int32)], False, 255, thickness, cv2.LINE_AA, 4)
    return picture


def _points(stroke: str) -> Stroke:
    return [(int(x) / 9, int(y) / 9) for x, y in zip(stroke[::2], stroke[1::2], strict=True)]


def prints(text: str, font: Font) -> bool:
    """Tell whether the font has the character."""
    drawn = print_(text, font)
    return bool(drawn.any()) and not np.array_equal(drawn, print_("\uffff", font))


def print_(text: str, font: Font) -> Picture:
    """Text set in the font -> ink 255 on 0, uint8 [h, w], with a margin; a blank of 1 x 1 without ink."""
    left, top, right, bottom = (round(edge) for edge in font.getbbox(text))
    if right <= left or bottom <= top:
        return np.zeros((1, 1), np.uint8)
    image = Image.new("L", (right - left + 8, bottom - top + 8))
    ImageDraw.Draw(image).text((4 - left, 4 - top), text, font=font, fill=255)
    return np.asarray(image)


@lru_cache(maxsize=2)
def fonts(held_out: bool) -> tuple[Font, ...]:
    """The fonts to train with, Pillow's own among them, or those held out to evaluate with: none, if there are none.

    A family is held out by its name, so that no weight of it and no other machine has it on the other side.
    """
    found = [_font(path) for path in font_files() if _is_held_out(path) == held_out]
    own = [] if held_out else [ImageFont.load_default(SIZE)]
    return (*own, *(font for font in found if font))


def font_files() -> list[Path]:
    """TrueType files of the system and of matplotlib, one for each name, in order of their names."""
    spec = find_spec("matplotlib")
    inside = [str(Path(spec.origin).parent / "mpl-data" / "fonts")] if spec and spec.origin else []
    every = (path for folder in (*FOLDERS, *inside) for path in Path(folder).rglob("*.[to]tf"))
    named = {path.name: path for path in every if not any(word in path.name.lower() for word in _NO_LETTERS)}
    return [named[name] for name in sorted(named)]


def _is_held_out(path: Path) -> bool:
    """One family of three, by the name before the weight."""
    return zlib.crc32(path.stem.split("-")[0].lower().encode()) % 3 == 0


def _font(path: Path) -> Font | None:
    """The font, or None if it cannot be read or has no letters: then all of them are the same box."""
    try:
        font = ImageFont.truetype(str(path), SIZE)
        return font if bytes(font.getmask("A")) != bytes(font.getmask("k")) else None
    except OSError:
        return None
