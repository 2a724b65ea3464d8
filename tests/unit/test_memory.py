"""Detection of the memory limit: the machine's, or that of a control group."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.memory import memory_bytes


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 1000 pages of one byte."""
    monkeypatch.setattr("os.sysconf", {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": 1000}.__getitem__)
    return tmp_path


def limits(root: Path, files: dict[str, str]) -> int:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return memory_bytes(root)


def test_without_control_groups_it_is_the_machines(root: Path) -> None:
    assert memory_bytes(root) == 1000


def test_of_version_2_the_smallest_limit_on_the_way_up_counts(root: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/system.slice/digitq.service",
        "sys/fs/cgroup/system.slice/digitq.service/memory.max": "max",
        "sys/fs/cgroup/system.slice/memory.max": "700",
    }
    assert limits(root, files) == 700


def test_in_a_container_its_own_group_is_the_topmost(root: Path) -> None:
    assert limits(root, {"proc/self/cgroup": "0::/", "sys/fs/cgroup/memory.max": "512"}) == 512


def test_of_version_1_the_controller_of_memory_is_asked(root: Path) -> None:
    files = {
        "proc/self/cgroup": "12:cpu,cpuacct:/x\n9:memory:/docker/abc",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "600",  # as a container sees it: not under its path
    }
    assert limits(root, files) == 600


def test_a_limit_beyond_the_machine_is_none(root: Path) -> None:
    files = {"proc/self/cgroup": "9:memory:/", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712"}
    assert limits(root, files) == 1000


def test_where_the_system_does_not_tell_it_is_0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str) -> int:
        raise ValueError(name)

    monkeypatch.setattr("os.sysconf", unknown)
    assert memory_bytes(tmp_path) == 0
