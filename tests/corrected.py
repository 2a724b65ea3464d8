"""Zips of corrections as the page exports them."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from zipfile import ZipFile

COLUMNS = ["path", "label", "category", "read", "confidence", "decision", "filename", "id"]
BOX = ["left", "top", "width", "height"]


def row(picture: str, label: str, box: Sequence[int] = ()) -> list[object]:
    return [f"pictures/{picture}", label, "corrected", 3, 0.41, "review", "a, photo.png", picture.split(".")[0], *box]


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """With a byte order mark and the line ends of spreadsheets, as `csv.js` writes it."""
    out = StringIO(newline="")
    csv.writer(out, lineterminator="\r\n").writerows([columns, *rows])
    return "\ufeff" + out.getvalue()


def exported(
    path: Path,
    pictures: Mapping[str, bytes],
    digits: Sequence[Sequence[object]] = (),
    none: Sequence[Sequence[object]] = (),
    boxes: Sequence[Sequence[object]] = (),
) -> Path:
    """Write an export: `index.csv` always, the other tables if they have rows, then the pictures."""
    with ZipFile(path, "w") as file:
        file.writestr("index.csv", table(COLUMNS, digits))
        if none:
            file.writestr("not_digits.csv", table(COLUMNS, none))
        if boxes:
            file.writestr("digits.csv", table([*COLUMNS, *BOX], boxes))
            file.writestr("manifest.jsonl", '{"path": "pictures/b.png", "category": "line", "lines": ["74"]}\n')
        for name, content in pictures.items():
            file.writestr(f"pictures/{name}", content)
    return path
