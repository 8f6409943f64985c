"""What processes cost, from the kernel's own books. A process counts with all its descendants."""

from collections.abc import Mapping
from dataclasses import dataclass

import psutil


def _tree(pid: int) -> list[psutil.Process]:
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def cpu_seconds(pid: int) -> float:
    """CPU time of the tree so far, of descendants that have ended too."""
    total = 0.0
    for process in _tree(pid):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:  # its parent's books have it by now, at the next reading
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def cpu_of(pids: Mapping[str, int]) -> dict[str, float]:
    """CPU seconds so far by name."""
    return {name: cpu_seconds(pid) for name, pid in pids.items()}


@dataclass(frozen=True, slots=True)
class Memory:
    """MiB of a tree. PSS shares a page among its users, so PSS may be added up; RSS counts it for each."""

    rss: float
    pss: float


def memory(pid: int) -> Memory:
    """The tree's memory now."""
    rss = pss = 0
    for process in _tree(pid):
        try:
            info = process.memory_full_info()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        rss, pss = rss + info.rss, pss + info.pss
    return Memory(rss / 2**20, pss / 2**20)
