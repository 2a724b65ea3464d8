"""Writes an evaluation as one self-contained page: figures, plots and the mistakes as pictures."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from io import BytesIO
from pathlib import Path
from string import Template

from PIL import Image, ImageOps

from worker.inference.mlp import SIDE
from worker.training.data.pictures import Picture
from worker.training.evaluation.examine import Answer, Evaluation, Examination
from worker.training.evaluation.measures import area, calibration_error, reliability, risk_coverage
from worker.training.evaluation.plots import legend, reliability_diagram, risk_coverage_plot
from worker.training.evaluation.tables import categories, confusion, models, preprocessing, refusals

TEMPLATE = Template(Path(__file__).with_name("report.html").read_text(encoding="utf-8"))
#: Sides of the pictures in the page, in pixels: uploads are shrunk to this, never enlarged.
THUMBNAIL = 140
#: Mistakes shown for each model; the others are in report.json.
SHOWN = 200


def page(evaluation: Evaluation) -> str:
    """The report as HTML, pictures as data URIs, plots as SVG."""
    examinations = evaluation.examinations
    images = examinations[0].report.images if examinations else 0
    names = ", ".join(one.model for one in examinations)
    parts = [
        f'<div class="columns"><section>{models(examinations)}</section>{_risk(examinations)}</div>',
        _kinds(evaluation),
        _refused(evaluation),
        *(_model(one) for one in examinations),
    ]
    return TEMPLATE.substitute(
        title=escape(evaluation.title),
        subtitle=escape(f"{images:,} pictures, read by {names} behind the preprocessing {evaluation.preprocessing}."),
        body="\n".join(parts),
    )


def _risk(examinations: Sequence[Examination]) -> str:
    curves = {one.model: risk_coverage(*one.calibration) for one in examinations}
    areas = ", ".join(f"{name} {100 * area(curve):.3f} %" for name, curve in curves.items())
    return (
        '<section><h3>Risk and coverage</h3><p class="hint">The share of wrong answers among the surest ones, '
        f"by the share of answers taken; the mean over all coverages: {escape(areas)}.</p>"
        f"{legend(curves)}{risk_coverage_plot(curves)}</section>"
    )


def _kinds(evaluation: Evaluation) -> str:
    """Return the section on the effect of the preprocessing."""
    if not evaluation.conditions:
        return ""
    samples = {one.name: thumbnail(one.sample, 56, "sample crisp") for one in evaluation.conditions}
    return (
        "<h2>With and without the preprocessing</h2><p>Share in % of the same pictures that were read right "
        "<b>with</b> our preprocessing, the <b>seed</b>'s (resized, inverted, black or white) and <b>none</b> "
        f"(resized, bright taken for ink).</p>{preprocessing(evaluation, samples)}"
    )


def _refused(evaluation: Evaluation) -> str:
    """Return the section on the rejection of non-digits and digits."""
    if not evaluation.refusals:
        return ""
    samples = {}
    for one in evaluation.refusals:
        small = Image.fromarray(one.sample)
        small.thumbnail((56, 56))
        samples[one.name] = _inline(small, "sample crisp", one.name)
    return (
        "<h2>Non-digits</h2><p>Share of rejected pictures in %: all of drawings, texts, scenes and paper should be "
        f"rejected, and no digit.</p>{refusals(evaluation, samples)}"
    )


def _model(one: Examination) -> str:
    bins = reliability(*one.calibration)
    shown = "".join(_mistake(answer) for answer in one.mistakes[:SHOWN])
    left = len(one.mistakes) - SHOWN
    more = f" The other {left} are in report.json." if left > 0 else ""
    lost = one.report.undecodable
    undecodable = f"<p>{lost} could not be decoded; report.json says why.</p>" if lost else ""
    return f"""<h2>{escape(one.model)}</h2>{undecodable}{categories(one)}
<div class="columns"><section><h3>Confusion</h3>{confusion(one.report)}</section>
<section><h3>Reliability</h3><p class="hint">ECE {100 * calibration_error(bins):.2f} % in {len(bins)} bins; whiskers are
95 % intervals, on the dashed line confidence is accuracy.</p>{reliability_diagram(bins)}</section></div>
<details open><summary><b>{len(one.mistakes)} mistakes</b>, the surest first: what was uploaded, and what the model
saw.{more}</summary><div class="mistakes">{shown}</div></details>"""


def _mistake(answer: Answer) -> str:
    picture, outcome = answer
    saw = Image.frombytes("L", (SIDE, SIDE), outcome.input)
    warnings = f"<br>{escape(', '.join(outcome.warnings)).replace('_', ' ')}" if outcome.warnings else ""
    return (
        f"<figure><div>{thumbnail(picture, THUMBNAIL, 'crisp')}{_inline(saw, 'crisp', 'what the model saw')}</div>"
        f"<figcaption>a <b>{picture.label}</b>, read as <b>{outcome.digit}</b>, "
        f"{100 * (outcome.confidence or 0):.1f} %, {outcome.decision}{warnings}<br>"
        f"{escape(Path(picture.name).name)}</figcaption></figure>"
    )


def thumbnail(picture: Picture, side: int, style: str) -> str:
    """The upload, upright and at most `side` pixels high and wide, as an element; a box if it cannot be shown."""
    name = escape(picture.name, quote=True)
    try:
        with Image.open(BytesIO(picture.content())) as image:
            image.draft("RGB", (2 * side, 2 * side))
            small = ImageOps.exif_transpose(image)
            small = small.convert("RGBA") if small.has_transparency_data or small.mode == "P" else small
            small.thumbnail((side, side))
    except Exception:  # what serving refused may be damaged in any way
        return f'<span class="{style}" title="{name}"></span>'
    return _inline(small, style, name)


def _inline(image: Image.Image, style: str, alt: str) -> str:
    """A picture as an element that holds it: PNG if it is small or transparent, else JPEG."""
    file, png = BytesIO(), image.mode == "RGBA" or max(image.size) <= 2 * SIDE
    image.convert(image.mode if image.mode in ("L", "RGBA") else "RGB").save(file, "PNG" if png else "JPEG", quality=80)
    data = b64encode(file.getvalue()).decode()
    style = style if max(image.size) <= 2 * SIDE else style.replace("crisp", "").strip()
    return f'<img class="{style}" alt="{alt}" title="{alt}" src="data:image/{"png" if png else "jpeg"};base64,{data}">'
