"""What a sample takes from outside: bounds for the belief, a picture to begin from, places of it to keep.

Bounds and places are denoisers made of a denoiser, so they hold for every sampler, prediction and guidance: no sampler
knows of them. A picture to begin from only moves the beginning of the walk.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from carrara.denoisers import Cond, Denoiser, Following, Reading, following, reading
from carrara.errors import InputError, nearest
from carrara.processes import Process, like
from carrara.rng import Streams

# ---------------------------------------------------------------------------------------------------------- thresholds


def none(x0: Tensor) -> Tensor:
    """x0 itself."""
    return x0


def static(x0: Tensor, bound: float = 1.0) -> Tensor:
    """x0 (B, *) clamped to [−bound, bound].

    Source: Photorealistic Text-to-Image Diffusion Models with Deep Language Understanding, Saharia et al., 2022, section 2.3.
    """
    return x0.clamp(-bound, bound)


def dynamic(x0: Tensor, bound: float = 1.0, percentile: float = 0.995, ceiling: float | None = None) -> Tensor:
    """x0 (B, *) clamped to [−s, s] and brought to [−bound, bound]: clamp(x0, −s, s) · bound / s.

    s is each sample's own: the percentile of |x0|, at least `bound`, at most `ceiling`. So a sample whose x0 strays has
    its contrast taken back, and one that lies within the bound stays bit for bit as it is.

    Source: Saharia et al., 2022, section 2.3, "Dynamic thresholding".
    """
    s = quantile(x0.abs(), percentile).clamp(min=bound, max=ceiling)
    # Scaled before it is clamped, which is the same, so that rounding cannot leave the bound.
    return (x0 * like(bound / s, x0)).clamp(-bound, bound)


def quantile(x: Tensor, share: float) -> Tensor:
    """The smallest of each sample's numbers that at least this share of them do not exceed, (B,), from x (B, *)."""
    ranked = x.flatten(1).sort(dim=1).values
    return ranked[:, max(1, math.ceil(share * ranked.shape[1] - 1e-9)) - 1]


THRESHOLDS: dict[str, Callable[..., Tensor]] = {"none": none, "static": static, "dynamic": dynamic}


def check_threshold(threshold: Any) -> None:
    """Raises InputError where this is not a mapping of a kind in THRESHOLDS and options of it that can be used."""
    kind = threshold.get("kind") if hasattr(threshold, "get") else None
    if not isinstance(kind, str):
        raise InputError(
            f"threshold is {threshold!r}; it needs a kind, as in {{kind: dynamic}}: {', '.join(sorted(THRESHOLDS))}"
        )
    if kind not in THRESHOLDS:
        raise InputError(f"there is no threshold called {kind!r}: {nearest(kind, THRESHOLDS)}")
    own = set(inspect.signature(THRESHOLDS[kind]).parameters) - {"x0"}
    options = {name: value for name, value in threshold.items() if name != "kind"}
    for name, value in options.items():
        if name not in own:
            allowed = nearest(str(name), own) if own else "it takes none"
            raise InputError(f"the threshold {kind!r} has no option {name!r}: {allowed}")
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise InputError(
                f"the option {name} of the threshold {kind!r} is {value!r}; it must be a number above 0 and finite"
            )
    if options.get("percentile", 1) > 1:
        raise InputError(
            f"the threshold's percentile is {options['percentile']}; it is a share and at most 1 (0.995 is usual)"
        )
    if options.get("ceiling", math.inf) < options.get("bound", 1.0):
        raise InputError(
            f"the threshold's ceiling is {options['ceiling']}, below its bound {options.get('bound', 1.0)}; it must not be"
        )


class Thresholded:
    """A denoiser whose believed x0 is kept in bounds; a belief's variance stays as it is."""

    def __init__(self, denoiser: Denoiser, kind: str, **options: float) -> None:
        """The kinds and their options are those of THRESHOLDS. Raises InputError for others."""
        check_threshold({"kind": kind, **options})
        self.denoiser, self.kind, self.options = denoiser, kind, options
        self.process = denoiser.process

    def __call__(self, x_t: Tensor, t: Tensor, cond: Cond | None = None) -> Any:
        """The bounded belief about x0 (B, *) given x_t at t."""
        return self.denoiser(x_t, t, cond).bounded(partial(THRESHOLDS[self.kind], **self.options))


def thresholded(denoiser: Denoiser, kind: str = "none", **options: float) -> Denoiser:
    """`denoiser` with its belief kept in bounds; itself where the kind is "none"."""
    return denoiser if kind == "none" else Thresholded(denoiser, kind, **options)


# ------------------------------------------------------------------------------------------------------ start and mask


KNOWN, MADE = "known", "made"
"""Under which names a condition carries what `Kept` must know."""


