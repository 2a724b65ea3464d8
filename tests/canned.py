"""Clients whose server gives answers that a test names."""

from __future__ import annotations

from typing import Any

import httpx2

from producer import Client

ACCEPTED = httpx2.Response(202, json={"id": "x", "state": "queued"})


def answers(*responses: httpx2.Response | httpx2.RequestError) -> tuple[Client, list[httpx2.Request]]:
    """A client whose server gives these answers, one after another, the last one for ever; and the requests to it."""
    asked: list[httpx2.Request] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        asked.append(request)
        answer = responses[min(len(asked), len(responses)) - 1]
        if isinstance(answer, httpx2.RequestError):
            answer.request = request
            raise answer
        return answer

    sdk = Client("http://nowhere")
    sdk.close()
    transport = httpx2.MockTransport(handle)
    sdk._operations._http = httpx2.Client(base_url="http://nowhere", transport=transport)
    return sdk, asked


def problem(status: int, code: str, after: str = "", **more: Any) -> httpx2.Response:
    """An error of digitq's."""
    headers = {"Content-Type": "application/problem+json"} | ({"Retry-After": after} if after else {})
    return httpx2.Response(status, headers=headers, json={"code": code, "title": "T", "detail": "D", **more})


def foreign(status: int, body: str = "<html>", type: str = "text/html", **headers: str) -> httpx2.Response:
    """An answer of a proxy or another server."""
    return httpx2.Response(status, text=body, headers={"Content-Type": type, **headers})
