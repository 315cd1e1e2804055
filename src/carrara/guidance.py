"""Guidance: a denoiser made of denoisers.

    belief = weak + scale · (strong − weak)

There is one definition of the scale: 0 is the weak belief, 1 is the strong one and no guidance, more goes beyond. With the
null condition as the weak one this is classifier-free guidance (Ho & Salimans, 2022, eq. 6 with scale = 1 + w); with a worse
network it is autoguidance (Karras et al., 2024).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from carrara.beliefs import Point
from carrara.denoisers import Cond, Denoiser
from carrara.errors import InputError


class Guided:
    """A denoiser that goes beyond `denoiser`, away from its own belief under the null condition or from a weaker denoiser's."""

    def __init__(
        self,
        denoiser: Denoiser,
        scale: float,
        null: Cond | None = None,
        weak: Denoiser | None = None,
        interval: tuple[float, float] = (0.0, 1.0),
        rescale: float = 0.0,
    ) -> None:
        """`null`: the null condition of the whole batch; `interval`: the times (from, to) at which guidance acts
        (Kynkäänniemi et al., 2024); `rescale` in [0, 1]: how far the guided x0's standard deviation is taken back to the
        strong one's (Lin et al., 2024, eq. 15–16, applied to x0).
        """
        if (null is None) == (weak is None):
            raise InputError("guidance needs either a null condition or a weaker denoiser, and not both")
        if not 0 <= interval[0] < interval[1] <= 1:
            raise InputError(f"the guidance interval {interval} must be two times with 0 ≤ from < to ≤ 1")
        if not 0 <= rescale <= 1:
            raise InputError(f"rescale is {rescale}; it must lie in [0, 1]")
        self.denoiser, self.scale, self.null, self.weak = denoiser, scale, null, weak
        self.interval, self.rescale = interval, rescale
        self.process = denoiser.process

    def __call__(self, x_t: Tensor, t: Tensor, cond: Cond | None = None) -> Any:
        """The guided belief about x0 at the scalar time t; outside the interval, and at scale 1, the denoiser's own."""
        if t.ndim:
            raise InputError(f"guidance acts at one time for the whole batch; t has the shape {tuple(t.shape)}")
        if self.scale == 1 or not self.interval[0] <= float(t) <= self.interval[1]:
            return self.denoiser(x_t, t, cond)
        strong, weak = self._both(x_t, t, cond)
        guided = strong.extrapolate(weak, self.scale)
        return _rescaled(guided, strong, self.rescale) if self.rescale else guided

    def _both(self, x_t: Tensor, t: Tensor, cond: Cond | None) -> tuple[Any, Any]:
        if self.weak is not None:
            return self.denoiser(x_t, t, cond), self.weak(x_t, t, cond)
        assert self.null is not None
        if cond is None:
            raise InputError(
                "classifier-free guidance needs a condition to go towards; give a label or a prompt, or scale 1"
            )
        # A sampler may ask for a part of the batch; the null is the same for every sample.
        both = {name: torch.cat([cond[name], self.null[name][: len(x_t)]]) for name in cond}
        strong, weak = self.denoiser(torch.cat([x_t, x_t]), t, both).halves()
        return strong, weak


def guided(denoiser: Denoiser, scale: float, null: Cond | None = None, **options: Any) -> Guided:
    """`denoiser` guided with this scale; the options are Guided's."""
    return Guided(denoiser, scale, null, **options)


def _rescaled(guided: Point, strong: Point, share: float) -> Point:
    """x0 scaled by share · std(strong) / std(guided) + (1 − share), standard deviations over each sample's numbers."""
    axes = tuple(range(1, guided.x0.ndim))
    ratio = strong.x0.std(axes, keepdim=True) / guided.x0.std(axes, keepdim=True).clamp(min=1e-12)
    return Point(guided.x0 * (share * ratio + 1 - share), guided.variance)
