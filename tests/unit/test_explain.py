"""The drawing of a chain shows the chain that serving takes, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image, ImageDraw

from shared.errors import UndecodableImage
from shared.numbers import PageReading
from tests.drawings import encoded
from tests.fakes import OnlyDigits
from tests.pages import PAGE, SUDOKU, number, two_digits
from tests.pictures import png, seven
from worker.image.normalise import normalise
from worker.inference import numbers_classifier
from worker.inference.classify import Classifier
from worker.inference.explain import COLOURS, WIDTH, explain, stages
from worker.inference.explain_page import cuts_of, explain_page
from worker.inference.mlp import Reading
from worker.inference.numbers_classifier import NumbersClassifier
from worker.page.layout import lay_out


class Seven(OnlyDigits):
    """A model that is 95 % sure of a 7, in a picture of a digit."""

    version = "fake-1"

    def __init__(self) -> None:
        self.card: dict[str, Any] = {}

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        row = np.full(10, 0.05 / 9, np.float32)
        row[7] = 0.95
        return np.tile(row, (len(pixels), 1))


def classifier(method: str = "mnist") -> Classifier:
    return Classifier(Seven(), 10**7, method)


def drawing(shade: int = 0) -> np.ndarray:
    """A dark 7 on light paper, the light falling off by that many levels towards the right."""
    image = Image.new("L", (200, 150), 230)
    ImageDraw.Draw(image).line([(60, 30), (130, 30), (90, 120)], fill=40, width=10)
    return (np.asarray(image) - np.linspace(0, shade, 200)).clip(0, 255).astype(np.uint8)


def like_mnist() -> np.ndarray:
    """A ring that is 20 pixels high and centred as MNIST's digits are."""
    image = Image.new("L", (28, 28))
    ImageDraw.Draw(image).ellipse((5, 5, 24, 24), outline=255, width=3)
    return np.asarray(image)


@pytest.mark.parametrize(
    "grey", [drawing(), drawing(140), 255 - drawing(), like_mnist(), np.full((50, 70), 9, np.uint8)]
)
def test_the_last_stage_is_what_normalise_returns(grey):
    name, pixels = stages(grey)[-1]
    assert name == "seen"
    assert np.array_equal(pixels, normalise(grey).pixels)


def test_a_drawing_takes_every_step_and_its_ink_lies_on_the_mask():
    steps = dict(stages(drawing()))
    assert list(steps) == ["bright", "mask", "ink", "seen"]
    assert steps["bright"][steps["mask"]].mean() > 180
    assert steps["ink"][~steps["mask"]].mean() < 0.05


def test_a_digit_like_mnists_needs_no_mask_and_a_blank_has_no_ink():
    assert [name for name, _ in stages(like_mnist())] == ["bright", "seen"]
    assert [name for name, _ in stages(np.full((50, 70), 9, np.uint8))] == ["bright", "mask", "seen"]


def test_ruling_is_shown_in_red():
    ruled = drawing()
    ruled[20::30] = 120
    assert list(dict(stages(ruled))) == ["bright", "lines", "mask", "ink", "seen"]
    for grey, red in [(drawing(), False), (ruled, True)]:
        _, sheet = explain(png(grey.tobytes(), *grey.shape[::-1]), "page.png", classifier())
        r, g, _ = np.moveaxis(np.asarray(sheet)[:380].astype(int), -1, 0)
        assert (r > g + 120).any() == red


def jpeg(image: Image.Image, turned: bool) -> bytes:
    """A JPEG, with the EXIF note that it lies on its side if `turned`."""
    exif, file = Image.Exif(), BytesIO()
    exif[0x0112] = 6 if turned else 1
    image.save(file, "JPEG", exif=exif)
    return file.getvalue()


def deep() -> bytes:
    file = BytesIO()
    Image.fromarray(drawing().astype(np.uint16) * 257).save(file, "TIFF")
    return file.getvalue()


@pytest.mark.parametrize("method", ["mnist", "seed"])
@pytest.mark.parametrize(
    "data",
    [seven(), seven(200, mode="RGBA"), seven(90, "GIF", "P"), png(), deep(), jpeg(Image.fromarray(drawing()), True)],
    ids=["small", "transparent", "palette", "blank", "16 bit", "turned"],
)
def test_every_kind_of_picture_is_drawn(data, method):
    outcome, sheet = explain(data, "a.png", classifier(method))
    assert (sheet.width, outcome.digit) == (WIDTH, 7)
    colours = sheet.getcolors(sheet.width * sheet.height)
    assert colours is not None
    assert len(colours) > 50


def test_the_upload_is_drawn_upright():
    tall = jpeg(Image.fromarray(drawing()), True)
    panel = explain(tall, "a.jpg", classifier())[1].crop((20, 120, 295, 395))
    columns = np.asarray(panel.convert("L"))[137]
    assert columns[2] == columns[-3] == 242  # the paper beside a tall picture


def test_what_cannot_be_read_is_an_error():
    with pytest.raises(UndecodableImage):
        explain(b"no picture", "a.txt", classifier())


