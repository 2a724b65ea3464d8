"""Reads predictions, their pictures and an owner's history; cancels and deletes predictions."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, cast

from shared import keys, redis_scripts
from shared.connections.connection import redis_errors
from shared.connections.script_calls import ScriptCall
from shared.errors import Expired, Lost, NotFound, StillRunning
from shared.ids import issued_at
from shared.operations.script_runner import ScriptRunner
from shared.prediction import Prediction
from shared.record import RECORD, as_record, theirs

#: Positions up to this are exact; beyond, `queue_position` is the length of the queue.
POSITION_DEPTH = 1000
#: Bytes of a picture read at once, for streaming.
PIECE_BYTES = 64 * 1024

#: The answer of fetch.lua for one id.
Record = list[bytes | None]


class Predictions(ScriptRunner):
    """Operations on predictions that were submitted."""

    def fetch(self, id: str, owner: str | None = None) -> Prediction:
        """Return a prediction; with an owner only if it is theirs.

        Raises NotFound, Expired, Lost, RedisUnavailable.
        """
        return self.found(id, self.fetch_all([id])[0], owner)

    def fetch_all(self, ids: Sequence[str], fields: Sequence[str] = RECORD) -> list[Record]:
        """Read records in one round trip; `found` interprets them. Of other fields than RECORD the values are returned.

        Only a whole record tells how many are ahead of it in the queue, which takes the longest to read.
        """
        call = self.fetch_call(ids, fields)
        return cast("list[Record]", self.run("fetch", call.keys, call.args))

    def fetch_call(self, ids: Sequence[str], fields: Sequence[str] = RECORD) -> ScriptCall:
        """Return the call that `fetch_all` makes."""
        depth = POSITION_DEPTH if fields is RECORD else 1
        return ScriptCall(self._scripts["fetch"], [], redis_scripts.arguments(ids=ids, depth=depth, fields=fields))

    def found(self, id: str, reply: Record, owner: str | None = None) -> Prediction:
        """Return the prediction of a record. Raises as `fetch` does, and asks Redis only if the record is missing."""
        if not reply:
            raise self.missing(id)
        *values, position = reply
        record = as_record(values)
        if record["status"] == "forgotten" or not theirs(record, owner):
            raise NotFound()
        return Prediction.from_record(id, record, int(position) if position else None)

    def missing(self, id: str, what: str = "prediction") -> Exception:
        """Return the error for an id without a record: never issued, of another kind, expired, evicted or lost."""
        issued = issued_at(id)
        if issued is None or self._is_other(id, what):
            return NotFound(f"There is no such {what}")
        if self.time() - issued > self.settings.result_ttl_seconds:
            return Expired(f"The {what} has expired")
        if issued <= float(self.get(keys.EVICTED) or 0):
            return Expired(f"The {what} was deleted to make room for new ones")
        return Lost(f"The {what} was lost with the server's data")

    def _is_other(self, id: str, what: str) -> bool:
        """Tell whether the id of a missing prediction is that of a batch, or the reverse, also of a deleted one."""
        others = (keys.job(id), keys.gone(id)) if what == "batch" else (keys.batch(id),)
        with redis_errors():
            return bool(self.client.exists(*others))

    def cancel(self, id: str, owner: str | None = None) -> None:
        """Cancel a queued prediction or delete a finished one. Raises StillRunning, and as `fetch`."""
        if owner is not None:
            self.fetch(id, owner)
        answer = self.tell("cancel", id=id, ttl=self.settings.result_ttl_seconds)
        if answer == b"running":
            raise StillRunning()
        if answer == b"missing":
            self.fetch(id)  # raises the reason

    def recent(self, limit: int, cursor: str | None = None, owner: str = "") -> tuple[list[Prediction], str | None]:
        """Return a page of an owner's history, newest first, and the cursor of the next page (None after the last).

        A cursor holds the time of the last entry of a page (Unix us), and how many entries of that time were returned.
        """
        ids, following = self.page_of(keys.recent(owner), limit, cursor)
        page = []
        for id, reply in zip(ids, self.fetch_all(ids) if ids else [], strict=True):
            if reply:
                with suppress(NotFound):  # deleted
                    page.append(self.found(id, reply))
        return page, following

    def page_of(self, history: str, limit: int, cursor: str | None = None) -> tuple[list[str], str | None]:
        """Return a page of the ids in the history under a key, newest first, and the cursor of the next page."""
        last, _, seen = (cursor or "+inf-0").rpartition("-")
        with redis_errors():
            entries: Any = self.client.zrevrangebyscore(history, last, "-inf", int(seen), limit, True)
        ids = [id.decode() for id, _ in entries]
        if len(entries) < limit:
            return ids, None
        times = [int(score) for _, score in entries]
        seen_before = int(seen) if str(times[-1]) == last else 0
        return ids, f"{times[-1]}-{seen_before + times.count(times[-1])}"

    def image(self, id: str) -> bytes | None:
        """Return the picture as uploaded; None if it is gone."""
        return self.get(keys.image(id))

    def image_pieces(self, id: str) -> tuple[int, Iterator[bytes]]:
        """Return the size of a picture (0 if it is gone), and its bytes as an iterator of pieces.

        Each piece is read on demand. Raises Expired if the picture is deleted meanwhile.
        """
        with redis_errors():
            size = self.client.strlen(keys.image(id))
        return size, (self._piece(id, start) for start in range(0, size, PIECE_BYTES))

    def _piece(self, id: str, start: int) -> bytes:
        with redis_errors():
            piece = cast(bytes, self.client.getrange(keys.image(id), start, start + PIECE_BYTES - 1))
        if not piece:
            raise Expired("The picture has expired")
        return piece

    def model_input(self, id: str) -> bytes | None:
        """Return the 784 bytes that the model saw; None if it has not run."""
        with redis_errors():
            pixels = cast("bytes | None", self.client.get(keys.model_input(id)))
        return zlib.decompress(pixels) if pixels else None
