"""Leases webhook deliveries that are due, and records how they went."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from shared.operations.script_runner import ScriptRunner
from shared.record import RECORD, as_record


@dataclass(frozen=True, slots=True)
class DueWebhook:
    """A webhook delivery that is due, with the numbers of its attempt and of the prediction's end."""

    id: str
    tries: int
    end: int
    url: str
    #: Who shares a limit of concurrent calls: `key:` and the owner, or without keys `host:` and the receiver.
    party: str
    record: dict[str, str]


class Webhooks(ScriptRunner):
    """Deliveries, which the web processes share."""

    def due_webhook(self, lease_seconds: float, most: int, busy: Iterable[str] = ()) -> DueWebhook | None:
        """Lease a due webhook delivery of a party that is not busy for `lease_seconds`; None if there is none.

        A delivery is given up after `most` attempts.
        """
        reply = self.tell("webhooks", step="take", lease=lease_seconds, most=most, busy=list(busy), fields=RECORD)
        if not reply:
            return None
        id, tries, end, url, party, *values = reply
        return DueWebhook(id.decode(), int(tries), int(end), url.decode(), party.decode(), as_record(values))

    def end_webhook(self, due: DueWebhook, outcome: str, delay_seconds: float | None = None) -> None:
        """Record the outcome of an attempt; with a delay, schedule another one."""
        delay = {} if delay_seconds is None else {"delay": delay_seconds}
        self.tell("webhooks", step="end", id=due.id, outcome=outcome, **{"try": due.tries}, **delay)
