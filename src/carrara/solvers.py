"""Solvers of ordinary differential equations from outside, for `flow_log_likelihood`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from carrara.errors import InputError, MissingExtra

if TYPE_CHECKING:
    from carrara.likelihood import Field, Solver


def dopri5(rtol: float = 1e-5, atol: float = 1e-5) -> Solver:
    """Dormand and Prince's adaptive method of order 5 (the package torchdiffeq): it chooses its steps by these tolerances.

    One step is chosen for the whole batch, so a sample's result depends on its company, within the tolerances. Raises
    MissingExtra where the package is not installed, InputError for tolerances that are not positive.
    """
    if not (rtol > 0 and atol > 0):
        raise InputError(f"rtol {rtol} and atol {atol} were given; both tolerances must be positive")
    try:
        from torchdiffeq import odeint
    except ImportError as error:
        raise MissingExtra("torchdiffeq", "ode", "the solver dopri5") from error

    def solve(field: Field, y: Tensor, start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
        width = field(start, y)[1]

        def right(clock: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            change, part = field(clock, state[0])
            return change, part.to(y.dtype)

        ends = torch.stack([start, end]).to(y.device)
        begin = (y, torch.zeros_like(width, dtype=y.dtype))
        path, integral = odeint(right, begin, ends, rtol=rtol, atol=atol, method="dopri5")
        return path[-1], integral[-1].double()

    return solve
