"""Planted bug: the worker takes its recovery turn with a plain write, which a full Redis refuses."""

from __future__ import annotations

from shared.connections.connection import redis_errors
from shared.operations.maintenance import Maintenance
from shared.settings import Settings


def plain_turn(self: Maintenance, worker: str) -> bool:
    """Return True for one worker at a time, for three seconds."""
    with redis_errors():
        return bool(self.client.set("digitq:recovery", worker, nx=True, ex=3))


def main() -> None:
    """Run `digitq worker`."""
    from worker.service import serve

    Maintenance.recovery_turn = plain_turn  # type: ignore[method-assign]
    serve(Settings.from_env())


if __name__ == "__main__":
    main()
