"""Connections to Redis that stay open and pass nothing any more, and whether those who wait are told of ends again."""

from __future__ import annotations

import json
import time
import urllib.request
from contextlib import suppress
from datetime import datetime

from shared.prediction import State
from verify.ledger import Finding
from verify.means import HOLD_SECONDS, Scene
from verify.workload import Picture, pictures

#: A waiting request that is told of its end has its answer this soon after it; one that is not looks every two seconds.
TOLD_SECONDS = 1.5
#: How many have to be told in a row: one alone may have looked at the right moment.
IN_A_ROW = 3
#: Seconds between two attempts to hand in what was refused.
PAUSE_SECONDS = 0.2


def deaf(scene: Scene) -> float:
    """Every connection to Redis stays open and passes nothing any more; new ones pass."""
    scene.stack.proxy.deafen()
    at = time.time()
    scene.last()
    patience = min(scene.patience, HOLD_SECONDS)  # as long as the second fault of a pair lasts at most
    if not told(scene.stack.url, pictures()[0], patience):
        what = f"after {patience:.0f} s requests that wait are still not told of their end"
        scene.ledger.unexpected.append(Finding("unexpected", "deaf", what))
    return at


def told(url: str, picture: Picture, patience: float) -> bool:
    """Whether waiting requests are told of their end within so many seconds from now.

    Where none is accepted in that time, as in a full Redis, nobody can tell.
    """
    row, late, end = 0, False, time.monotonic() + patience
    while row < IN_A_ROW and time.monotonic() < end:
        seconds = _lateness(url, picture)
        if seconds is None:
            time.sleep(PAUSE_SECONDS)
        else:
            late = seconds > TOLD_SECONDS
            row = 0 if late else row + 1
    return not late


def _lateness(url: str, picture: Picture) -> float | None:
    """Seconds from the end of a picture to the answer of the request that waits; None where there is no such answer."""
    headers = {"Content-Type": "image/png", "Prefer": "wait=10"}
    request = urllib.request.Request(f"{url}/v1/predictions", picture.data, headers)
    with suppress(OSError, ValueError), urllib.request.urlopen(request, timeout=15) as response:
        prediction = json.load(response)
        if prediction["state"] == State.SUCCEEDED.value:
            return time.time() - datetime.fromisoformat(prediction["finished_at"]).timestamp()
    return None
