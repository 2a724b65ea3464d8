"""Builds the package so that everything in it is under the one name `digitq`: see `UnderOneName`."""

from __future__ import annotations

import ast
import re
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

PARTS = ("producer", "shared", "verify", "worker")
_NAME = re.compile(rf"^(\s*(?:from|import) )({'|'.join(PARTS)})\b")


class UnderOneName(build_py):
    """Moves the top-level folders of the checkout into `digitq`, and changes what modules import accordingly.

    `shared` and `worker` are common names: beside somebody's own packages of these names either side would import
    the other's. An editable install, as `make up` makes, leaves the checkout as it is.
    """

    def run(self) -> None:
        """Build, then move the folders and rewrite the imports."""
        if self.editable_mode:
            super().run()
            return
        built = Path(self.build_lib)
        shutil.rmtree(built, ignore_errors=True)
        super().run()
        for part in PARTS:
            (built / part).rename(built / "digitq" / part)
        for path in built.rglob("*.py"):
            path.write_text(renamed(path.read_text()))


def renamed(source: str) -> str:
    """Return a module's source in which `from shared…` is `from digitq.shared…`; the lines stay the same."""
    lines = source.splitlines(keepends=True)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            lines[node.lineno - 1] = _NAME.sub(r"\1digitq.\2", lines[node.lineno - 1])
    return "".join(lines)


if __name__ == "__main__":
    setup(cmdclass={"build_py": UnderOneName})
