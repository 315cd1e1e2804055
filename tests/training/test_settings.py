"""A number that cannot be trained with is refused by name."""

from typing import Any

import pytest

from carrara.errors import RecipeError
from carrara.training.settings import Training


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch", 0),
        ("lr", 0.0),
        ("lr", float("nan")),
        ("warmup_images", -1),
        ("cooldown", 1.01),
        ("cooldown", -0.01),
        ("clip", 0.0),
        ("ema_images", 0.0),
        ("ema_ramp", 0.0),
        ("ema_ramp", 1.1),
        ("previews", -1),
        ("keep", 0),
        ("checkpoint_s", -1.0),
    ],
)
def test_impossible_numbers_are_refused(name: str, value: Any) -> None:
    with pytest.raises(RecipeError, match=rf"^training\.{name} is {value}; it must be "):
        Training(**{name: value})


def test_the_edges_are_allowed() -> None:
    Training(batch=1, warmup_images=0, cooldown=0, ema_ramp=1, previews=0, keep=1, checkpoint_s=0)
    Training(cooldown=1)