class Kept:
    """A denoiser that is told x0 where it is kept, and is sure of it there.

    A sampler holds what is certain at alpha x0 + sigma eps by itself, so the network sees the known places with just
    the noise of their time, and they end at x0; a token that is kept shows from the beginning. What is known travels in the
    condition, with the samples it belongs to: a sampler may ask for some of its batch.

    Source: Score-Based Generative Modeling through Stochastic Differential Equations, Song et al., 2021, appendix I.2,
    imputation; there x_t is replaced at every step, here the belief.
    """

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser, self.process = denoiser, denoiser.process

    def __call__(self, x_t: Tensor, t: Tensor, cond: Cond | None = None) -> Any:
        """The belief about x0 given x_t (B, *) at t: `denoiser`'s where `made` is True, `known` elsewhere (see `told`)."""
        if cond is None or not {KNOWN, MADE} <= cond.keys():
            raise InputError("what is kept was not told: give the condition that carrara.editing.told returns")
        return self.denoiser(x_t, t, untold(cond)).told(cond[KNOWN], cond[MADE])

    @property
    def following(self) -> Following | None:
        """The denoiser's own, where it has one: what is kept shows, so nothing is believed there."""
        return _of_the_rest(following(self.denoiser))

    @property
    def reading(self) -> Reading | None:
        """As `following`, of the denoiser's `reading`."""
        return _of_the_rest(reading(self.denoiser))


def _of_the_rest(inner: Following | Reading | None) -> Following | None:
    """`inner` without what the condition tells of what is known."""
    return None if inner is None else lambda tokens, cond, memory: inner(tokens, untold(cond), memory)


def told(cond: Cond | None, known: Tensor, made: Tensor) -> Cond:
    """The condition with what `Kept` must know: known (B, *), and made, bool, which broadcasts over it."""
    return {**(cond or {}), KNOWN: known, MADE: made}


def untold(cond: Cond | None) -> Cond | None:
    """The condition without it; None where nothing else is in it."""
    return {name: value for name, value in (cond or {}).items() if name not in (KNOWN, MADE)} or None


@dataclass(frozen=True)
class Edit:
    """What a walk changes, instead of making all of it from noise."""

    x0: Tensor
    """(B, *): what is changed, one for each sample."""
    made: Tensor | None = None
    """bool (B, 1, H, W), of tokens (B, L), or whatever has B rows and broadcasts over x0: True is made, False is kept.

    None: all is made.
    """
    strength: float = 1.0
    """The share of the grid's steps that are walked, its last ones, in (0, 1]: 1 begins at t = 1, with what it leaves of x0."""

    def __post_init__(self) -> None:
        number = isinstance(self.strength, int | float) and not isinstance(self.strength, bool)
        if not number or not 0 < self.strength <= 1:
            raise InputError(
                f"strength is {self.strength!r}; it is the share of the steps that are walked: above 0 (the start hardly "
                "changes) and at most 1 (all is made anew)"
            )

    def rows(self, rows: slice) -> Edit:
        """What these samples change."""
        return replace(self, x0=self.x0[rows], made=None if self.made is None else self.made[rows])

    def path(self, times: Tensor) -> Tensor:
        """The end of the grid `times` (n + 1,) that is walked."""
        return times[-1 - walked(len(times) - 1, self.strength) :]

    def begin(self, process: Process[Any], t: Tensor, rng: Streams) -> Tensor:
        """x_t, where the walk begins: see the process's `start`."""
        return process.start(self.x0, t, self.made, rng)

    def keep(self, denoiser: Denoiser, cond: Cond | None) -> tuple[Denoiser, Cond | None]:
        """The denoiser and the condition with what is kept; as they were where all is made."""
        return (denoiser, cond) if self.made is None else (Kept(denoiser), told(cond, self.x0, self.made))


def walked(steps: int, strength: float) -> int:
    """How many steps of the grid are walked: round(strength · steps), at least 1."""
    return max(1, round(strength * steps))


def pictures(start: Tensor, shape: tuple[int, ...], count: int) -> Tensor:
    """(count, *shape): the starting pictures, from one of this shape or one for each sample. Raises InputError for others."""
    given = tuple(start.shape) if isinstance(start, Tensor) else type(start).__name__
    if not isinstance(start, Tensor) or given not in (shape, (1, *shape), (count, *shape)):
        raise InputError(
            f"start is {given}; give a uint8 tensor {shape}, or one for each of the {count} samples, {(count, *shape)}"
        )
    return start.expand(count, *shape)


def places(mask: Tensor, size: tuple[int, ...], count: int) -> Tensor:
    """bool (count, 1, H, W), True where it is to be made (a uint8 mask: where it is not 0), from one mask or one each.

    Raises InputError for anything but bool or uint8 of size (H, W), (1, H, W), (count, H, W) or with a channel of 1 more.
    """
    if not isinstance(mask, Tensor) or mask.dtype not in (torch.bool, torch.uint8):
        given = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise InputError(
            f"mask is {given}; it must be a bool or uint8 tensor, True or above 0 where it is to be made"
        )
    one = [size, (1, *size), (1, 1, *size)]
    if tuple(mask.shape) not in (*one, (count, *size), (count, 1, *size)):
        raise InputError(
            f"mask has the shape {tuple(mask.shape)}; give {size}, or one for each of the {count} samples, {(count, *size)}"
        )
    return mask.reshape(-1, 1, *size).bool().expand(count, 1, *size)
