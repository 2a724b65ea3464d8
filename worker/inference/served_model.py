"""Loads and tests the model of a process, and another one once that is in the directory."""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from shared.errors import ModelError
from shared.settings import Settings
from worker.image.preprocess import PREPROCESSING_VERSION
from worker.inference import golden
from worker.inference.classify import Classifier
from worker.inference.mlp import Mlp

log = logging.getLogger("digitq.worker")

#: Seconds between two looks at the directory.
LOOK_SECONDS = 1.0
#: Seconds that a missing model may take to come: a promotion moves one away and the other to its place.
PATIENCE_SECONDS = 1.0
#: Seconds after which a directory that changes again and again is given up.
RESTLESS_SECONDS = 60.0

#: Path, inode, time of change and size of each file of a model; empty if there is none.
Files = tuple[tuple[str, int, int, int], ...]


def files_in(path: Path) -> Files:
    """Return what tells a model's files from those of another, or of the same one after it was put back.

    It reads none of them, and takes 30 us of CPU.
    """
    found: list[tuple[str, int, int, int]] = []
    folders = [str(path)]
    try:
        while folders:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir():
                        folders.append(entry.path)
                    else:
                        about = entry.stat()
                        found.append((entry.path, about.st_ino, about.st_mtime_ns, about.st_size))
    except OSError:
        return ()
    return tuple(sorted(found))


class Loaded(NamedTuple):
    """A model that has passed its self-test, its classifier, and the files from which it was loaded."""

    model: Mlp
    classifier: Classifier
    files: Files


def load(settings: Settings) -> Loaded:
    """Load, warm up and self-test the model that the settings name. Raises ModelError.

    All of it is of one model: if another one is promoted meanwhile, that one is loaded.
    """
    path, start = settings.model_path, time.monotonic()
    missing: float | None = None  # since when
    while True:
        before = files_in(path)
        missing = None if before else missing or time.monotonic()
        failed: ModelError | None = None
        try:
            found = _tested(settings)
        except ModelError as error:
            failed = error
        now, unchanged = time.monotonic(), files_in(path) == before
        if failed and unchanged and (missing is None or now - missing > PATIENCE_SECONDS):
            raise failed
        if unchanged and not failed:
            return Loaded(*found, before)
        if now - start > RESTLESS_SECONDS:
            raise failed or ModelError(f"{path} is replaced again and again: it could not be loaded in between")
        time.sleep(0.01)


def _tested(settings: Settings) -> tuple[Mlp, Classifier]:
    path = settings.model_path
    model = Mlp.to_serve(path, settings.device)
    _check_preprocessing(path, model.card)
    model.warm_up()
    golden.check(Classifier(model, settings.max_pixels), path)
    return model, Classifier(model, settings.max_pixels, settings.preprocessing)


def _check_preprocessing(path: Path, card: dict[str, Any]) -> None:
    """Raise ModelError if the model was trained with a preprocessing that this version does not know."""
    trained, (kind, newest) = str(card.get("preprocessing", "seed")), PREPROCESSING_VERSION.split("-")
    match = re.fullmatch(rf"{kind}-(\d+)", trained)
    if trained != "seed" and not (match and 1 <= int(match[1]) <= int(newest)):
        raise ModelError(
            f"{path} was trained with the preprocessing {trained}, and this digitq knows {kind}-1 to "
            f"{PREPROCESSING_VERSION}: update it, or train the model again with `digitq train`"
        )


class ServedModel:
    """The model of a process, which is replaced once another one is in its directory.

    That one is loaded in a thread, while the present one goes on serving; if it is refused, the present one stays
    until the directory changes again. For one thread, which calls `classifier` between two batches.
    """

    def __init__(self, settings: Settings) -> None:
        """Load the model. Raises ModelError."""
        self._settings = settings
        self._serving = load(settings)
        self._seen, self._looked = self._serving.files, time.monotonic()
        self._loading: _Loading | None = None
        #: Why the model in the directory is not served; empty if it is.
        self.refused = ""
        #: `gpu` or `cpu`.
        self.device = self._serving.model.device

    def classifier(self) -> Classifier:
        """Return what classifies the next batch. Once a second it looks at the directory: 30 us of CPU, else 0.3 us."""
        if self._loading is None:
            now = time.monotonic()
            if now - self._looked >= LOOK_SECONDS:
                self._looked = now
                self._look()
        elif not self._loading.is_alive():
            self._take(self._loading)
            self._loading = None
        return self._serving.classifier

    def _look(self) -> None:
        found = files_in(self._settings.model_path)
        if found != self._seen:
            self._seen = found
            self._loading = _Loading(self._settings)
            self._loading.start()

    def _take(self, done: _Loading) -> None:
        present, path = self._serving.model, self._settings.model_path
        if not done.found:
            if self.refused != done.reason:
                log.error("goes on with model %s: that in %s is refused: %s", present.version, path, done.reason)
            self.refused = done.reason
            return
        self.refused, self._seen = "", done.found.files
        if done.found.model.card != present.card:
            log.info("serves model %s in place of %s", done.found.model.version, present.version)
            self._serving = done.found


class _Loading(threading.Thread):
    """Loads a model beside the one that serves. Not a daemon: a process must not end inside TensorFlow."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(name="model")
        self._settings = settings
        self.found: Loaded | None = None
        self.reason = ""

    def run(self) -> None:
        try:
            self.found = load(self._settings)
        except Exception as error:  # a bug, or too little memory: what serves goes on
            self.reason = str(error) or repr(error)
