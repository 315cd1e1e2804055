"""What every test lives in."""

import signal
from collections.abc import Iterator

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
