"""Bits of held-out text: exact and bound, by the mathematics' own functions; kept, resumed, with their errors."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_texts import causal, data, model

from carrara.errors import InputError
from carrara.evaluation.inputs import shuffled
from carrara.evaluation.texts import bits as module
from carrara.evaluation.texts.bits import BLOCK, bits, ratio_error, unigram
from carrara.rng import Streams
from carrara.token_likelihood import token_bound, token_log_likelihood
from carrara.training.examples import examples_of


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARRARA_CACHE", str(tmp_path / "cache"))


def windows(made: Any, n: int) -> torch.Tensor:
    heldout = examples_of(data(), made.codec)[1]
    x0: torch.Tensor = heldout.batch(shuffled(len(heldout), n))["x0"]
    return x0


def test_exact_bits_are_those_of_the_formula() -> None:
    made = causal()
    found = bits(made, data(), 40)
    x0 = windows(made, 40)
    nats = -float(token_log_likelihood(made.denoiser, x0).sum())
    characters = sum(len(text.replace("\n", "")) for text in made.codec.decode(x0))
    assert int((x0 == 256).sum()) > 0, "end tokens cost nats and are no character"
    assert found.characters == found.bytes == characters and found.tokens == 40 * 32
    assert found.per_character == pytest.approx(nats / math.log(2) / characters, rel=1e-6)
    assert found.per_token == pytest.approx(nats / math.log(2) / found.tokens, rel=1e-6)
    assert found.exact and found.estimate_error == 0 and found.standard_error > 0
    assert found.uniform == pytest.approx(math.log2(257) * found.tokens / characters)
    assert json.loads(json.dumps(found.as_dict()))["unit"] == "bits/character"


def test_a_bound_is_that_of_the_windows_own_streams() -> None:
    made = model()
    found = bits(made, data(), BLOCK + 3, seed=5, draws=4)
    x0 = windows(made, BLOCK + 3)
    known = token_bound(made.denoiser, x0, None, Streams(range(5, 5 + BLOCK + 3)), 4)
    assert known.standard_error is not None
    per = found.characters * math.log(2)
    assert found.per_character == pytest.approx(float(known.nats.sum()) / per, rel=1e-5)
    assert found.estimate_error == pytest.approx(float(known.standard_error.square().sum().sqrt()) / per, rel=1e-4)
    assert not found.exact and found.n == BLOCK + 3


def test_characters_are_not_bytes_in_other_languages() -> None:
    from small_texts import split

    from carrara.data import Dataset

    other = Dataset("de", (), split(["größer als groß " * 9] * 9), split(["süß " * 40] * 9), "d" * 64, "none", "here")
    found = bits(causal(), other)
    assert found.bytes == pytest.approx(found.characters * 6 / 4, rel=0.03)
    assert found.per_byte * found.bytes == pytest.approx(found.per_character * found.characters)


def test_what_was_measured_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    block = module._block

    def spied(*given: Any) -> Any:
        asked.append(len(given[2]))
        return block(*given)

    monkeypatch.setattr(module, "_block", spied)
    made, said = causal(), []
    once = bits(made, data(), 2 * BLOCK, progress=lambda *now: said.append(now))
    assert asked == [BLOCK, BLOCK] and said[-1] == (module.STAGE, 2 * BLOCK, 2 * BLOCK)
    assert bits(made, data(), 2 * BLOCK) == once and len(asked) == 2
    # More windows cost only what is new; other weights, draws and seeds are other figures.
    bits(made, data(), 2 * BLOCK + 5)
    assert asked[2:] == [5]
    bits(made, data(), BLOCK, seed=1)
    with torch.no_grad():
        next(made.denoiser.parameters()).add_(0.1)
    assert bits(made, data(), BLOCK) != once and len(asked) == 5


def test_the_plain_model_by_counting() -> None:
    ids = np.array([[0, 0, 1], [0, 1, 3]], np.uint8)
    assert unigram(ids, 4) == pytest.approx([-math.log2(share / 10) for share in (4, 3, 1, 2)])
    made = causal()
    train, heldout = examples_of(data(), made.codec)
    assert train.kept is not None and heldout.kept is not None
    alone = unigram(train.kept, 257)[heldout.kept].sum()
    found = bits(made, data())
    assert found.n == found.windows == len(heldout)
    assert found.unigram == pytest.approx(alone / found.characters)


def test_the_error_of_a_ratio_is_its_spread() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(20, 40, (2000, 50)).astype(float)
    values = 3 * sizes + rng.normal(0, 5, sizes.shape)
    ratios = values.sum(1) / sizes.sum(1)
    mean = np.mean([ratio_error(v, s) for v, s in zip(values[:200], sizes[:200], strict=True)])
    assert mean == pytest.approx(ratios.std(), rel=0.06)
    assert ratio_error(3 * sizes[0], sizes[0]) == pytest.approx(0)


def test_one_window_is_refused() -> None:
    with pytest.raises(InputError, match="2 or more"):
        bits(causal(), data(), 1)
