"""Averages of weights as powers of training time: their lengths, their recursion, and one made of others."""

import numpy as np
import pytest

from carrara.averaging import LONGEST, exponent, kept, mixture, overlap
from carrara.errors import InputError

LENGTHS = (0.01, 0.05, 0.1, 0.2, LONGEST)
END = 1000.0


def profile(gamma: float, end: float, tau: np.ndarray) -> np.ndarray:
    return np.where(tau < end, (gamma + 1) / end * np.exp(gamma * np.log(tau / end)), 0.0)


@pytest.mark.parametrize("length", LENGTHS)
def test_the_length_is_the_profiles_standard_deviation(length: float) -> None:
    gamma, tau = exponent(length), (np.arange(200_000) + 0.5) / 200_000
    p = profile(gamma, 1.0, tau) / 200_000
    mean = (p * tau).sum()
    assert p.sum() == pytest.approx(1, rel=1e-4)
    assert np.sqrt((p * (tau - mean) ** 2).sum()) == pytest.approx(length, rel=1e-3)


@pytest.mark.parametrize("length", [0.0, -0.1, 0.26, float("nan")])
def test_an_impossible_length_is_refused(length: float) -> None:
    with pytest.raises(InputError, match=r"above 0 and at most 0\.25"):
        exponent(length)


@pytest.mark.parametrize("length", LENGTHS)
def test_step_by_step_is_the_integral_whatever_the_steps(length: float) -> None:
    """Weights that are a different number in each step: the average is the sum of the profile's shares, exactly."""
    gamma, rng = exponent(length), np.random.default_rng(0)
    ends = np.unique([*rng.integers(1, 1000, 40).tolist(), 1000])
    weights, average, before = rng.normal(size=len(ends)), 0.0, 0
    for weight, after in zip(weights, ends.tolist(), strict=True):
        share = kept(gamma, before, after)
        average, before = share * average + (1 - share) * weight, after
    shares = np.diff((ends / 1000) ** (gamma + 1), prepend=0.0)
    assert average == pytest.approx((shares * weights).sum(), abs=1e-12)


@pytest.mark.parametrize(("one", "other"), [(0.05, 0.1), (0.1, 0.05), (0.2, 0.2)])
def test_the_overlap_is_the_integral_of_the_product(one: float, other: float) -> None:
    a, b = (exponent(one), 600.0), (exponent(other), END)
    tau = (np.arange(600_000) + 0.5) / 1000
    expected = (profile(*a, tau) * profile(*b, tau)).sum() / 1000
    assert overlap(a, b) == pytest.approx(expected, rel=1e-4) == overlap(b, a)


def misfit(count: int, length: float) -> float:
    """Of an average made of `count` snapshots of two: the integral of what its profile lies beside the wanted one."""
    known = [(exponent(each), END * n / count) for n in range(1, count + 1) for each in (0.05, 0.1)]
    weights, tau = mixture(known, (exponent(length), END)), np.arange(5000) / 5 + 0.1
    assert weights.sum() == pytest.approx(1, abs=1e-9)
    made = sum(w * profile(*average, tau) for w, average in zip(weights, known, strict=True))
    return float(np.abs(made - profile(exponent(length), END, tau)).sum() / 5)


@pytest.mark.parametrize("length", [0.05, 0.1])
def test_a_known_average_is_made_of_itself(length: float) -> None:
    assert misfit(4, length) < 1e-3


@pytest.mark.parametrize("length", [0.07, 0.15, 0.2])
def test_others_are_made_the_better_the_more_snapshots_there_are(length: float) -> None:
    few, some, many = (misfit(count, length) for count in (2, 6, 16))
    assert many < some < few
    assert many < 0.03
