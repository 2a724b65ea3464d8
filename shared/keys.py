"""Every Redis key that digitq uses. The table is the schema; `shared/README.md` tells it in prose.

| key                      | type    | holds                                                     | lives              |
|--------------------------|---------|-----------------------------------------------------------|--------------------|
| digitq:image:{id}        | string  | the picture's bytes as uploaded                           | result TTL         |
| digitq:prediction:{id}   | hash    | the record: state, digit, probabilities, times, error     | 2 x, then 1 x TTL  |
| digitq:input:{id}        | string  | the 28x28 bytes that the model saw                        | result TTL         |
| digitq:recent            | stream  | one entry per accepted picture, the newest 10,000         | result TTL         |
| digitq:idempotency:{key} | hash    | id and fingerprint of what was submitted under this key   | 24 hours           |
| digitq:events            | channel | ids that have just ended, separated by spaces             | is not stored      |
| digitq:workers           | zset    | worker name, and until when it counts as alive (Unix s)   | 1 h after a beat   |
| digitq:model             | string  | card of the model that the last worker to beat serves     | 1 h after a beat   |
| digitq:recovery          | string  | whose turn it is to look for expired leases               | 10 seconds         |
| digitq:refused           | string  | why a worker's model was refused, for /readyz             | 10 minutes         |
| digitq:ready             | string  | written by /readyz to see that Redis accepts writes       | 10 seconds         |

RQ's own keys that the scripts write, as RQ 3.0 writes them: rq:queues, rq:queue:{queue}, rq:job:{id}, rq:wip:{queue},
rq:finished:{queue}, rq:failed:{queue}, rq:canceled:{queue}, rq:execution:{id}:{execution}, rq:executions:{id},
rq:results:{id}, rq:worker:{worker}, rq:worker:{worker}:executions.
"""

from __future__ import annotations

from enum import StrEnum

#: The function that a queued job names, and what a stock RQ worker imports and calls with the prediction's id.
JOB_FUNCTION = "worker.tasks.classify"

EVENTS = "digitq:events"
RECENT = "digitq:recent"
WORKERS = "digitq:workers"
MODEL = "digitq:model"
RECOVERY = "digitq:recovery"
READY = "digitq:ready"
REFUSED = "digitq:refused"


class Priority(StrEnum):
    """How urgent a picture is."""

    #: Before everything else.
    HIGH = "high"
    #: The default.
    NORMAL = "normal"
    #: After the others, but it always moves.
    LOW = "low"

    @property
    def queue(self) -> str:
        """Name of the RQ queue."""
        return "digitq" if self is Priority.NORMAL else f"digitq-{self.value}"


#: Queue names in the order in which a worker prefers them.
QUEUES = tuple(p.queue for p in (Priority.HIGH, Priority.NORMAL, Priority.LOW))


def image(id: str) -> str:
    """Bytes of the upload."""
    return f"digitq:image:{id}"


def prediction(id: str) -> str:
    """The record."""
    return f"digitq:prediction:{id}"


def model_input(id: str) -> str:
    """What the model saw."""
    return f"digitq:input:{id}"


def idempotency(key: str) -> str:
    """What was submitted under an Idempotency-Key."""
    return f"digitq:idempotency:{key}"


def queue(name: str) -> str:
    """RQ's list of waiting job ids."""
    return f"rq:queue:{name}"


def worker(name: str) -> str:
    """RQ's hash of one worker."""
    return f"rq:worker:{name}"
