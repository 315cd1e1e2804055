"""What the command line does to the process it runs in."""

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


def faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=False)
    if done.returncode == 3:
        pytest.skip("this C library has no mallopt")
    return int(done.stdout)


def test_memory_that_is_kept_is_not_cleared_again() -> None:
    assert faults("keep") < 1000 < faults("plain")
