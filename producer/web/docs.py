"""Serves the API's description, `openapi.json`, and a page rendered from it."""

from __future__ import annotations

import json
import re
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from flask import render_template
from markupsafe import Markup, escape

from producer.middleware.request import Request
from producer.middleware.responses import Response, conditional
from producer.web.routes import Routes

bp = Routes("docs", __name__)

DOCUMENT: dict[str, Any] = json.loads((Path(__file__).parent / "openapi.json").read_text("utf-8"))
METHODS = ("post", "get", "delete")
#: Seconds for which a browser may cache it.
MAX_AGE = 300
POLICY = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'"
_NUMBERS = re.compile(r"\[[\d.,\s]+\]")
_CODE = re.compile(r"`([^`]+)`")


@bp.get("/openapi.json")
def openapi(request: Request) -> Response:
    """OpenAPI 3.1."""
    served = {**DOCUMENT, "servers": [{"url": request.script_root or "/"}]}
    return cached(request, json.dumps(served, ensure_ascii=False), "application/json")


@bp.get("/docs")
def docs(request: Request) -> Response:
    """The description as a page, without scripts or anything from elsewhere."""
    response = cached(request, page(request.url_root.rstrip("/")), "text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = POLICY
    return response


def cached(request: Request, text: str, kind: str) -> Response:
    """A response that changes with the version alone; 304 for a client that has it."""
    headers = {"Content-Type": kind, "Cache-Control": f"public, max-age={MAX_AGE}"}
    return conditional(request, Response(text.encode(), headers=headers))


@cache
def groups() -> list[dict[str, Any]]:
    """The tags, each with its operations."""
    items = [(path, item) for path, item in DOCUMENT["paths"].items()]
    items += [("your callback_url", resolve(item)) for item in DOCUMENT["webhooks"].values()]
    operations = [operation(path, method, item) for path, item in items for method in METHODS if method in item]
    return [
        {**tag, "operations": [one for one in operations if tag["name"] in one["tags"]]} for tag in DOCUMENT["tags"]
    ]


def operation(path: str, method: str, item: dict[str, Any]) -> dict[str, Any]:
    """An operation with the parameters of its path, and references resolved."""
    own: dict[str, Any] = item[method]
    parameters = [resolve(one) for one in (*item.get("parameters", ()), *own.get("parameters", ()))]
    responses = {status: resolve(one) for status, one in own["responses"].items()}
    return {**own, "path": path, "method": method, "parameters": parameters, "responses": responses}


def resolve(node: dict[str, Any]) -> dict[str, Any]:
    """Follows a `$ref` within the document; returns anything else as it is."""
    while reference := node.get("$ref"):
        node = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]
    return node


def type_name(schema: dict[str, Any]) -> str:
    """Describe a schema in a few words: `integer or null, 0 to 9`."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema["enum"])
    kind = schema.get("type", "any")
    name = kind if isinstance(kind, str) else " or ".join(kind)
    if "items" in schema:
        name += f" of {type_name(schema['items'])}"
    if {"minimum", "maximum"} <= schema.keys():
        name += f", {schema['minimum']} to {schema['maximum']}"
    return name + (f" ({schema['format']})" if "format" in schema else "")


def prose(text: str) -> Markup:
    """Plain text with `code` in it."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704  # escaped before


def example(node: dict[str, Any]) -> str:
    """The text of an example's value."""
    value = resolve(node)["value"]
    text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
    return _NUMBERS.sub(lambda found: " ".join(found[0].split()), text)


@lru_cache(maxsize=4)
def page(origin: str) -> str:
    """Render the page; its examples use the origin of the request."""
    return render_template(
        "docs.html", document=DOCUMENT, groups=groups(), origin=origin, resolve=resolve, type_name=type_name,
        prose=prose, example=example,
    )  # fmt: skip
