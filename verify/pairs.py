"""Plays pairs of faults: the second starts when the first has had its effect (`Scene.last`), before the recovery."""

from __future__ import annotations

from verify.kinds import EITHER, KINDS, SINGLE, WATCHED, Kind
from verify.means import Scene

#: The pairs of a run by default: in each, the second fault hinders the recovery from the first.
PAIRS: dict[str, str] = {
    "kill+redis-full": "A worker's claims have to be taken over in a full Redis.",
    "storm+redis-full": "Worker and web process have to start and recover in a full Redis.",
    "pause+redis-full": "The same while a worker is paused, which then writes too late.",
    "kill+full": "A worker has to start, and the rest to go on, while memory fills up.",
    "storm+full": "Everything starts again while memory fills up.",
    "pause+redis-kill": "The server dies while a worker is paused; what it writes is too late.",
    "pause+cut": "A paused worker wakes up without its connections.",
    "kill+slow-clients": "A worker's claims have to be taken over while slow clients hold on to the web process.",
    "kill+redis-pause": "A worker's claims have to be taken over from a server that stood still.",
    "kill+deaf": "The same over connections that are open and dead.",
    "kill+failover": "A worker's claims have to be taken over on another server.",
    "kill+demote": "The same where the server before it lives on.",
}


def named(text: str) -> str:
    """Return the name of a fault, or of a pair in either order. Raises KeyError for any other text."""
    parts = text.split("+")
    if not 1 <= len(parts) <= 2 or set(parts) - set(KINDS) or len(set(parts)) < len(parts):
        raise KeyError(text)
    if {KINDS[part].stack for part in parts} >= {SINGLE, WATCHED}:
        raise KeyError(text)  # one server or several
    return "+".join(sorted(parts, key=[*KINDS].index))


def kind_of(name: str) -> Kind:
    """Return the requirements of a fault or a pair: the later goal, and all that either requires."""
    parts = [KINDS[part] for part in name.split("+")]
    hinders = all(part.hinders for part in parts)
    stack = next((part.stack for part in parts if part.stack != EITHER), EITHER)
    return Kind(parts[0].fault, max(part.goal for part in parts), any(part.all_of_it for part in parts), hinders, stack)


def play(name: str, scene: Scene) -> tuple[float, float]:
    """Play a fault or a pair; return when new pictures, and accepted ones, could be classified again (Unix seconds)."""
    first, *second = (KINDS[part] for part in name.split("+"))
    overs: list[float] = []
    if second:
        scene.partner = lambda: overs.append(second[0].fault(scene))
    over = first.fault(scene)
    scene.partner = scene.hurt_at = None
    latest = max(over, *overs) if overs else over
    return latest, latest if kind_of(name).hinders else over
