"""Denoisers of vectors of tokens: what they see and believe, what their loss is, and that it reaches the table."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import F64

from carrara.embeddings import CLAMPS, EmbeddedDenoiser, Table, embedded
from carrara.errors import InputError, RecipeError
from carrara.predictions import X0, Prediction, V, Velocity
from carrara.processes import Gaussian
from carrara.rng import Streams
from carrara.schedules import Cosine, Flow, Schedule
from carrara.variances import Learned, Posterior, Unit
from carrara.weights import UnitFlow, UnitX0, Weight

K, D, L = 7, 4, 5
HALF = torch.tensor(0.5, dtype=F64)


class Mixer(nn.Module):
    """A small network in which every position sees its neighbour; it keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.mix = nn.Linear(2 * D, D)
        self.given: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor, level: Tensor, cond: Any = None) -> Tensor:
        self.given.append((x, level))
        return self.mix(torch.cat([x, x.roll(1, 1)], -1)) * (1 + level[:, None, None])


def made(
    clamp: str = "mean",
    schedule: Schedule | None = None,
    prediction: Prediction | None = None,
    weight: Weight | None = None,
    **options: Any,
) -> EmbeddedDenoiser:
    torch.manual_seed(0)
    table, process = Table(K, D), Gaussian(schedule or Flow())
    return EmbeddedDenoiser(
        Mixer(), process, prediction or X0(), weight or UnitX0(), table, clamp=clamp, **options
    ).eval()


def ids(count: int = 6) -> Tensor:
    return torch.randint(0, K, (count, L), generator=torch.Generator().manual_seed(0))


def noised(denoiser: EmbeddedDenoiser, t: Tensor) -> Tensor:
    return denoiser.process.corrupt(denoiser.table(ids()).detach(), t, Streams(range(6)))[0]


each_clamp = pytest.mark.parametrize("clamp", CLAMPS)
TIMES = torch.linspace(0.1, 1, 6, dtype=F64)


# ------------------------------------------------------------------------------------------------------- beliefs


def test_every_row_has_a_root_mean_square_of_one_whatever_is_learned() -> None:
    table = Table(K, D)
    with torch.no_grad():
        table.weight.mul_(torch.logspace(-3, 3, K)[:, None])
    torch.testing.assert_close(table.rows.square().mean(1), torch.ones(K))
    assert torch.equal(table(ids()), table.rows[ids()]) and (table.vocab, table.width) == (K, D)


@torch.no_grad()
def test_a_belief_is_the_network_s_the_mean_of_rows_or_one_row() -> None:
    plain, mean, nearest = (made(clamp) for clamp in ("none", "mean", "nearest"))
    x_t = noised(plain, TIMES)
    said = plain(x_t, TIMES).x0
    p = plain.logits(said, x_t, TIMES).softmax(-1)
    assert not torch.allclose(said.square().mean(-1), torch.ones(6, L))
    torch.testing.assert_close(mean(x_t, TIMES).x0, p @ mean.table.rows)
    assert torch.equal(nearest(x_t, TIMES).x0, nearest.table.rows[p.argmax(-1)])


@torch.no_grad()
@pytest.mark.parametrize("clamp", ["mean", "nearest"])
def test_beliefs_are_clamped_from_a_chosen_time_on(clamp: str) -> None:
    plain, late = made("none"), made(clamp, clamp_from=0.5)
    x_t, early = noised(plain, TIMES), TIMES > 0.5
    ours, theirs, whole = (d(x_t, TIMES).x0 for d in (late, plain, made(clamp)))
    assert torch.equal(ours[early], theirs[early]) and torch.equal(ours[~early], whole[~early])
    assert torch.equal(late(x_t, HALF).x0, made(clamp)(x_t, HALF).x0)
    assert torch.equal(late(x_t, HALF + 0.01).x0, plain(x_t, HALF + 0.01).x0)


@torch.no_grad()
def test_near_the_data_a_vector_is_its_token_and_at_noise_nothing_but_what_the_network_says() -> None:
    denoiser = made()
    for t in (1e-5, 1e-2):
        x_t = noised(denoiser, torch.tensor(t, dtype=F64))
        belief = denoiser(x_t, torch.tensor(t, dtype=F64)).x0
        torch.testing.assert_close(belief, denoiser.table(ids()))
        assert bool((denoiser.nats(x_t, ids(), torch.tensor(t, dtype=F64), None) < 1e-4).all())
    one = torch.ones((), dtype=F64)
    x_t = noised(denoiser, one)
    said = denoiser.network(denoiser.seen(x_t, one), torch.ones(6))
    torch.testing.assert_close(denoiser.logits(said, x_t, one), said @ denoiser.table.rows.T / math.sqrt(D))


