"""Names of all Redis keys. The table is the schema; `shared/README.md` explains it.

| key                      | type    | holds                                                     | lives              |
|--------------------------|---------|-----------------------------------------------------------|--------------------|
| rq:job:{id}              | hash    | RQ's job, and in `digitq_*` what else is known of it      | 2 x, then 1 x TTL  |
| digitq:image:{id}        | string  | the picture's bytes as uploaded                           | TTL, then 1 x TTL  |
| digitq:input:{id}        | string  | the 28x28 bytes that the model saw, zlib                  | TTL from the end   |
| digitq:callback:{id}     | hash    | URL, owner and outcome of a webhook                       | as the job         |
| digitq:gone:{id}         | hash    | of a job that was deleted: forgotten, or lost             | TTL                |
| digitq:batch:{id}        | hash    | a batch: state, total, how many succeeded, failed, times  | 2 x, then 1 x TTL  |
| digitq:chunk:{id}        | string  | up to 256 pictures of a batch, packed (`shared/chunks`)   | until it has ended |
| digitq:results:{id}      | hash    | a chunk: state, names, attempt, rows as JSON, their model | as the batch       |
| digitq:bulk              | string  | how many pictures wait in chunks, beyond one for each job | 2 x TTL            |
| digitq:open              | zset    | whose end has not been told, and when it was looked at    | 2 x TTL            |
| digitq:accepted          | hash    | of each such picture `slot:bytes:owner`                   | 2 x TTL            |
| digitq:skipped:{queue}   | set     | jobs taken back that still stand deep in a long queue     | 2 x TTL            |
| digitq:ended             | stream  | ids in the order in which they ended, by script run       | TTL                |
| digitq:evicted           | string  | everything that ended until then may be gone (Unix s)     | TTL                |
| digitq:bytes             | hash    | bytes of pictures that have not ended, by expiry's slot   | 3 x TTL            |
| digitq:recent            | zset    | the newest 10,000 ids, and when they came (Unix us)       | TTL                |
| digitq:recent:{owner}    | zset    | the same for the pictures of one API key                  | TTL                |
|                          |         | `batches:{owner}`: for its batches, or those without keys | 2 x TTL            |
| digitq:idempotency:{key} | hash    | id and fingerprint of the submission under this key       | as the job, <= 24 h|
| digitq:rate:{client}     | string  | when the bucket of a client that is limited will be full  | until then         |
| digitq:events            | channel | JSON: the records that have just ended, and when          | is not stored      |
| digitq:webhooks          | zset    | whose callback is due, and when (Unix s)                  | TTL                |
| digitq:parked:{party}    | zset    | those of a party that has as many calls as it may         | as the callback    |
| digitq:parties           | zset    | the parties that have such, and when each was served      | as the callback    |
| digitq:workers           | zset    | worker name, and until when it counts as alive (Unix s)   | 1 h after a beat   |
| digitq:model             | string  | card of the model that the last worker to beat serves     | 1 h after a beat   |
| digitq:flow:{slot}       | hash    | pictures that arrived and ended in these five seconds     | a minute           |
| digitq:recovery          | string  | whose turn it is to look for expired leases               | 3 seconds          |
| digitq:refused           | string  | why a worker's model was refused, for /readyz             | 10 minutes         |
| digitq:ready             | string  | written by /readyz to see that Redis accepts writes       | 10 seconds         |

RQ's own keys that the scripts write, as RQ 3.0 writes them: rq:queues, rq:queue:{queue}, rq:job:{id}, rq:wip:{queue},
rq:finished:{queue}, rq:failed:{queue}, rq:canceled:{queue}, rq:deferred:{queue}, rq:results:{id}, rq:worker:{worker}.
"""

from __future__ import annotations

from enum import StrEnum

#: The function that a queued job names, and what a stock RQ worker imports and calls with the prediction's id.
JOB_FUNCTION = "digitq.tasks.classify"
#: The same for a chunk of a batch.
CHUNK_FUNCTION = "digitq.tasks.classify_chunk"
#: The same functions by the names that they have in a checkout, which clients of 0.1 used: such jobs are taken too.
OTHER_NAMES = {name: name.replace("digitq", "worker") for name in (JOB_FUNCTION, CHUNK_FUNCTION)}

EVENTS = "digitq:events"
RECENT = "digitq:recent"
BULK = "digitq:bulk"
OPEN = "digitq:open"
ACCEPTED = "digitq:accepted"
WORKERS = "digitq:workers"
MODEL = "digitq:model"
EVICTED = "digitq:evicted"
WEBHOOKS = "digitq:webhooks"
READY = "digitq:ready"
REFUSED = "digitq:refused"
RECOVERY = "digitq:recovery"


class Priority(StrEnum):
    """The priority of a picture."""

    #: Before everything else.
    HIGH = "high"
    #: The default.
    NORMAL = "normal"
    #: After the others, but never starved.
    LOW = "low"

    @property
    def queue(self) -> str:
        """Name of the RQ queue."""
        return "digitq" if self is Priority.NORMAL else f"digitq-{self.value}"


#: Queue names in the order in which a worker prefers them.
QUEUES = tuple(p.queue for p in (Priority.HIGH, Priority.NORMAL, Priority.LOW))

#: Keys of one prediction, batch, chunk, queue, client, slot of five seconds or worker: functions of its id or name.
image = "digitq:image:{}".format
callback = "digitq:callback:{}".format
gone = "digitq:gone:{}".format
skipped = "digitq:skipped:{}".format
rate = "digitq:rate:{}".format
model_input = "digitq:input:{}".format
batch = "digitq:batch:{}".format
chunk = "digitq:chunk:{}".format
results = "digitq:results:{}".format
flow = "digitq:flow:{}".format
#: RQ's keys.
job = "rq:job:{}".format
queue = "rq:queue:{}".format
running = "rq:wip:{}".format
finished = "rq:finished:{}".format
return_values = "rq:results:{}".format
worker = "rq:worker:{}".format


def recent(owner: str) -> str:
    """The history of an API key, or of all clients without keys."""
    return f"{RECENT}:{owner}" if owner else RECENT


def recent_batches(owner: str) -> str:
    """The batches of an API key, or of all clients without keys. No owner's name has a colon."""
    return f"{RECENT}:batches:{owner}"
