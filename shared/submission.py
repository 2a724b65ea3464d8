"""A submitted picture, and the client that submits it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from shared.keys import Priority
from shared.numbers import Read


@dataclass(frozen=True, slots=True)
class Caller:
    """The client that submits something: its owner, and its name for the rate limit."""

    #: Only this owner sees the predictions; empty if the server needs no API keys.
    owner: str = ""
    #: Empty: no rate limit.
    counted_as: str = ""


ANYBODY = Caller()


@dataclass(frozen=True, slots=True)
class Submission:
    """A picture to submit; `Store.submit` documents the fields."""

    id: str
    image: bytes
    filename: str = ""
    priority: Priority = Priority.NORMAL
    idempotency_key: str = ""
    notes: Mapping[str, str] = field(default_factory=dict)
    caller: Caller = ANYBODY
    read: Read = "digit"

    def to_row(self) -> dict[str, Any]:
        """Return the row of submit.lua for one picture."""
        fingerprint = hashlib.sha256(self.image).hexdigest() if self.idempotency_key else ""
        fingerprint = fingerprint_of(fingerprint, self.read)
        about = {name: text for name, text in self.notes.items() if name != "callback_url"}
        if self.filename:
            about["filename"] = self.filename
        return {"id": self.id, "queue": self.priority.queue, "image": self.image, "about": orjson.dumps(about),
                "read": self.read, **admission(self.caller, self.idempotency_key, fingerprint),
                "callback": self.notes.get("callback_url", "")}  # fmt: skip


def fingerprint_of(content: str, read: Read) -> str:
    """Return the fingerprint of an upload for its idempotency key, given that of its content; empty if that is."""
    return f"{content}:{read}" if content and read != "digit" else content


def admission(caller: Caller, idempotency_key: str, fingerprint: str) -> dict[str, str]:
    """Return the fields about the client for submit.lua and submit_batch.lua."""
    if idempotency_key and caller.owner:
        idempotency_key = f"{caller.owner}:{idempotency_key}"  # owners do not share idempotency keys
    return {"key": idempotency_key, "fingerprint": fingerprint, "owner": caller.owner, "client": caller.counted_as}
