"""Describes the machine of a measurement, without names of machines or people."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.servers.__main__ import PACKAGED, PACKAGES
from shared.standalone.embedded_server import server_binary

VERSIONS = ("digitq", "flask", "granian", "redis", "hiredis", "rq", "tensorflow-cpu", "tensorflow", "numpy")


def describe() -> dict[str, Any]:
    """Return CPU model and cores, memory (GB), kernel, Python, server and library versions, and the load before."""
    return {
        "cpu": _proc("cpuinfo", "model name") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "redis_server": _redis_server(),
        "versions": dict(_versions()),
        "load_before": round(os.getloadavg()[0], 2),
    }


def _proc(file: str, field: str) -> str:
    path = Path("/proc") / file
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), "")


def _redis_server() -> str:
    done = subprocess.run([server_binary(), "--version"], capture_output=True, text=True, check=True)
    return " ".join(done.stdout.split()[:3])


def _versions() -> Iterator[tuple[str, str]]:
    for name in VERSIONS:
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    for name in PACKAGED:
        for found in metadata.distributions(name=name, path=[str(PACKAGES)]):
            yield name, found.version
