"""What the command line does to the process it runs in."""

import os
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import torch
from carrara.cli.threads import keep_memory
torch.set_num_threads(1)
if sys.argv[1] == "keep" and not keep_memory():
    sys.exit(3)
def step():
    kept = [torch.ones(1 << 20) for _ in range(16)]
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


MAPPED = {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=131072"}
"""A fixed threshold: by itself glibc raises it with what is freed, and whether memory then stays depends on what lies above it."""


def faults(how: str) -> int:
    words = [sys.executable, "-c", FAULTS, how]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=os.environ | MAPPED)
    if done.returncode == 3:
        pytest.skip("this C library has no mallopt")
    return int(done.stdout)


def test_memory_that_is_kept_is_not_cleared_again() -> None:
    assert faults("keep") < 1000 < faults("plain")
