"""The drawing of a chain shows the chain that serving takes, and nothing else."""

from __future__ import annotations

from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image, ImageDraw

from shared.errors import UndecodableImage
from tests.fakes import OnlyDigits
from tests.pictures import png, seven
from worker.image.normalise import normalise
from worker.inference.classify import Classifier
from worker.inference.explain import WIDTH, explain, stages
from worker.inference.mlp import Reading


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
    """A dark 7 on light paper, the light falling off by so many levels towards the right."""
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
    """Returns the part of the drawing below digit and decision."""
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
