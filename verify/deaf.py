"""The fault `deaf`: connections to Redis stay open but pass nothing; long polls must be answered in time again."""

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

#: A long poll that is notified answers this soon after the end; one that is not polls every two seconds.
TOLD_SECONDS = 1.5
#: How many must be notified in a row: a single one may have polled at the right moment.
IN_A_ROW = 3
#: Seconds before a refused upload is retried.
PAUSE_SECONDS = 0.2


def deaf(scene: Scene) -> float:
    """Block every connection to Redis without closing it; new connections work."""
    scene.stack.proxy.deafen()
    at = time.time()
    scene.last()
    patience = min(scene.patience, HOLD_SECONDS)  # the longest time that the second fault of a pair lasts
    if not told(scene.stack.url, pictures()[0], patience):
        what = f"after {patience:.0f} s requests that wait are still not told of their end"
        scene.ledger.unexpected.append(Finding("unexpected", "deaf", what))
    return at


def told(url: str, picture: Picture, patience: float) -> bool:
    """Tell whether, within `seconds`, long polls are answered as soon as their picture ends.

    True if no upload is accepted in that time, as with a full Redis.
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
    """Return the seconds from the end of a picture to the answer of its long poll; None if there is no such answer."""
    headers = {"Content-Type": "image/png", "Prefer": "wait=10"}
    request = urllib.request.Request(f"{url}/v1/predictions", picture.data, headers)
    with suppress(OSError, ValueError), urllib.request.urlopen(request, timeout=15) as response:
        prediction = json.load(response)
        if prediction["state"] == State.SUCCEEDED.value:
            return time.time() - datetime.fromisoformat(prediction["finished_at"]).timestamp()
    return None
