"""diffusers as the other side of a comparison."""

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def quiet_peer() -> Iterator[None]:
    """The peer says much of its settings on stderr; here they are chosen on purpose."""
    diffusers = pytest.importorskip("diffusers", reason="the peer is not installed: pip install 'carrara[oracle]'")
    before = diffusers.utils.logging.get_verbosity()
    diffusers.utils.logging.set_verbosity_error()
    yield
    diffusers.utils.logging.set_verbosity(before)
