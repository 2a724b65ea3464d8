"""Draws how a picture is read, each step from the upload to the decision, as one image.

The steps are the arrays that the preprocessing really makes; the answer is the `Classifier`'s.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

from shared.prediction import Outcome
from worker.decoding.decode import FORMATS, decode
from worker.image.arrays import Grey
from worker.image.close_up import close_up
from worker.image.mnist_format import BOX, SIDE
from worker.image.normalise import Normalise, normalise, normalise_uneven
from worker.inference.classify import Classifier

#: Layout in pixels: eight square panels in two rows, each below its heading.
WIDTH, PANEL, GAP, TITLE, HEADING = 1200, 275, 20, 64, 56
HEIGHT = TITLE + 2 * (HEADING + PANEL + GAP)
PAPER, INK, SOFT, ACCENT, EMPTY, NOTHING = "#ffffff", "#1a1a1a", "#666666", "#0a58ca", "#e4e4e0", "#f2f2ef"
#: Colours of the decisions.
COLOURS = {"accept": "#0b6e4f", "review": "#9a5b00", "reject": "#a4001d"}

Levels = NDArray[Any]
#: Heading, caption and image of a panel.
Panel = tuple[str, str, Image.Image | None]


def stages(grey: Grey, method: Normalise = normalise) -> list[tuple[str, Levels]]:
    """Return the steps of a normalisation of uint8 [H, W] in order, by name as in `normalise.Observer`.

    A picture like MNIST's has no "mask"; without ink the mask is all False or [1, 1]. The last step is "seen", the
    model's input, float32 [28, 28] in [0, 1].
    """
    steps: list[tuple[str, Levels]] = []
    found = method(grey, lambda step, levels: steps.append((step, levels)))
    return [*steps, ("seen", found.pixels)]


def explain(data: bytes, name: str, classifier: Classifier) -> tuple[Outcome, Image.Image]:
    """Classify the picture `data`, called `name`; return the outcome, and the steps drawn, 1200 pixels wide.

    Raises the classifier's error for a picture that it cannot read, such as `UndecodableImage`.
    """
    [outcome] = classifier([data]).results
    if isinstance(outcome, Exception):
        raise outcome
    grey = decode(data, max_pixels=classifier.max_pixels)
    if classifier.method == "mnist":
        grey = close_up(grey, lambda: decode(data, max_pixels=classifier.max_pixels, whole=True)).grey
    method = normalise_uneven if "uneven_light" in outcome.warnings else normalise
    steps = dict(stages(grey, method)) if classifier.method == "mnist" else {}
    return outcome, _sheet(name, classifier.model.version, _panels(upload(data), grey, steps, outcome))


def _sheet(name: str, version: str, panels: list[Panel]) -> Image.Image:
    """Draw title and panels."""
    sheet = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, TITLE / 2), f"How {short(name)} was read", INK, font(28), "lm")
    draw.text((WIDTH - GAP, TITLE / 2), f"model {version}", SOFT, font(17), "rm")
    for number, panel in enumerate(panels):
        _place(sheet, number, *panel)
    return sheet


def _panels(upload: Image.Image, grey: Grey, steps: dict[str, Levels], outcome: Outcome) -> list[Panel]:
    return [
        ("upload", f"{upload.width} x {upload.height} pixels, upright", upload),
        ("grey", f"{grey.shape[1]} x {grey.shape[0]}, levels {grey.min()} to {grey.max()}", Image.fromarray(grey)),
        *_steps(steps, outcome),
        ("28 x 28", "what the model saw", Image.frombytes("L", (SIDE, SIDE), outcome.input)),
        ("ten bars", "the probability of each digit", _bars(outcome)),
        ("decision", "reason and warnings", _decision(outcome)),
    ]


def _steps(steps: dict[str, Levels], outcome: Outcome) -> list[Panel]:
    """Return the panels between grey and 28 x 28, without an image for steps that were not needed."""
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
    """Convert grey levels, a mask, or ink in [0, 1]."""
    if levels is None:
        return None
    return Image.fromarray(levels if levels.dtype == np.uint8 else np.rint(levels * np.float32(255)).astype(np.uint8))


def _marked(picture: Image.Image | None, lines: Levels | None) -> Image.Image | None:
    """Colour the ruling red."""
    if picture is None or lines is None:
        return picture
    marked = picture.convert("RGB")
    marked.paste("#d0302a", mask=Image.fromarray(lines))
    return marked


def _crop(ink: Levels | None, mask: Levels | None) -> Image.Image | None:
    """Crop the ink to the bounds of the mask, in the 20 x 20 box that is outlined within 28 x 28."""
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


def upload(data: bytes) -> Image.Image:
    """Open the picture as a person sees it: in colour, upright, transparency on a light background."""
    image = ImageOps.exif_transpose(Image.open(BytesIO(data), formats=FORMATS))
    if image.has_transparency_data:
        ground = Image.new("RGBA", image.size, EMPTY)
        ground.alpha_composite(image.convert("RGBA"))
        return ground.convert("RGB")
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def _bars(outcome: Outcome) -> Image.Image:
    panel = Image.new("RGB", (PANEL, PANEL), PAPER)
    draw, step = ImageDraw.Draw(panel), PANEL / 10
    for digit, share in enumerate(outcome.probabilities or ()):
        top, middle = digit * step, (digit + 0.5) * step
        best = digit == outcome.digit
        draw.text((6, middle), str(digit), INK if best else SOFT, font(17), "lm")
        draw.rectangle((28, top + 5, 192, top + step - 5), EMPTY)
        if share >= 0.005:
            draw.rectangle((28, top + 5, 28 + 164 * share, top + step - 5), ACCENT if best else SOFT)
        draw.text((PANEL - 8, middle), f"{100 * share:.1f} %", INK if best else SOFT, font(16), "rm")
    return panel


def _decision(outcome: Outcome) -> Image.Image:
    panel = Image.new("RGB", (PANEL, PANEL), NOTHING)
    draw, colour = ImageDraw.Draw(panel), COLOURS[outcome.decision]
    draw.text((PANEL / 2, 16), str(outcome.digit), colour, font(110), "ma")
    draw.text((PANEL / 2, 150), f"{outcome.decision}, {100 * (outcome.confidence or 0):.1f} %", colour, font(24), "mm")
    noticed = dict.fromkeys(filter(None, (outcome.reason, *outcome.warnings)))
    lines = [word.replace("_", " ") for word in noticed] or ["no warnings"]
    if outcome.reason == "not_a_digit":
        lines[0] += f" ({100 * outcome.digitness:.1f} % that it is)"
    draw.multiline_text((PANEL / 2, 176), "\n".join(lines), SOFT, font(17), "ma", align="center")
    return panel


def _place(sheet: Image.Image, number: int, heading: str, caption: str, image: Image.Image | None) -> None:
    """Draw the panel with this number, from 0, in its place."""
    left = GAP + number % 4 * (PANEL + GAP)
    top = TITLE + number // 4 * (HEADING + PANEL + GAP)
    draw = ImageDraw.Draw(sheet)
    draw.text((left, top), f"{number + 1}  {heading}", INK, font(20), "la")
    draw.text((left, top + 28), caption, SOFT, font(15), "la")
    area = Image.new("RGB", (PANEL, PANEL), NOTHING)
    if image is None:
        ImageDraw.Draw(area).line((PANEL / 2 - 12, PANEL / 2, PANEL / 2 + 12, PANEL / 2), SOFT, 3)
    else:
        method = Image.Resampling.NEAREST if max(image.size) < PANEL else Image.Resampling.LANCZOS
        fitted = ImageOps.contain(image.convert("RGB"), (PANEL, PANEL), method)
        area.paste(fitted, ((PANEL - fitted.width) // 2, (PANEL - fitted.height) // 2))
    sheet.paste(area, (left, top + HEADING))
    draw.rectangle((left - 1, top + HEADING - 1, left + PANEL, top + HEADING + PANEL), outline=EMPTY)


def short(name: str) -> str:
    """Shorten the name of a picture to what fits a title."""
    return name if len(name) <= 48 else f"{name[:30]}...{name[-15:]}"


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return the font for text of this height in pixels."""
    return ImageFont.load_default(size)
