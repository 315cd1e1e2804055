"""The probability-flow ODE by SciPy's solvers, whose steps are as small as the tolerance asks."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from carrara.denoisers import Cond, Denoiser
from carrara.errors import InputError
from carrara.processes import NUMBERS
from carrara.rng import Streams
from carrara.samplers.levels import level
from carrara.samplers.step import Step, of, pairs

METHODS = ("RK23", "RK45", "DOP853")


@torch.no_grad()
def adaptive(
    denoiser: Denoiser,
    x: Tensor,
    times: Tensor,
    cond: Cond | None = None,
    *,
    rng: Streams | None = None,
    rtol: float = 1e-4,
    atol: float = 1e-4,
    method: str = "RK45",
) -> Iterator[Step]:
    """The ODE from each time of the grid to the next within a tolerance, by as many evaluations as that takes.

    A reference rather than a way to sample: each sample is solved alone, for a step's size must not depend on the others of
    its batch, and on the CPU. The step that ends at t = 0 gives the belief. `method` is RK23, RK45 or DOP853.

    Source: SciPy's solve_ivp; Song et al., 2021, section 4.3.
    """
    if method not in METHODS:
        raise InputError(f"the method is {method!r}; it is one of {', '.join(METHODS)}")
    if not (rtol > 0 and atol > 0):
        raise InputError(f"the tolerances must be positive; given rtol = {rtol} and atol = {atol}")
    of(NUMBERS, denoiser.process)
    for index, t, s in pairs(times):
        belief = denoiser(x, t, cond)
        if s > 0:
            rows = [
                _solved(denoiser, x[row : row + 1], t, s, _row(cond, row), rtol, atol, method)
                for row in range(len(x))
            ]
            x = torch.cat(rows)
        else:
            x = belief.x0
        yield Step(index, t, s, x, belief)


def _solved(
    denoiser: Denoiser, x: Tensor, t: Tensor, s: Tensor, cond: Cond | None, rtol: float, atol: float, method: str
) -> Tensor:
    """x_s of one sample, in the process's straight coordinates y = x / c against their clock, which run down with t."""
    from scipy.integrate import solve_ivp

    process = denoiser.process
    (c_t, start), (c_s, end) = (process.straight(level(process.schedule, u)) for u in (t, s))

    def slope(clock: float, flat: object) -> object:
        time = process.at_clock(torch.tensor(clock, dtype=torch.float64)).clamp(s, t)
        y = torch.as_tensor(flat).reshape(x.shape)
        now = level(process.schedule, time)
        x_now = (process.straight(now)[0] * y).to(x)
        return process.slope(x_now, denoiser(x_now, time, cond), now).double().flatten().cpu().numpy()

    y = (x.double().cpu() / c_t).flatten().numpy()
    solution = solve_ivp(slope, (start, end), y, method=method, rtol=rtol, atol=atol)
    x_s: Tensor = c_s * torch.from_numpy(solution.y[:, -1])
    return x_s.reshape(x.shape).to(x)


def _row(cond: Cond | None, row: int) -> Cond | None:
    return None if cond is None else {name: value[row : row + 1] for name, value in cond.items()}
