"""Routes for views that take the request and return our Response; the pipeline calls them, not Flask."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from flask import Blueprint

from producer.middleware.responses import Response

#: A view: called with the request and the rule's arguments, an `async` one on the event loop, any other on a thread.
View = TypeVar("View", bound=Callable[..., Response] | Callable[..., Awaitable[Response]])


class Routes(Blueprint):
    """A Flask blueprint, with the types of our views."""

    def get(self, rule: str, **options: Any) -> Callable[[View], View]:  # type: ignore[override]  # noqa: D102
        return super().get(rule, **options)  # type: ignore[return-value]

    def post(self, rule: str, **options: Any) -> Callable[[View], View]:  # type: ignore[override]  # noqa: D102
        return super().post(rule, **options)  # type: ignore[return-value]

    def delete(self, rule: str, **options: Any) -> Callable[[View], View]:  # type: ignore[override]  # noqa: D102
        return super().delete(rule, **options)  # type: ignore[return-value]
