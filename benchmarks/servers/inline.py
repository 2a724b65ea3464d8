"""Flask without a queue: the request computes. Nothing survives a crash, and nothing is queued."""

from __future__ import annotations

from typing import Any

from flask import Flask, request

from benchmarks.servers import model

app = Flask(__name__)
model.load()


@app.post("/v1/predictions")
def predict() -> dict[str, Any]:
    return {"digit": model.digit(request.get_data())}
