"""A cache of its own for every test, and a way to paint pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Paint = Callable[..., Path]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "cache"
    monkeypatch.setenv("CARRARA_CACHE", str(place))
    return place


@pytest.fixture
def root(tmp_path: Path) -> Path:
    place = tmp_path / "pictures"
    place.mkdir()
    return place


@pytest.fixture
def paint(root: Path) -> Paint:
    """paint("cat/1.png", seed=3): a smooth coloured picture of its own at that path inside the root."""

    def paint(name: str, size: tuple[int, int] = (24, 20), seed: int = 0, mode: str = "RGB", **options: Any) -> Path:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).convert(mode).save(path, **options)
        return path

    return paint
