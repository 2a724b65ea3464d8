"""Puts models where serving loads them, and keeps the one before beside it. Imports no TensorFlow."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from shared.errors import ModelError
from shared.settings import Settings
from worker.inference.mlp import CARD, checked_card
from worker.inference.served_model import load


def check_place(out: Path) -> None:
    """Raise `ModelError` unless `out` is free for a model: absent, empty, or a model itself."""
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / CARD).exists())):
        raise ModelError(f"{out} is not empty and holds no model: choose another directory")


def previous(place: Path) -> Path:
    """Return where the model is kept that was at `place` before the last promotion."""
    return place.with_name(place.name + ".previous")


def put(part: Path, out: Path, keep: bool = False) -> Path:
    """Move the model in `part` to `out`, on the same disk, replacing an earlier one. Returns `out`.

    The earlier one is moved aside first, and deleted last; with `keep` it becomes the previous one. Between the two
    moves there is none for some microseconds, which `worker.inference.served_model.load` waits for.
    """
    os.utime(part / CARD)  # also one that comes back is seen as another, whenever a worker looks
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    earlier = previous(out) if keep and (out / CARD).exists() else aside / "old"
    moves = [(earlier, aside / "older"), (out, earlier), (part, out)]
    done: list[tuple[Path, Path]] = []
    try:
        for source, target in moves if out.exists() else moves[2:]:
            if source.exists():
                source.rename(target)
                done.append((source, target))
    except OSError:
        for source, target in reversed(done):
            target.rename(source)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return out


def install(model: Path, place: Path, settings: Settings, force: bool = False) -> Path:
    """Put a copy of the model in `model` at `place`, where workers find it; the one there becomes the previous one.

    It is loaded and tested first, and nothing changes if that fails, or if it is there already. Raises `ModelError`
    for a model that does not serve here, for a `place` that holds something else or cannot be written, and, unless
    `force`, for a model that does not know what is no digit in place of one that does.
    """
    check_place(place)
    new = load(replace(settings, model_path=model)).model
    if new.card == card_in(place):
        return place
    if not force and new.outputs < _outputs_in(place, settings):
        raise ModelError(
            f"{model} takes everything for a digit, and the model in {place} knows what is none; "
            "--force puts it there nevertheless"
        )
    part = place.with_name(place.name + ".part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(model, part)
        checked_card(part)
        return put(part, place, keep=True)
    except OSError as error:
        raise ModelError(
            f"{place} cannot be replaced ({error.strerror or error}): {place.parent} has to be a directory that you "
            "may write to. A container's image is read-only: keep models in a volume, or build an image with the new "
            "one (deploy/README.md, Another model)"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def restore(place: Path, settings: Settings) -> Path:
    """Put the previous model back; the one in its place becomes the previous one. Raises as `install`."""
    kept = previous(place)
    if not (kept / CARD).exists():
        raise ModelError(f"{place} has no previous model: there is none in {kept}")
    return install(kept, place, settings, force=True)


def card_in(place: Path) -> dict[str, Any]:
    """Return the card of the model at `place`; empty if there is none, or it is damaged."""
    try:
        return dict(json.loads((place / CARD).read_bytes()))
    except (OSError, ValueError, TypeError):
        return {}


def _outputs_in(place: Path, settings: Settings) -> int:
    """Return the number of outputs of the model at `place`; 0 if there is none, or none that serves."""
    if not (place / CARD).exists():
        return 0
    try:
        return load(replace(settings, model_path=place)).model.outputs
    except ModelError:
        return 0
