"""What is handed in, and by whom."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.keys import Priority


@dataclass(frozen=True, slots=True)
class Caller:
    """Who hands something in: whose it will be, and under which name it is counted where the rate is limited."""

    #: Only they see it; empty where nobody needs a key.
    owner: str = ""
    #: Empty: without a limit.
    counted_as: str = ""


ANYBODY = Caller()


def theirs(record: Mapping[str, Any], owner: str | None) -> bool:
    """Whether a record is this owner's; None: whoever looks is at Redis itself, and sees everything."""
    return owner is None or record.get("owner", "") == owner


@dataclass(frozen=True, slots=True)
class Submission:
    """A picture to be handed in; `Store.submit` says what the fields are."""

    id: str
    image: bytes
    filename: str = ""
    priority: Priority = Priority.NORMAL
    idempotency_key: str = ""
    notes: Mapping[str, str] = field(default_factory=dict)
    caller: Caller = ANYBODY

    def to_args(self) -> list[Any]:
        """The values that submit.lua expects for one picture."""
        fingerprint = hashlib.sha256(self.image).hexdigest() if self.idempotency_key else ""
        notes = [text for note in self.notes.items() for text in note]
        if self.caller.owner:
            notes += ["owner", self.caller.owner]
        return [self.id, self.priority.queue, self.image, self.filename,
                *door(self.caller, self.idempotency_key, fingerprint), len(notes), *notes]  # fmt: skip


def door(caller: Caller, idempotency_key: str, fingerprint: str) -> list[str]:
    """What both scripts that accept something are told of who hands it in."""
    if idempotency_key and caller.owner:
        idempotency_key = f"{caller.owner}:{idempotency_key}"  # the keys of one owner are none of another's
    return [idempotency_key, fingerprint, caller.owner, caller.counted_as]