def test_the_command_writes_the_drawing_and_prints_the_result(tmp_path, monkeypatch):
    from worker import cli

    monkeypatch.setattr("worker.inference.mlp.Mlp.load", lambda path: Seven())
    (tmp_path / "7.png").write_bytes(seven(100))
    steps = tmp_path / "steps.png"
    arguments = [str(tmp_path / "7.png"), "--out", str(steps)]
    result = CliRunner().invoke(cli.explain, arguments, catch_exceptions=False)
    assert "7  (95.0%, accept)" in result.stdout
    assert str(steps) in result.stderr
    with Image.open(steps) as drawn:
        assert drawn.width == WIDTH


def test_the_command_says_why_an_answer_is_not_accepted(tmp_path, monkeypatch):
    from worker import cli

    doubtful = Seven()
    doubtful.card["thresholds"] = {"digit": 1.1}
    monkeypatch.setattr("worker.inference.mlp.Mlp.load", lambda path: doubtful)
    (tmp_path / "7.png").write_bytes(seven(100))
    arguments = [str(tmp_path / "7.png"), "--out", str(tmp_path / "steps.png")]
    assert "reject: not_a_digit" in CliRunner().invoke(cli.explain, arguments, catch_exceptions=False).stdout


def lower_part_of_the_decision(model: Seven) -> np.ndarray:
    """Return the part of the drawing below digit and decision."""
    return np.asarray(explain(seven(), "a.png", Classifier(model, 10**7))[1].crop((905, 466, 1180, 741)).convert("L"))[
        170:
    ]


def test_the_panel_of_the_decision_says_why_and_how_likely_it_is_a_digit():
    class Doubtful(Seven):
        def __init__(self, digitness: float) -> None:
            self.card, self.digitness = {"thresholds": {"digit": 0.5}}, digitness

        def read(self, pixels: np.ndarray) -> Reading:
            return super().read(pixels)._replace(digitness=np.full(len(pixels), self.digitness, np.float32))

    panels = [lower_part_of_the_decision(model) for model in (Seven(), Doubtful(0.1), Doubtful(0.2))]
    for one, other in pairwise(panels):
        assert not np.array_equal(one, other)


def test_a_missing_file_is_a_mistake_of_usage(tmp_path: Path):
    from worker import cli

    assert CliRunner().invoke(cli.explain, [str(tmp_path / "none.png")]).exit_code == 2


def found_in(page: PageReading, monkeypatch: pytest.MonkeyPatch) -> Image.Image:
    """Draws a page of 300 by 200 pixels of which the reader says this."""
    monkeypatch.setattr(numbers_classifier, "read_pages", lambda pages, *_: [page])
    outcome, sheet = explain_page(encoded(two_digits()), "page.png", NumbersClassifier(classifier()))
    assert outcome.page == page
    return sheet


def test_a_page_is_drawn_with_boxes_in_the_colours_of_their_decisions(monkeypatch: pytest.MonkeyPatch) -> None:
    page = PageReading((number("1", 30, 50), number("2", 130, 50, "review"), number("3", 230, 50, "reject")))
    sheet = found_in(page, monkeypatch)
    assert sheet.width == WIDTH
    for one, left in (("accept", 30), ("review", 130), ("reject", 230)):
        scale = (WIDTH - 40) / 300
        edge = (20 + left * scale - 2, 64 + 60 * scale)
        assert "#{:02x}{:02x}{:02x}".format(*sheet.getpixel((round(edge[0]), round(edge[1])))) == COLOURS[one]


def test_cuts_are_drawn_where_digits_touch() -> None:
    image = Image.new("L", (400, 200), 235)
    draw = ImageDraw.Draw(image)
    for left in (60, 170):
        draw.ellipse((left, 50, left + 90, 150), outline=30, width=9)
    draw.line((148, 100, 172, 100), fill=30, width=5)
    cuts = cuts_of(lay_out(np.asarray(image)))
    assert any(145 < x < 175 and 90 < y < 110 for x, y in cuts.tolist())
    assert len(cuts_of(lay_out(np.full((200, 400), 235, np.uint8)))) == 0


def test_a_page_is_drawn_higher_with_each_row_of_text(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = tuple(number("12", 30, 10 + 40 * at) for at in range(4))
    heights = [found_in(PageReading(rows[:n]), monkeypatch).height for n in (0, 1, 4)]
    assert heights[1] - heights[0] == 34 and heights[2] - heights[1] == 3 * 34


def test_a_table_and_a_turned_page_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found_in(replace(SUDOKU, rotated=90), monkeypatch).width == WIDTH


def test_a_page_that_is_one_digit_is_drawn_step_by_step() -> None:
    _, sheet = explain_page(seven(), "a.png", NumbersClassifier(classifier()))
    assert sheet.tobytes() == explain(seven(), "a.png", classifier())[1].tobytes()


def test_the_command_draws_a_page_and_prints_its_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from worker import cli

    monkeypatch.setattr("worker.inference.mlp.Mlp.load", lambda path: Seven())
    monkeypatch.setattr(numbers_classifier, "read_pages", lambda pages, *_: [PAGE])
    (tmp_path / "page.png").write_bytes(encoded(two_digits()))
    arguments = [str(tmp_path / "page.png"), "--read", "numbers", "--out", str(tmp_path / "out.png")]
    result = CliRunner().invoke(cli.explain, arguments, catch_exceptions=False)
    assert "735426 12 / 90" in result.stdout
    with Image.open(tmp_path / "out.png") as drawn:
        assert drawn.width == WIDTH
