"""How much of a latent model's distance is its autoencoder's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pooled import Pooled
from torch import Tensor

from carrara.data import Dataset, load
from carrara.errors import InputError
from carrara.evaluation.measure import heldout
from carrara.kl.model import build as build_kl
from carrara.kl.share import rates, share
from carrara.model import Model, build
from carrara.recipe import check

RECIPE: dict[str, Any] = {
    "name": "latents",
    "data": {"kind": "digits"},
    "trainable": {"kind": "kl", "channels": 3, "width": 8, "depth": 1},
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARRARA_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def digits() -> Dataset:
    return load("digits")


def model(folder: Path, digits: Dataset, codec: dict[str, Any]) -> Model:
    build_kl(check(RECIPE), (1, 8, 8)).save(folder)
    network = {"kind": "unet", "width": 8, "depth": 1}
    content = {"name": "small", "data": {"kind": "digits"}, "codec": codec, "network": network}
    return build(check(content), digits.shape, digits.classes)


def test_samples_that_are_reconstructions_leave_nothing_to_the_generation_model(
    tmp_path: Path, digits: Dataset
) -> None:
    made = model(tmp_path / "kl", digits, {"kind": "kl", "model": str(tmp_path / "kl")})
    real: Tensor = heldout(digits, 360)[:360]
    codec: Any = made.codec
    found = share(made, digits, codec.model.again(real), Pooled())
    assert found.n == 360 and found.floor < found.reconstructions == found.samples and found.of_autoencoder == 1
    worse = share(made, digits, torch.zeros(400, 1, 8, 8, dtype=torch.uint8), Pooled())
    assert worse.n == 360 and worse.reconstructions == found.reconstructions and worse.samples != found.samples
    assert worse.as_dict()["of_autoencoder"] == worse.of_autoencoder
    assert rates(codec.model, real[:8], 1).keys() == {"encode_images_per_s", "decode_images_per_s"}
    assert min(rates(codec.model, real[:8], 1).values()) > 0


def test_a_model_of_pixels_has_no_such_share(tmp_path: Path, digits: Dataset) -> None:
    with pytest.raises(
        InputError, match="has no autoencoder of which a share could be measured; its codec is 'pixels'"
    ):
        share(model(tmp_path / "kl", digits, {"kind": "pixels"}), digits, torch.zeros(4, 1, 8, 8), Pooled())
