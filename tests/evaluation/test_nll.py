"""Likelihoods of held-out pictures: the plain models by brute force, and a whole measurement of a small model."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from carrara.codecs.pixels import Pixels
from carrara.data import Dataset, Split
from carrara.decoders import bits_per_dim, dequantised
from carrara.errors import InputError
from carrara.evaluation.evaluate import applicable, evaluate
from carrara.evaluation.inputs import shuffled
from carrara.evaluation.nll import BINS, Effort, Figure, gaussian_nats, nll, pixel_nats
from carrara.likelihood import flow_nats
from carrara.model import Model, build
from carrara.recipe import check
from carrara.rng import Streams

QUICK = Effort(draws=3, steps=3, checked=2, batch=4)


def split(n: int, seed: int, shape: tuple[int, int, int] = (1, 8, 8)) -> Split:
    """Pictures that are bright in the middle, with noise."""
    rng = np.random.default_rng(seed)
    light = 120 * np.exp(-(((np.arange(shape[2]) - 3.5) / 2) ** 2))
    media = np.clip(light + rng.normal(40, 25, (n, *shape)), 0, 255).astype(np.uint8)
    return Split(media, rng.integers(0, 2, n).astype(np.int64))


@pytest.fixture(scope="module")
def data() -> Dataset:
    return Dataset("light", ("a", "b"), split(600, 0), split(12, 1), "f" * 64, "none", "made here")


@pytest.fixture(scope="module")
def model() -> Model:
    network = {"kind": "unet", "width": 8, "depth": 1}
    made = build(check({"data": {"kind": "digits"}, "network": network}), (1, 8, 8), ("a", "b"))
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in made.denoiser.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return made


def heldout(data: Dataset) -> Tensor:
    return torch.from_numpy(np.array(data.heldout.media))


def test_pixels_alone_by_counting(data: Dataset) -> None:
    nats = pixel_nats(data.train, heldout(data))
    train = data.train.media.reshape(600, 64)
    by_hand = 0.0
    for place, value in enumerate(data.heldout.media[3].reshape(64)):
        by_hand -= math.log((np.count_nonzero(train[:, place] == value) + 1) / (600 + 256))
    assert float(nats[3]) == pytest.approx(by_hand, rel=1e-12)


def test_pixels_alone_are_probabilities(data: Dataset) -> None:
    """At one place the 256 values' shares sum to 1, the rest being equal; what was never seen is no surprise without end."""
    media = heldout(data)[:1].repeat(256, 1, 1, 1)
    media[:, 0, 4, 4] = torch.arange(256, dtype=torch.uint8)
    nats = pixel_nats(data.train, media)
    known = pixel_nats(data.train, media[:1]) - float(nats[0])
    assert float(known) == 0
    place = data.train.media[:, 0, 4, 4]
    at = int(place[0])
    alone = -math.log((np.count_nonzero(place == at) + 1) / (600 + 256))
    assert float((nats[at] - alone - nats).exp().sum()) == pytest.approx(1)


def test_the_gaussian_is_the_one_of_the_training_pictures(data: Dataset) -> None:
    x = Pixels().encode(torch.from_numpy(np.array(data.train.media))).flatten(1).double()
    spread = (2 / 255) ** 2 / 12
    law = torch.distributions.MultivariateNormal(x.mean(0), x.T.cov() + spread * torch.eye(64, dtype=torch.float64))
    z = dequantised(Pixels().encode(heldout(data)).double(), BINS, Streams(range(7, 19))).flatten(1)
    known = -law.log_prob(z) - 64 * math.log(2 / 255)
    torch.testing.assert_close(gaussian_nats(data.train, heldout(data), Pixels(), 7), known)


def test_the_gaussian_knows_pictures_that_are_always_black() -> None:
    black = Split(np.zeros((50, 1, 2, 2), np.uint8), np.zeros(50, np.int64))
    nats = gaussian_nats(black, torch.zeros(4000, 1, 2, 2, dtype=torch.uint8), Pixels(), 0)
    # A normal law with a bin's mean square around its middle: ½ log(2π/12) + ½ nats more than nothing.
    assert float(nats.mean()) / 4 == pytest.approx(0.5 * math.log(2 * math.pi / 12) + 0.5, abs=0.02)
    assert float(pixel_nats(black, torch.zeros(1, 1, 2, 2, dtype=torch.uint8))) == pytest.approx(
        -4 * math.log(51 / 306)
    )


def test_a_figure_is_a_mean_with_its_error() -> None:
    figure = Figure.of(torch.tensor([1.0, 2.0, 6.0]) * math.log(2) * 10, 10)
    assert figure.value == pytest.approx(3) and figure.standard_error == pytest.approx(math.sqrt(7 / 3))


