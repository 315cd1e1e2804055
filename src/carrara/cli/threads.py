"""The cores that torch works on."""

from __future__ import annotations

import ctypes
import math
import os
from pathlib import Path

ALONE, BESIDE = "10000", "1000"
"""How often a thread without work looks for some before it sleeps, alone on the machine and beside others. The longer it looks the
sooner it goes on, and the longer it keeps others from theirs: OpenMP's own hundreds of thousands slow a small network beside
another busy process down by an order of magnitude, 10,000 to two thirds, and alone a thousand cost a fifth."""
LOAD = Path("/proc/loadavg")
QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Microseconds of all cores together in each period, and the period; "max" where there is no limit (cgroup v2)."""

MALLOC = {-3: 1 << 25, -1: (1 << 31) - 1, -2: 1 << 26}
"""M_MMAP_THRESHOLD at the most that glibc allows, M_TRIM_THRESHOLD, M_TOP_PAD (mallopt(3)), bytes."""


def rest_when_idle() -> None:
    """Lets torch's threads sleep when they have nothing to do, sooner beside others; must be called before torch is imported."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", ALONE if alone() else BESIDE)


def alone() -> bool:
    """Whether no other process works on this machine at this moment; False where that cannot be seen."""
    try:
        running = LOAD.read_text().split()[3].partition("/")[0]
    except (OSError, IndexError):
        return False
    return running in ("0", "1")


def use_cores() -> int:
    """Sets torch's threads to the cores this process may use, shared with its siblings, and returns how many they are.

    OMP_NUM_THREADS, where it is set, is obeyed instead.
    """
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    return torch.get_num_threads()


def keep_memory() -> bool:
    """Lets freed memory stay with this process, for the next step to find; True where the C library can do so (glibc).

    Otherwise each step's activations are given back and asked for again, and the kernel clears every page anew.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return all(mallopt(what, value) for what, value in MALLOC.items())


def cores() -> int:
    """The cores that this process may run on, and in a container no more than it has the time of."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(there, quota() or there)


def quota() -> int | None:
    """The cores whose time a container is given, rounded up; None where there is no limit, or none can be seen."""
    try:
        given, period = QUOTA.read_text().split()
        return max(1, math.ceil(int(given) / int(period)))
    except (OSError, ValueError):
        return None


def in_words(threads: int) -> str:
    """1 thread, 2 threads, …"""
    return f"{threads} thread" + "s" * (threads != 1)