@torch.no_grad()
def test_the_network_sees_what_each_vector_says_by_itself() -> None:
    denoiser, t = made(), torch.tensor([1e-3, 0.3, 0.5, 0.7, 0.9, 1.0], dtype=F64)
    x_t = noised(denoiser, t)
    denoiser(x_t, t)
    seen, level = denoiser.network.given[-1]
    away = x_t[..., None, :] - (1 - t).float()[:, None, None, None] * denoiser.table.rows
    p = (-0.5 * away.square().sum(-1) / t.float()[:, None, None] ** 2).softmax(-1)
    torch.testing.assert_close(seen, p @ denoiser.table.rows, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(seen[0], denoiser.table(ids())[0])
    torch.testing.assert_close(seen[-1], denoiser.table.rows.mean(0).expand(L, D))
    torch.testing.assert_close(level, Flow().level(t).float())


def test_a_variance_stays_what_it_was() -> None:
    denoiser = made(variance=Unit())
    belief = denoiser(noised(denoiser, HALF), HALF)
    assert belief.variance is not None and float(belief.variance.max()) == pytest.approx(0.5)
    assert made(variance=Posterior())(noised(denoiser, HALF), HALF).variance is None


@torch.no_grad()
def test_in_bf16_evidence_is_still_exact() -> None:
    denoiser, t = made(), torch.full((6,), 0.05, dtype=F64)
    x_t = noised(denoiser, t)
    with torch.autocast("cpu", torch.bfloat16):
        rough = denoiser.evidence(x_t, t)
        belief = denoiser(x_t, t).x0
    assert torch.equal(rough, denoiser.evidence(x_t, t))
    torch.testing.assert_close(belief, denoiser(x_t, t).x0)


# ------------------------------------------------------------------------------------------------------- losses


@torch.no_grad()
@pytest.mark.parametrize("schedule", [Flow(), Cosine()], ids=["flow", "cosine"])
@pytest.mark.parametrize("prediction", [X0(), Velocity(), V()], ids=["x0", "velocity", "v"])
@each_clamp
def test_the_loss_is_the_belief_s_error_and_rounding(clamp: str, prediction: Prediction, schedule: Schedule) -> None:
    denoiser, t = made(clamp, schedule, prediction, UnitFlow(), rounding=0.3), TIMES
    loss = denoiser.loss(ids(), t, None, Streams(range(6)))
    x_t, plain = noised(denoiser, t), made("none", schedule, prediction)
    x0 = (plain if clamp == "nearest" else denoiser)(x_t, t).x0
    square = (x0 - denoiser.table(ids())).square().mean((1, 2))
    nats = denoiser.nats(x_t, ids(), t, None)
    torch.testing.assert_close(loss, UnitFlow()(schedule.logsnr(t), t).float() * square + 0.3 * nats.mean(1))
    logp = plain.logits(plain(x_t, t).x0, x_t, t).log_softmax(-1)
    torch.testing.assert_close(nats, -logp.gather(-1, ids()[..., None])[..., 0])


@torch.no_grad()
@pytest.mark.parametrize("prediction", [X0(), Velocity()], ids=["x0", "velocity"])
def test_without_clamp_and_rounding_it_is_the_loss_of_the_gaussian(prediction: Prediction) -> None:
    from carrara.denoisers import GaussianDenoiser

    denoiser = made("none", prediction=prediction, weight=UnitFlow(), rounding=1e-12)
    plain = GaussianDenoiser(Mixer(), denoiser.process, prediction, UnitFlow())
    plain.seen = denoiser.seen  # type: ignore[method-assign]
    x0, rng = denoiser.table(ids()), (Streams(range(6)), Streams(range(6)))
    ours, theirs = denoiser.loss(ids(), TIMES, None, rng[0]), plain.loss(x0, TIMES, None, rng[1])
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@each_clamp
def test_gradients_reach_the_table_and_the_network(clamp: str) -> None:
    denoiser = made(clamp)
    denoiser.loss(ids(), TIMES, None, Streams(range(6))).mean().backward()
    for name, parameter in denoiser.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.isfinite().all()), name
        assert bool((parameter.grad != 0).any()), name
    assert {name for name, _ in denoiser.named_parameters()} == {
        "table.weight",
        "network.mix.weight",
        "network.mix.bias",
    }
    # Only directions count: along a row itself nothing changes.
    table = denoiser.table.weight
    along = (table.grad * table).sum(1)
    torch.testing.assert_close(along, torch.zeros(K), rtol=0, atol=1e-5)


@pytest.mark.parametrize("clamp", ["none", "mean"])
def test_the_table_s_gradient_is_the_whole_of_it(clamp: str) -> None:
    """Along any direction it is the slope of the loss: none of the ways from the table to the loss is cut."""
    denoiser = made(clamp).double()
    weight = denoiser.table.weight
    along = torch.randn(K, D, dtype=F64, generator=torch.Generator().manual_seed(4))

    def loss() -> Tensor:
        return denoiser.loss(ids(), TIMES, None, Streams(range(6))).sum()

    @torch.no_grad()
    def beside(step: float) -> float:
        weight.add_(step * along)
        found = float(loss())
        weight.sub_(step * along)
        return found

    slope = (beside(1e-5) - beside(-1e-5)) / 2e-5
    loss().backward()
    assert weight.grad is not None
    assert float((weight.grad * along).sum()) == pytest.approx(slope, rel=1e-3)


@each_clamp
def test_the_gradient_is_finite_at_the_first_times_of_training(clamp: str) -> None:
    denoiser, t = made(clamp), torch.tensor([1e-5, 1e-4, 1e-3, 1e-2, 0.999, 1.0], dtype=F64)
    loss = denoiser.loss(ids(), t, None, Streams(range(6)))
    loss.sum().backward()
    assert bool(loss.isfinite().all())
    assert all(bool(p.grad.isfinite().all()) for p in denoiser.parameters() if p.grad is not None)


# ------------------------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"clamp": "means"}, "no clamp called 'means'.*mean"),
        ({"rounding": 0.0}, "rounding is 0.0; it must be above 0.*all tokens would come to one vector"),
        ({"rounding": math.inf}, "rounding is inf"),
        ({"clamp_from": 1.5}, "clamp_from is 1.5"),
        ({"variance": Learned()}, "choose variance posterior or unit"),
    ],
)
def test_what_makes_no_denoiser_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        made(**options)


def test_a_recipe_without_a_table_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"the recipe's codec has none; choose codec \{kind: embedding"):
        embedded(Mixer(), Flow(), X0(), UnitX0(), Posterior())


def test_ids_that_have_no_row_are_refused() -> None:
    with pytest.raises(InputError, match="ids go from 0 to 7, and the table has rows 0 to 6"):
        made().loss(torch.tensor([[0, 7]]), HALF[None], None, Streams([0]))
