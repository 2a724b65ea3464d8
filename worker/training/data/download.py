"""Fetches the MNIST files from public mirrors, with checksums; an interrupted download goes on where it stopped."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import urllib.error
import urllib.request
import zlib
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from pathlib import Path

from shared.errors import DataError

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
#: File name -> SHA-256 of its uncompressed content: gzip files of the same data differ from mirror to mirror.
SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
TIMEOUT_SECONDS = 30


def download(directory: Path, mirrors: Sequence[str] = MIRRORS, sha256: Mapping[str, str] = SHA256) -> list[Path]:
    """Fetch those files of `sha256` that `directory` lacks, as `.gz`; returns their paths.

    Mirrors are base URLs with a final slash, tried in order. What arrived before an interruption stays in a `.part`
    file, and the next call asks for the rest. Raises `DataError` if no mirror gives a file with the right checksum.
    """
    directory.mkdir(parents=True, exist_ok=True)
    missing = [n for n in sha256 if not (directory / n).exists() and not (directory / f"{n}.gz").exists()]
    return [_fetch(directory / f"{name}.gz", sha256[name], mirrors) for name in missing]


def _fetch(target: Path, sha256: str, mirrors: Sequence[str]) -> Path:
    part = target.with_name(target.name + ".part")
    problems = []
    for url in (mirror + target.name for mirror in mirrors):
        try:
            _receive(url, part)
            _check(part, sha256)
            return part.replace(target)
        except (OSError, HTTPException, DataError) as error:
            problems.append(f"{url}: {error}")
    advice = f"check the network and run again, or put {target.name} into {target.parent} by hand"
    raise DataError(f"{target.name} cannot be downloaded ({'; '.join(problems)}): {advice}")


def _receive(url: str, part: Path) -> None:
    """Append to `part` what it lacks of `url`."""
    start = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
            # A server that ignores the range answers 200 with the whole file.
            with part.open("ab" if response.status == 206 else "wb") as file:
                shutil.copyfileobj(response, file)
            if response.length:
                raise OSError(f"the connection ended {response.length} bytes early")
    except urllib.error.HTTPError as error:
        # 416: nothing is left to send. Whether the part is the file, its checksum tells.
        if error.code != 416:
            raise


def _check(part: Path, sha256: str) -> None:
    try:
        with gzip.open(part) as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, EOFError, zlib.error) as error:
        found = f"a damaged file ({error})"
    if found != sha256:
        part.unlink()
        raise DataError(f"expected content with SHA-256 {sha256}, found {found}")
