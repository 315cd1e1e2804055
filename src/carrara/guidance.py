"""Guidance: a denoiser made of denoisers.

    belief = weak + scale · (strong − weak)

There is one definition of the scale: 0 is the weak belief, 1 is the strong one and no guidance, more goes beyond. With the
null condition as the weak one this is classifier-free guidance (Ho & Salimans, 2022, eq. 6 with scale = 1 + w); with a worse
network it is autoguidance (Karras et al., 2024). With another condition in the null's place the belief goes from that one, and so
away from what it says: a negative prompt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from carrara.beliefs import Tokens
from carrara.denoisers import Cond, Denoiser, Following, Reading, following, reading
from carrara.errors import InputError

NO_CONDITION = "classifier-free guidance needs a condition to go towards; give a label or a prompt, or scale 1"


AGAINST = "against "
"""Before the names of those tensors of a condition that stand in the null's place."""


def against(cond: Cond, weak: Cond) -> Cond:
    """The condition with another one that takes the null's place in guidance, sample by sample.

    It travels in the condition, with the samples it belongs to: a sampler may ask for some of its batch.
    """
    return {**cond, **{AGAINST + name: value for name, value in weak.items()}}


def parted(cond: Cond | None) -> tuple[Cond | None, Cond | None]:
    """(the condition itself, the one in the null's place; None where the null stays in it)."""
    if cond is None or not any(name.startswith(AGAINST) for name in cond):
        return cond, None
    weak = {name.removeprefix(AGAINST): value for name, value in cond.items() if name.startswith(AGAINST)}
    return {name: value for name, value in cond.items() if not name.startswith(AGAINST)}, weak


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
        """The guided belief about x0 at t, a scalar or (B,); outside the interval, and at scale 1, the denoiser's own."""
        acts = (t >= self.interval[0]) & (t <= self.interval[1])
        if self.scale == 1 or not acts.any():
            return self.denoiser(x_t, t, parted(cond)[0])
        strong, weak = self._both(x_t, t, cond)
        guided = strong.extrapolate(weak, self.scale if acts.all() else torch.where(acts, self.scale, 1.0))
        return guided.rescaled(strong, self.rescale) if self.rescale else guided

    @property
    def following(self) -> Following | None:
        """The denoiser's, guided, where it has one and guidance by the null condition acts all along; else None."""
        return self._remembering(following(self.denoiser))

    @property
    def reading(self) -> Reading | None:
        """As `following`, of the denoiser's `reading`."""
        return self._remembering(reading(self.denoiser))

    def _remembering(self, inner: Following | Reading | None) -> _GuidedMemory | Following | Reading | None:
        """`inner`, guided; None where the guidance cannot be kept in a memory."""
        if self.scale == 1 or inner is None:
            return inner
        always = self.interval == (0.0, 1.0) and self.weak is None and not self.rescale
        return _GuidedMemory(self, inner) if always else None

    def _both(self, x_t: Tensor, t: Tensor, cond: Cond | None) -> tuple[Any, Any]:
        if self.weak is not None:
            own = parted(cond)[0]
            return self.denoiser(x_t, t, own), self.weak(x_t, t, own)
        if cond is None:
            raise InputError(NO_CONDITION)
        both = self._conditions(cond, len(x_t))
        strong, weak = self.denoiser(torch.cat([x_t, x_t]), torch.cat([t, t]) if t.ndim else t, both).halves()
        return strong, weak

    def _conditions(self, cond: Cond, count: int) -> Cond:
        """The condition and below it the one in the null's place, or the null, which is the same for all.

        A sampler may ask for a part of the batch.
        """
        strong, weak = parted(cond)
        assert strong is not None and self.null is not None
        weak = weak or {name: value[:count] for name, value in self.null.items()}
        return {name: torch.cat([strong[name], weak[name]]) for name in strong}


@dataclass(frozen=True)
class _GuidedMemory:
    """`Following`, or `Reading`, under the condition and under the null one at once, with a memory of twice the batch."""

    guided: Guided
    inner: Following | Reading

    def __call__(self, ids: Tensor, cond: Cond | None, memory: Any, /) -> tuple[Tensor, Any]:
        if cond is None:
            raise InputError(NO_CONDITION)
        both = self.guided._conditions(cond, len(ids))
        logits, memory = self.inner(torch.cat([ids, ids]), both, memory)
        strong, weak = Tokens.of(logits).halves()
        return strong.extrapolate(weak, self.guided.scale).logp, memory


def guided(denoiser: Denoiser, scale: float, null: Cond | None = None, **options: Any) -> Guided:
    """`denoiser` guided with this scale; the options are Guided's."""
    return Guided(denoiser, scale, null, **options)
