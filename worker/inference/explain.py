"""A picture of how a picture was read: every step of the chain, from the upload to the decision, in one PNG.

Nothing is drawn that was not so: the steps are what the preprocessing shows on its way, the
answer is the `Classifier`'s.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

from shared.prediction import Outcome
from worker.decoding.decode import FORMATS, decode
from worker.image.fit import BOX, SIDE
from worker.image.ink import Grey
from worker.image.near import near
from worker.image.preprocess import Look, evened, normalise
from worker.inference.classify import Classifier

#: In pixels: eight square panels in rows of four, their headings above them.
WIDTH, PANEL, GAP, TITLE, HEADING = 1200, 275, 20, 64, 56
HEIGHT = TITLE + 2 * (HEADING + PANEL + GAP)
PAPER, INK, SOFT, ACCENT, EMPTY, NOTHING = "#ffffff", "#1a1a1a", "#666666", "#0a58ca", "#e4e4e0", "#f2f2ef"
#: Decision -> colour.
COLOURS = {"accept": "#0b6e4f", "review": "#9a5b00", "reject": "#a4001d"}

Levels = NDArray[Any]


def stages(grey: Grey, look: Look = normalise) -> list[tuple[str, Levels]]:
    """Grey levels uint8 [H, W] -> what `normalise` or `evened` makes of them, in order; the last is "seen", its result.

    "bright" uint8 [h, w]; "lines" bool [h, w] if the paper was ruled; "mask" bool [h, w] unless it is like MNIST
    already (all False or [1, 1]: no ink); "ink" float32 [h, w] in [0, 1] if there is any; "seen" float32 [28, 28] in
    [0, 1].
    """
    steps: list[tuple[str, Levels]] = []
    seen = look(grey, lambda stage, levels: steps.append((stage, levels)))
    return [*steps, ("seen", seen.pixels)]


def explain(data: bytes, name: str, classifier: Classifier) -> tuple[Outcome, Image.Image]:
    """The bytes of a picture called `name` -> how it is read, and the steps drawn, 1200 pixels wide.

    Raises what the classifier has for a picture that it cannot read, such as `UndecodableImage`.
    """
    [outcome] = classifier([data]).results
    if isinstance(outcome, Exception):
        raise outcome
    grey = decode(data, max_pixels=classifier.max_pixels)
    upload = _upload(data)
    if classifier.method == "mnist":
        grey = near(grey, lambda: decode(data, max_pixels=classifier.max_pixels, whole=True)).grey
    look = evened if "uneven_light" in outcome.warnings else normalise
    steps = dict(stages(grey, look)) if classifier.method == "mnist" else {}
    sheet = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, TITLE / 2), f"How {_short(name)} was read", INK, _font(28), "lm")
    draw.text((WIDTH - GAP, TITLE / 2), f"model {classifier.model.version}", SOFT, _font(17), "rm")
    panels = [
        ("upload", f"{upload.width} x {upload.height} pixels, upright", upload),
        ("grey", _span(grey), Image.fromarray(grey)),
        *_steps(steps, outcome),
        ("28 x 28", "what the model saw", Image.frombytes("L", (SIDE, SIDE), outcome.input)),
        ("ten bars", "how likely each digit is", _bars(outcome)),
        ("decision", "why, and what was noticed", _decision(outcome)),
    ]
    for number, (heading, caption, image) in enumerate(panels):
        _place(sheet, number, heading, caption, image)
    return outcome, sheet


def _steps(steps: dict[str, Levels], outcome: Outcome) -> list[tuple[str, str, Image.Image | None]]:
    """Headings, captions and pictures of what lies between grey and 28 x 28; None for what was not needed."""
    bright, lines, mask, ink = (steps.get(stage) for stage in ("bright", "lines", "mask", "ink"))
    polarity = "ink was dark: inverted" if "inverted" in outcome.warnings else "ink was bright already"
    polarity = polarity if "no_ink" not in outcome.warnings else "nothing stands out"
    polarity += "; red is left out" if lines is not None else ""
    cut = "scaled to fit it" if ink is not None else "no ink was found"
    missing = "not needed: as in MNIST" if bright is not None else "not in this preprocessing"
    return [
        ("bright ink", polarity if bright is not None else missing, _marked(_image(bright), lines)),
        ("mask", "what belongs to the digit" if mask is not None else missing, _image(mask)),
        (f"{BOX} x {BOX} box", cut if mask is not None else missing, _crop(ink, mask)),
    ]


def _image(levels: Levels | None) -> Image.Image | None:
    """Grey levels, a mask, or ink in [0, 1], as a picture."""
    if levels is None:
        return None
    return Image.fromarray(levels if levels.dtype == np.uint8 else np.rint(levels * np.float32(255)).astype(np.uint8))


def _marked(picture: Image.Image | None, lines: Levels | None) -> Image.Image | None:
    """The picture with its ruling in red."""
    if picture is None or lines is None:
        return picture
    marked = picture.convert("RGB")
    marked.paste("#d0302a", mask=Image.fromarray(lines))
    return marked


def _crop(ink: Levels | None, mask: Levels | None) -> Image.Image | None:
    """The ink within the bounds of the mask, in a box that is to 28 x 28 as it will be, and the box's outline."""
    if ink is None or mask is None:
        return None
    box = Image.fromarray(mask).getbbox() or (0, 0, 1, 1)
    cut = Image.fromarray(np.rint(ink * np.float32(255)).astype(np.uint8)).crop(box)
    side = PANEL * BOX // SIDE
    frame = Image.new("RGB", (PANEL, PANEL), "black")
    cut = ImageOps.contain(
        cut, (side, side), Image.Resampling.NEAREST if max(cut.size) < side else Image.Resampling.BOX
    )
    frame.paste(cut.convert("RGB"), ((PANEL - cut.width) // 2, (PANEL - cut.height) // 2))
    margin = (PANEL - side) // 2
    ImageDraw.Draw(frame).rectangle((margin, margin, PANEL - margin, PANEL - margin), outline="#4c8dff")
    return frame


def _upload(data: bytes) -> Image.Image:
    """The picture as a person would see it: in colour, upright, transparency on a light ground."""
    image = ImageOps.exif_transpose(Image.open(BytesIO(data), formats=FORMATS))
    if image.has_transparency_data:
        ground = Image.new("RGBA", image.size, EMPTY)
        ground.alpha_composite(image.convert("RGBA"))
        return ground.convert("RGB")
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def _bars(outcome: Outcome) -> Image.Image:
    panel = Image.new("RGB", (PANEL, PANEL), PAPER)
    draw, step = ImageDraw.Draw(panel), PANEL / 10
    for digit, share in enumerate(outcome.probabilities):
        top, middle = digit * step, (digit + 0.5) * step
        best = digit == outcome.digit
        draw.text((6, middle), str(digit), INK if best else SOFT, _font(17), "lm")
        draw.rectangle((28, top + 5, 192, top + step - 5), EMPTY)
        if share >= 0.005:
            draw.rectangle((28, top + 5, 28 + 164 * share, top + step - 5), ACCENT if best else SOFT)
        draw.text((PANEL - 8, middle), f"{100 * share:.1f} %", INK if best else SOFT, _font(16), "rm")
    return panel


def _decision(outcome: Outcome) -> Image.Image:
    panel = Image.new("RGB", (PANEL, PANEL), NOTHING)
    draw, colour = ImageDraw.Draw(panel), COLOURS[outcome.decision]
    draw.text((PANEL / 2, 16), str(outcome.digit), colour, _font(110), "ma")
    draw.text((PANEL / 2, 150), f"{outcome.decision}, {100 * outcome.confidence:.1f} %", colour, _font(24), "mm")
    noticed = dict.fromkeys(filter(None, (outcome.reason, *outcome.warnings)))
    lines = [word.replace("_", " ") for word in noticed] or ["no warnings"]
    if outcome.reason == "not_a_digit":
        lines[0] += f" ({100 * outcome.digitness:.1f} % that it is)"
    draw.multiline_text((PANEL / 2, 176), "\n".join(lines), SOFT, _font(17), "ma", align="center")
    return panel


def _place(sheet: Image.Image, number: int, heading: str, caption: str, image: Image.Image | None) -> None:
    """Draw the panel where its number, from 0, has its place."""
    left = GAP + number % 4 * (PANEL + GAP)
    top = TITLE + number // 4 * (HEADING + PANEL + GAP)
    draw = ImageDraw.Draw(sheet)
    draw.text((left, top), f"{number + 1}  {heading}", INK, _font(20), "la")
    draw.text((left, top + 28), caption, SOFT, _font(15), "la")
    area = Image.new("RGB", (PANEL, PANEL), NOTHING)
    if image is None:
        ImageDraw.Draw(area).line((PANEL / 2 - 12, PANEL / 2, PANEL / 2 + 12, PANEL / 2), SOFT, 3)
    else:
        method = Image.Resampling.NEAREST if max(image.size) < PANEL else Image.Resampling.LANCZOS
        fitted = ImageOps.contain(image.convert("RGB"), (PANEL, PANEL), method)
        area.paste(fitted, ((PANEL - fitted.width) // 2, (PANEL - fitted.height) // 2))
    sheet.paste(area, (left, top + HEADING))
    draw.rectangle((left - 1, top + HEADING - 1, left + PANEL, top + HEADING + PANEL), outline=EMPTY)


def _span(grey: Grey) -> str:
    return f"{grey.shape[1]} x {grey.shape[0]}, levels {grey.min()} to {grey.max()}"


def _short(name: str) -> str:
    return name if len(name) <= 48 else f"{name[:30]}...{name[-15:]}"


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
