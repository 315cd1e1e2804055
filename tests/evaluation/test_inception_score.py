"""The Inception Score: its bounds, its formula, what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from carrara.errors import InputError, NonFinite
from carrara.evaluation.inception_score import inception_score


def test_the_same_verdict_for_all_scores_one() -> None:
    score = inception_score(torch.randn(1, 50, generator=torch.Generator().manual_seed(0)).repeat(40, 1), splits=4)
    assert score.value == pytest.approx(1, abs=1e-9) and score.deviation == pytest.approx(0, abs=1e-9)
    assert (score.n, score.splits) == (40, 4)


def test_sure_and_even_over_k_classes_scores_k() -> None:
    logits = 1e4 * torch.eye(8)[:5].repeat(6, 1)
    assert inception_score(logits, splits=3).value == pytest.approx(5, rel=1e-9)


def test_it_is_the_formula_of_its_paper() -> None:
    logits = 3 * torch.randn(103, 20, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    scores = []
    for part in np.array_split(np.exp(logits.numpy()), 10):
        p = part / part.sum(1, keepdims=True)
        scores.append(np.exp(np.mean(np.sum(p * (np.log(p) - np.log(p.mean(0))), 1))))
    found = inception_score(logits)
    assert found.value == pytest.approx(np.mean(scores), rel=1e-9)
    assert found.deviation == pytest.approx(np.std(scores), rel=1e-9)


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(InputError, match=r"10 splits.*at least 10; got \(9, 5\)"):
        inception_score(torch.zeros(9, 5))
    with pytest.raises(InputError, match="0 splits"):
        inception_score(torch.zeros(9, 5), splits=0)
    with pytest.raises(InputError, match=r"got \(9,\)"):
        inception_score(torch.zeros(9), splits=1)
    with pytest.raises(NonFinite, match="logits"):
        inception_score(torch.full((9, 5), torch.nan), splits=1)
