"""Flask without a queue: the request computes. Nothing survives a crash, and nothing is queued.

`app` decodes plainly, as a tutorial does; `preprocessing` reads a picture as digitq's workers do.
"""

from __future__ import annotations

from typing import Any

from flask import Flask, request

from benchmarks.servers import model

app, preprocessing = Flask(__name__), Flask(f"{__name__}.preprocessing")
model.load()


@app.post("/v1/predictions")
def predict() -> dict[str, Any]:
    return {"digit": model.digit(request.get_data())}


@preprocessing.post("/v1/predictions")
def predict_preprocessed() -> dict[str, Any]:
    return {"digit": model.preprocessed(request.get_data())}
