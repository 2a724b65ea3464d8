"""Serving under a sub-path behind a proxy (`DIGITQ_ROOT_PATH`), whether the proxy strips the sub-path or not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from producer.serving.wsgi import Scope


def without_root(path: str, root: str) -> str:
    """Returns the path of a request below the root path; a path without that prefix is returned as it is."""
    inner = path.removeprefix(root)
    return inner or "/" if inner[:1] in ("", "/") else path


class _Below:
    """A request's RSGI scope with another path."""

    def __init__(self, scope: Scope, path: str) -> None:
        self._scope, self.path = scope, path

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scope, name)


def below_root(scope: Scope, root: str) -> Scope:
    """Returns the RSGI scope of a request with its path below the root path."""
    path = without_root(scope.path, root)
    return scope if path == scope.path else cast(Scope, _Below(scope, path))


class RootPath:
    """WSGI middleware that moves the root path from PATH_INFO to SCRIPT_NAME (PEP 3333)."""

    def __init__(self, application: Any, root: str) -> None:
        self._application, self._root = application, root

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answers a request with the application below the root path."""
        environ["SCRIPT_NAME"] = self._root
        environ["PATH_INFO"] = without_root(environ.get("PATH_INFO", ""), self._root)
        return self._application(environ, start_response)  # type: ignore[no-any-return]
