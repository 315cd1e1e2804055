"""Predictions: what a network's output means.

A network is trained to output a fixed mixture of data and noise,

    target = a · x0 + b · eps,

so a prediction is a row (a, b), which may depend on t. With x_t = alpha · x0 + sigma · eps that is a system of two
equations; one solution reads them all:

    D = alpha · b − sigma · a,     x0 = (b · x_t − sigma · raw) / D,     eps = (alpha · raw − a · x_t) / D.

Where D = 0 the output says nothing that x_t does not: eps-prediction at alpha = 0, for one. Such a pair of schedule and
prediction is refused when it is put together.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from carrara.errors import InputError
from carrara.schedules import Schedule


class Row(NamedTuple):
    """The target a · x0 + b · eps: two coefficients, each the shape of t."""

    a: Tensor
    b: Tensor


class Prediction(ABC):
    """A row (a, b) for every schedule and time."""

    @abstractmethod
    def row(self, schedule: Schedule, t: Tensor) -> Row:
        """The coefficients of the target at t."""

    def input_scale(self, schedule: Schedule, t: Tensor) -> Tensor:
        """What x_t is multiplied with before the network sees it: 1, unless the prediction says otherwise."""
        return torch.ones_like(t)

    def determinant(self, schedule: Schedule, t: Tensor) -> Tensor:
        """D = alpha · b − sigma · a, shape of t."""
        a, b = self.row(schedule, t)
        return schedule.alpha(t) * b - schedule.sigma(t) * a


class X0(Prediction):
    """The data: (1, 0)."""

    def row(self, schedule: Schedule, t: Tensor) -> Row:
        return Row(torch.ones_like(t), torch.zeros_like(t))


class Eps(Prediction):
    """The noise: (0, 1), as in DDPM. Unreadable where alpha = 0."""

    def row(self, schedule: Schedule, t: Tensor) -> Row:
        return Row(torch.zeros_like(t), torch.ones_like(t))


class V(Prediction):
    """v = alpha · eps − sigma · x0: (−sigma, alpha). Source: Salimans & Ho, 2022, section 4."""

    def row(self, schedule: Schedule, t: Tensor) -> Row:
        return Row(-schedule.sigma(t), schedule.alpha(t))


class Velocity(Prediction):
    """dx_t/dt with x0 and eps held: (alpha′, sigma′). Source: Lipman et al., 2023, eq. 14 and 23."""

    def row(self, schedule: Schedule, t: Tensor) -> Row:
        return Row(schedule.alpha_dot(t), schedule.sigma_dot(t))


class EDMPrediction(Prediction):
    """The mixture that is uncorrelated with x_t and has variance 1, for data of standard deviation `data_std`:

        a = sigma / (data_std · c),    b = −alpha · data_std / c,    c = √(alpha² data_std² + sigma²),    input x_t / c.

    At alpha = 1 this is EDM's preconditioning; at data_std = 1 and alpha² + sigma² = 1 it is −v.

    Source: Karras et al., 2022, table 1 and appendix B.6, carried over to any alpha.
    """

    def __init__(self, data_std: float = 0.5) -> None:
        if not data_std > 0:
            raise InputError(f"data_std is {data_std}; it is the data's standard deviation and must be positive")
        self.data_std = data_std

    def row(self, schedule: Schedule, t: Tensor) -> Row:
        c = self.input_scale(schedule, t)
        return Row(schedule.sigma(t) * c / self.data_std, -schedule.alpha(t) * self.data_std * c)

    def input_scale(self, schedule: Schedule, t: Tensor) -> Tensor:
        return torch.rsqrt((schedule.alpha(t) * self.data_std) ** 2 + schedule.sigma(t) ** 2)


def solve(row: Row, raw: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """(x0, eps) read from the raw output at x_t; all coefficients broadcast against the tensors."""
    d = alpha * row.b - sigma * row.a
    return (row.b * x_t - sigma * raw) / d, (alpha * raw - row.a * x_t) / d


def x0_reading(row: Row, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """(p, q) with x0 = p · x_t + q · raw, each of the coefficients' shape: `solve` for x0 alone, at half its cost."""
    d = alpha * row.b - sigma * row.a
    return row.b / d, -sigma / d


def check_readable(schedule: Schedule, prediction: Prediction) -> None:
    """Raises InputError where x0 cannot be read from the output at t = 1, from which sampling starts."""
    one = torch.ones((), dtype=torch.float64)
    if prediction.determinant(schedule, one).abs() > 1e-9:
        return
    name, of = type(prediction).__name__.lower(), type(schedule).__name__
    raise InputError(
        f"{name}-prediction cannot be read at t = 1 under the schedule {of}: alpha(1) is 0 there, so x_1 is the noise itself and "
        "tells nothing of x0. Choose prediction v, velocity, x0 or edm, or a schedule without zero-terminal SNR."
    )


PREDICTIONS: dict[str, type[Prediction]] = {
    "x0": X0,
    "eps": Eps,
    "v": V,
    "velocity": Velocity,
    "edm": EDMPrediction,
}
