"""Containers with a CPU limit, and their CPU time, for `benchmarks.scaling`. Linux only."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def docker(*words: str) -> str:
    return subprocess.run(["docker", *words], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def _usage(pid: int) -> tuple[Path, float]:
    """The file that counts the CPU time of this process's control group, and its unit in seconds."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "cpuacct" in controllers.split(","):
            return CGROUPS / controllers / path.lstrip("/") / "cpuacct.usage", 1e-9
    return CGROUPS / path.lstrip("/") / "cpu.stat", 1e-6


@dataclass(frozen=True)
class Container:
    """A running container on this machine."""

    id: str
    usage: Path
    unit: float

    @classmethod
    def run(cls, *words: str) -> Container:
        """Run a container, with arguments as for `docker run`. No health checks, which would use its CPU."""
        id = docker("run", "-d", "--init", "--no-healthcheck", *words)
        return cls(id, *_usage(int(docker("inspect", "-f", "{{.State.Pid}}", id))))

    def limit(self, cores: float) -> None:
        """Limits the CPU to `cores`, in periods of 100 ms as orchestrators do."""
        docker("update", "--cpus", f"{cores:.3f}", self.id)

    def port(self, inside: int) -> int:
        return int(docker("port", self.id, str(inside)).split(":")[-1].split()[0])

    def cpu_s(self) -> float:
        """Return the CPU seconds of all its processes."""
        return int(self.usage.read_text().removeprefix("usage_usec").split()[0]) * self.unit

    def remove(self) -> None:
        docker("rm", "-fv", self.id)
