"""What is handed in, and by whom."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from shared.keys import Priority


@dataclass(frozen=True, slots=True)
class Caller:
    """Who hands something in: whose it will be, and under which name it is counted where the rate is limited."""

    #: Only they see it; empty where nobody needs a key.
    owner: str = ""
    #: Empty: without a limit.
    counted_as: str = ""


ANYBODY = Caller()


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

    def to_row(self) -> dict[str, Any]:
        """What submit.lua expects for one picture."""
        fingerprint = hashlib.sha256(self.image).hexdigest() if self.idempotency_key else ""
        about = {name: text for name, text in self.notes.items() if name != "callback_url"}
        if self.filename:
            about["filename"] = self.filename
        return {"id": self.id, "queue": self.priority.queue, "image": self.image, "about": orjson.dumps(about),
                **door(self.caller, self.idempotency_key, fingerprint),
                "callback": self.notes.get("callback_url", "")}  # fmt: skip


def door(caller: Caller, idempotency_key: str, fingerprint: str) -> dict[str, str]:
    """What both scripts that accept something are told of who hands it in."""
    if idempotency_key and caller.owner:
        idempotency_key = f"{caller.owner}:{idempotency_key}"  # the keys of one owner are none of another's
    return {"key": idempotency_key, "fingerprint": fingerprint, "owner": caller.owner, "client": caller.counted_as}
