"""What every test lives in."""

import os
import signal
from collections.abc import Iterator

# Where tests run side by side, what they start keeps to its core too. Whoever is imported first reads this.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

# A shell's background job begins with Ctrl-C ignored, which every process that it starts inherits; here that is tested.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """The tests' tensors are tiny: one thread is faster than waking the others, and the same wherever they run."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
