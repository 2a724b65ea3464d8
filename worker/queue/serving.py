"""Describes the model with which a worker classifies pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from shared.errors import UnknownRead
from worker.inference.classify import Classified, Pictures


def reads_no_numbers(images: Pictures) -> Classified:
    """Refuse to read numbers, for a model that only knows single digits."""
    return Classified([UnknownRead("The model in service reads no numbers") for _ in images])


@dataclass(frozen=True, slots=True)
class Serving:
    """A model as a worker serves it: functions that return one result for each image of a batch, and its card."""

    classify: Callable[[Pictures], Classified]
    read_numbers: Callable[[Pictures], Classified] = reads_no_numbers
    card: dict[str, Any] = field(default_factory=dict)
    #: Why a newer model is not served; empty if there is none.
    refused: str = ""

    @property
    def version(self) -> str:
        """The version of the model; empty if its card has none."""
        return str(self.card.get("version", ""))

    @property
    def preprocessing(self) -> str:
        """The version of the preprocessing; empty if its card has none."""
        return str(self.card.get("preprocessing", ""))
