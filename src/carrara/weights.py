"""Weights: how much an error counts at each noise level.

Each is written once, as the factor w on the squared error of x0, a function of logsnr λ and of the rate −dλ/dt at which a
uniformly drawn t passes it. The denoiser converts to its network's output by one factor: the raw error is (D / sigma)
times the error of x0 (see predictions.py), so the loss is w · (sigma / D)² · ‖raw − target‖².

    name       on the error of x0                it is
    simple     e^λ                               plain mean square of eps (DDPM, eq. 14)
    x0         1                                 plain mean square of x0
    v          1 + e^λ                           plain mean square of v when alpha² + sigma² = 1
    flow       (1 + e^{λ/2})²                    plain mean square of the velocity when alpha + sigma = 1
    min_snr    min(e^λ, gamma)                   Hang et al., 2023, eq. 8
    edm        e^λ + 1 / data_std²               Karras et al., 2022, table 1
    vlb        ½ e^λ · (−dλ/dt)                  the variational bound in nats, t uniform (Kingma et al., 2021, eq. 15)
    sigmoid    ½ e^λ · sigmoid(bias − λ)(−dλ/dt) Kingma & Gao, 2023; Hoogeboom et al., 2024
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from carrara.errors import InputError


class Weight(Protocol):
    """w(logsnr, rate), elementwise and positive."""

    def __call__(self, logsnr: Tensor, rate: Tensor) -> Tensor: ...


class Simple:
    """e^λ: every error of eps counts the same, as in DDPM's L_simple."""

    def __call__(self, logsnr: Tensor, rate: Tensor) -> Tensor:
        return logsnr.exp()


class UnitX0:
    """1: every error of x0 counts the same."""

    def __call__(self, logsnr: Tensor, rate: Tensor) -> Tensor:
        return torch.ones_like(logsnr)


class UnitV:
    """1 + e^λ: every error of v counts the same, where alpha² + sigma² = 1."""

    def __call__(self, logsnr: Tensor, rate: Tensor) -> Tensor:
        return 1 + logsnr.exp()


class UnitFlow:
    """(1 + e^{λ/2})²: every error of eps − x0 counts the same, where alpha + sigma = 1."""

    def __call__(self, logsnr: Tensor, rate: Tensor) -> Tensor:
        return (1 + (logsnr / 2).exp()) ** 2


class MinSNR:
    """min(e^λ, gamma): L_simple, held back where the noise is small."""

    def __init__(self, gamma: float = 5.0) -> None:
        self.gamma = _positive("gamma", gamma)

    def __call__(self, logsnr: Tensor, rate: Tensor) -> Tensor:
        return logsnr.exp().clamp(max=self.gamma)


class EDMWeight:
    """e^λ + 1/data_std²: with the EDM prediction, weight 1 on the network's output at every level."""

    def __init__(self, data_std: float = 0.5) -> None:
        self.data_std = _positive("data_std", data_std)

    def __call__(self, logsnr: Tensor, rate: Tensor) -> Tensor:
        return logsnr.exp() + self.data_std**-2


class VLB:
    """½ e^λ (−dλ/dt): with t uniform the expected loss is the diffusion term of the variational bound, in nats."""

    def __call__(self, logsnr: Tensor, rate: Tensor) -> Tensor:
        return _bound(logsnr, rate)


class Sigmoid:
    """½ e^λ sigmoid(bias − λ) (−dλ/dt): the bound, with fine detail counted less; the larger the bias, the less is held back."""

    def __init__(self, bias: float = 0.0) -> None:
        self.bias = bias

    def __call__(self, logsnr: Tensor, rate: Tensor) -> Tensor:
        return _bound(logsnr, rate) * torch.sigmoid(self.bias - logsnr)


def _bound(logsnr: Tensor, rate: Tensor) -> Tensor:
    """½ e^λ (−dλ/dt), and its limit 0 where nothing of the data is left and the rate is infinite."""
    return torch.where(logsnr == -torch.inf, 0.0, 0.5 * logsnr.exp() * rate)


def _positive(name: str, value: float) -> float:
    if not value > 0:
        raise InputError(f"{name} is {value}; it must be positive")
    return value


WEIGHTS: dict[str, type[Weight]] = {
    "simple": Simple,
    "x0": UnitX0,
    "v": UnitV,
    "flow": UnitFlow,
    "min_snr": MinSNR,
    "edm": EDMWeight,
    "vlb": VLB,
    "sigmoid": Sigmoid,
}
