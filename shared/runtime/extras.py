"""Checks before a command starts that the extras it needs are installed."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from shared import NAMESPACE
from shared.errors import MissingPart

#: Modules that each extra installs, the base package does not, and every command that needs the extra imports.
EXTRAS = {"worker": ("numpy", "rq", "tensorflow"), "training": ("cv2", "tqdm")}


def require(*extras: str) -> None:
    """Raise MissingPart, with the command to install them, unless these extras are installed."""
    missing = {extra: [name for name in EXTRAS[extra] if find_spec(name) is None] for extra in extras}
    wanted = [extra for extra, names in missing.items() if names]
    if wanted:
        names = ", ".join(name for extra in wanted for name in missing[extra])
        package = "'digitq[{}]'" if NAMESPACE else "-e '.[{}]'"
        raise MissingPart(f"Not installed: {names}. Needs `pip install {package.format(','.join(wanted))}`.")


def require_checkout(root: Path, names: Iterable[str], instead: str) -> None:
    """Raise MissingPart, with advice, unless these files of the checkout are under `root`."""
    if missing := [name for name in names if not (root / name).exists()]:
        raise MissingPart(f"Not installed: {', '.join(missing)}. Needs a checkout of digitq. {instead}")
