"""Texts, and models of them small enough to be measured in a moment."""

from __future__ import annotations

import numpy as np
import torch

from carrara.data import Dataset, Split
from carrara.data.documents import Documents
from carrara.model import Model, build
from carrara.recipe import check

LINES = (
    "In the beginning was the word.",
    "The man said to the people, go to the house and stay there.",
    "And there was light; and the light was good.",
    "They came to the city, and the king of the city was glad.",
)


def split(texts: list[str]) -> Split:
    return Split(Documents.of(texts), np.zeros(len(texts), np.int64))


def lines(n: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [f"{LINES[i]} {LINES[j]}" for i, j in rng.integers(0, len(LINES), (n, 2))]


def data() -> Dataset:
    return Dataset("lines", (), split(lines(120, 0)), split(lines(40, 1)), "e" * 64, "none", "made here")


def model(kind: str = "masked", sampler: str = "cached", length: int = 32, **changes: object) -> Model:
    """Untrained, with weights that are not zero anywhere; the autoregressive one where `kind` says so."""
    causal = kind == "autoregressive"
    content = {
        "name": "lines",
        "data": {"kind": "verse"},
        "codec": {"kind": "bytes", "length": length, **changes},
        "condition": {"kind": "none"},
        "network": {"kind": "tokens", "width": 16, "head_width": 8, "depth": 1, "causal": causal},
        "process": {"kind": kind},
        "train_times": {"kind": "uniform"},
        "sampling": {"sampler": sampler, "steps": 4},
    }
    made = build(check(content), (), ())
    with torch.no_grad():
        for index, parameter in enumerate(made.denoiser.parameters()):
            parameter += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index))
    made.denoiser.eval()
    return made


def causal(length: int = 32, **changes: object) -> Model:
    return model("autoregressive", "left_to_right", length, **changes)
