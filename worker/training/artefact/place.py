"""Puts models where serving loads them, and keeps the one before beside it. Imports no TensorFlow."""

from __future__ import annotations

import ctypes
import errno
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

#: Of `linux/fcntl.h` and `linux/fs.h`: paths are relative to the present directory; both are to change places.
CWD, EXCHANGE = -100, 2


def check_place(out: Path) -> None:
    """Raise `ModelError` unless `out` is free for a model: absent, empty, or a model itself."""
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / CARD).exists())):
        raise ModelError(f"{out} is not empty and holds no model: choose another directory")


def previous(place: Path) -> Path:
    """Return where the model is kept that was at `place` before the last promotion."""
    return place.with_name(place.name + ".previous")


def put(part: Path, out: Path, keep: bool = False) -> Path:
    """Move the model in `part` to `out`, on the same disk, replacing an earlier one. Returns `out`.

    The two change places at once: whoever is killed on the way leaves a whole model at `out`, and what it leaves beside
    it is in nobody's way. Then the earlier one is deleted; with `keep` it becomes the previous one.
    """
    os.utime(part / CARD)  # also one that comes back is seen as another, whenever a worker looks
    if not out.exists():
        return part.rename(out)
    exchange(part, out)
    if keep and (part / CARD).exists():
        try:
            _replace(part, previous(out))
        except OSError:
            exchange(part, out)
            raise
    shutil.rmtree(part, ignore_errors=True)
    return out


def _replace(part: Path, out: Path) -> None:
    """Move `part` to `out`, and the model that was there to `part`."""
    if out.exists():
        exchange(part, out)
    else:
        part.rename(out)


def exchange(one: Path, other: Path) -> None:
    """Have two paths change places, at once where Linux and the file system can (`renameat2`), else in three moves.

    Between the moves there is nothing at `other` for some microseconds, which `worker.inference.served_model.load`
    waits for. Raises `OSError`; then both are where they were.
    """
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:  # no Linux, or an old C library
        code = errno.ENOSYS
    else:
        code = ctypes.get_errno() if renameat2(CWD, bytes(one), CWD, bytes(other), EXCHANGE) else 0
    if code in (errno.ENOSYS, errno.EINVAL):
        _exchange_in_moves(one, other)
    elif code:
        raise OSError(code, os.strerror(code), str(one), None, str(other))


def _exchange_in_moves(one: Path, other: Path) -> None:
    aside = Path(tempfile.mkdtemp(prefix=f".{other.name}-", dir=other.parent))
    moves = [(other, aside / "other"), (one, other), (aside / "other", one)]
    done: list[tuple[Path, Path]] = []
    try:
        for source, target in moves:
            source.rename(target)
            done.append((source, target))
    except OSError:
        for source, target in reversed(done):
            target.rename(source)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


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