def test_a_whole_measurement(model: Model, data: Dataset) -> None:
    said: dict[str, tuple[int, int]] = {}
    found = nll(model, data, 10, 3, QUICK, lambda stage, done, total: said.update({stage: (done, total)}))
    assert said == {"likelihood": (32, 32), "plain models": (1200, 1200)}
    plain = found.as_dict()
    assert json.loads(json.dumps(plain)) == plain
    terms = [plain[name]["value"] for name in ("prior", "diffusion", "reconstruction")]
    assert plain["bound"]["value"] == pytest.approx(sum(terms)) and terms[0] == 0 and min(terms[1:]) > 0
    assert plain["uniform"] == 8 and plain["n"] == 10 and plain["dims"] == 64 and plain["weight"] == "flow"
    assert 4 < plain["gaussian"]["value"] < plain["pixels"]["value"] < 8
    assert all(math.isfinite(plain[name]["value"]) for name in ("flow", "flow_uniform"))
    # The flow beside the bound begins where the bound does; the other has its own beginning.
    picked = shuffled(12, 10)
    x0 = model.codec.encode(heldout(data)[picked])
    cond = {"label": torch.from_numpy(data.heldout.labels)[picked]}
    for name, spread, ratio in (("flow", "noise", QUICK.ratio), ("flow_uniform", "uniform", QUICK.ratio_uniform)):
        walk = {"t_min": ratio / (1 + ratio), "decoder": "gaussian", "steps": QUICK.steps}
        nats = flow_nats(model.denoiser, x0, cond, Streams(range(3, 13)), BINS, spread, **walk)
        assert plain[name]["value"] == pytest.approx(float(bits_per_dim(nats, 64).mean()), rel=1e-4)
    # How the pictures are split into batches is nobody's business, and neither is the network's mode.
    model.denoiser.train()
    other = nll(model, data, 10, 3, replace(QUICK, batch=3)).as_dict()
    assert model.denoiser.training
    for name in found.figures:
        assert other[name]["value"] == pytest.approx(plain[name]["value"], rel=1e-4, abs=1e-6)
    assert nll(model, data, 500, 3, QUICK).n == 12


def test_the_true_label_is_told(model: Model, data: Dataset) -> None:
    seen: list[Tensor] = []
    forward = model.denoiser.network.forward

    def spy(x: Tensor, level: Tensor, cond: dict[str, Tensor]) -> Tensor:
        assert not model.denoiser.network.training
        seen.append(cond["label"])
        return forward(x, level, cond)

    model.denoiser.network.forward = spy  # type: ignore[method-assign]
    model.denoiser.train()
    try:
        nll(model, data, 12, 0, replace(QUICK, batch=12))
    finally:
        model.denoiser.network.forward = forward  # type: ignore[method-assign]
    counts = np.bincount(data.heldout.labels, minlength=2).tolist()
    assert torch.bincount(seen[0], minlength=2).tolist() == counts and len(set(counts)) == 2


def test_a_model_that_knows_the_data_needs_fewer_bits(data: Dataset) -> None:
    """Trained for a moment: the bound falls, and the flow with it."""
    network = {"kind": "unet", "width": 8, "depth": 1}
    made = build(check({"data": {"kind": "digits"}, "network": network}), (1, 8, 8), ("a", "b"))
    before = nll(made, data, 12, 0, QUICK)
    optimiser = torch.optim.Adam(made.denoiser.parameters(), 5e-3)
    x0 = made.codec.encode(torch.from_numpy(np.array(data.train.media)))
    for i in range(30):
        rows = torch.arange(32) + 32 * (i % 18)
        t = Streams.of_run(1, 32 * i, 32).uniform().clamp(min=1e-3)
        cond = {"label": torch.from_numpy(data.train.labels)[rows]}
        loss = made.denoiser.loss(x0[rows], t, cond, Streams.of_run(0, 32 * i, 32)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    after = nll(made, data, 12, 0, QUICK)
    for name in ("bound", "flow"):
        assert after.figures[name].value < before.figures[name].value - 0.3


def test_it_is_measured_only_where_it_is_asked_for(model: Model, data: Dataset) -> None:
    assert "nll" not in applicable(model, data, None, 10)
    assert applicable(model, data, ["nll"], 10) == ["nll"]
    with pytest.raises(InputError, match=r"1 pictures were asked for.*2 or more"):
        evaluate(model, data, 1, ["nll"])
    others = replace(data, classes=("c", "d"))
    with pytest.raises(InputError, match="classes are not this data's"):
        nll(model, others, 4)


def test_bits_are_of_the_right_number_of_numbers() -> None:
    assert float(bits_per_dim(torch.tensor(64 * math.log(256.0)), 64)) == pytest.approx(8)
