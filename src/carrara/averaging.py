"""Averages of weights over a whole run, and averages of other lengths made of them afterwards.

An average of exponent γ at time T weighs the weights of time τ by p(τ) = (γ + 1) τ^γ / T^(γ + 1), 0 < τ < T: the run's beginning is
forgotten at the same pace as the run goes on. Its length is the standard deviation of p over T.

    exponent(length)         γ, from length² = (γ + 1) / ((γ + 2)² (γ + 3))
    kept(γ, before, after)   how much stays of an average when the run goes from `before` to `after` images
    overlap(one, other)      ∫ p q dτ of two averages, each (γ, T)
    mixture(known, wanted)   the weights of known averages whose sum comes nearest to the wanted one

Source: Karras et al., Analyzing and Improving the Training Dynamics of Diffusion Models (EDM2), 2024, section 3.1 and appendix C.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from carrara.errors import InputError

LONGEST = 0.25
"""Of a uniform average the length is √(1/12), about 0.29."""
Average = tuple[float, float]
"""An exponent, and the images seen."""


def exponent(length: float) -> float:
    """γ of the average of a length, 0 < length ≤ LONGEST: the greatest root of γ³ + 7 γ² + (16 − s) γ + 12 − s, s = 1 / length²."""
    if not 0 < length <= LONGEST:
        raise InputError(
            f"an average of length {length:g} is not possible; use a share of the run, above 0 and at most {LONGEST}"
        )
    s = length**-2
    roots = np.roots([1.0, 7.0, 16.0 - s, 12.0 - s])
    return float(roots.real.max())


def kept(gamma: float, before: int, after: int) -> float:
    """The share of an average that stays as it was; the rest are the weights as they are from `before` to `after`: exactly."""
    return float((before / after) ** (gamma + 1))


def overlap(one: Average, other: Average) -> float:
    """∫ p q dτ, of which the earlier's end is the end."""
    (g, t), (h, u) = sorted((one, other), key=lambda average: average[1])
    return float((g + 1) * (h + 1) / (g + h + 1) * (t / u) ** h / u)


def mixture(known: Sequence[Average], wanted: Average) -> np.ndarray:
    """Weights (len(known),) float64 that sum to 1, with the least ∫ (Σ w p − wanted)² dτ."""
    last = max(images for _, images in (*known, wanted))
    places = [(gamma, images / last) for gamma, images in known]
    gram = np.array([[overlap(a, b) for b in places] for a in places])
    aims = np.array([overlap(a, (wanted[0], wanted[1] / last)) for a in places])
    ones = np.ones((len(known), 1))
    bordered = np.block([[gram, ones], [ones.T, np.zeros((1, 1))]])
    found: np.ndarray = np.linalg.lstsq(bordered, np.append(aims, 1.0), rcond=1e-12)[0][:-1]
    return found
