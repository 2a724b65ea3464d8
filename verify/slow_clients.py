"""The fault `slow-clients`: silent and slow clients must not slow others down."""

from __future__ import annotations

import threading
import time

from verify.crowd import Crowd, Others, half_heads, many_descriptors, silent, slow_bodies
from verify.ledger import Finding
from verify.means import Scene
from verify.workload import pictures

#: Shares of the counts in `verify.crowd`: 1,100 silent connections, 200 half heads, 300 slow bodies of 2 MB.
SILENT, HALF_HEADS, SLOW_BODIES = 0.22, 0.2, 1.0
#: The 90th percentile of the times of other clients, in seconds, and the share of their requests that may fail, in %.
GOAL_SECONDS, MOST_TROUBLES = 3.0, 5


def slow_clients(scene: Scene) -> float:
    """Keep 1,600 connections of silent and slow clients open while other clients are served."""
    alone = scene.partner is None and scene.hurt_at is None
    port = int(scene.stack.url.rpartition(":")[2])
    crowd, others = Crowd(port), Others(port, pictures()[0].data)

    def keep_up() -> None:
        silent(crowd, SILENT)
        half_heads(crowd, HALF_HEADS)
        slow_bodies(crowd, SLOW_BODIES)
        crowd.trickle(4)

    with many_descriptors(), others.at_work():
        holding = threading.Thread(target=keep_up)
        holding.start()
        scene.last(4, 6, hinders=False)
        holding.join()
        crowd.close()
    scene.ledger.unexpected += judged(others, alone)
    return time.time()


def judged(others: Others, alone: bool) -> list[Finding]:
    """Judge the times and failures of the other clients. Refusals may be due to a second fault, waits may not."""
    found = [
        Finding("unexpected", f"{kind} beside slow clients", f"nine of ten took up to {seconds:.1f} s")
        for kind, seconds in others.percentile(90).items()
        if seconds > GOAL_SECONDS
    ]
    asked = sum(map(len, others.seconds.values()))
    if alone and len(others.troubles) * 100 > MOST_TROUBLES * asked:
        kind, what = others.troubles[0]
        text = f"{len(others.troubles)} of {asked} were not answered, first: {what}"
        found.append(Finding("unexpected", f"{kind} beside slow clients", text))
    return found
