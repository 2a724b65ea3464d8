"""A second model, made of the small one in seconds: it reads d + 1 wherever that one reads d."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from shared.settings import SHIPPED_MODEL

SEED = SHIPPED_MODEL.with_name("model_seed")
VERSION = "turned-1"


def turned(folder: Path) -> Path:
    """Write the model into the folder `folder`, with its own card, fingerprint and golden digits; return it."""
    from worker.inference import golden
    from worker.inference.classify import Classifier
    from worker.inference.mlp import CARD, Mlp, configure_threads, digest, tensorflow
    from worker.training.artefact.export import perceptron

    configure_threads()
    layers = [tuple(one.numpy() for one in pair) for pair in tensorflow().saved_model.load(str(SEED)).parameters]
    layers[-1] = tuple(np.roll(one, 1, axis=-1) for one in layers[-1])
    module = perceptron(layers, 1.0)
    tensorflow().saved_model.save(module, str(folder), signatures=module.probabilities)
    card = json.loads((SEED / CARD).read_text()) | {"version": VERSION}
    with np.load(SEED / golden.FILE) as recorded:
        images, labels = recorded["images"], recorded["probabilities"].argmax(axis=1).astype(np.uint8)
    classifier = Classifier(Mlp(tensorflow().saved_model.load(str(folder)), card), max_pixels=784)
    golden.record(classifier, images, labels, folder)
    (folder / CARD).write_text(json.dumps(card | {"sha256": digest(folder)}))
    return folder


def copied(model: Path, folder: Path, **card: object) -> Path:
    """Copy a model, with these changes of its card; return the copy."""
    from worker.inference.mlp import CARD

    shutil.copytree(model, folder)
    (folder / CARD).write_text(json.dumps(json.loads((model / CARD).read_text()) | card))
    return folder
