"""docs/mathematics.md, tokens as vectors: beliefs by Bayes' rule over all sequences, bounds beside probabilities that are known."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from toys import F64, SMOOTH, scalar
from words import table

from carrara.analytic import TokenTable
from carrara.embeddings import EmbeddedDenoiser, Table
from carrara.predictions import X0
from carrara.processes import Gaussian, like
from carrara.rng import Streams
from carrara.schedules import Schedule
from carrara.token_likelihood import code_length, embedded_bound
from carrara.weights import VLB, UnitX0

K, WIDTH, LENGTH = 3, 4, 2
each_schedule = pytest.mark.parametrize("schedule", SMOOTH.values(), ids=SMOOTH)


def rows() -> Table:
    torch.manual_seed(3)
    return Table(K, WIDTH).double()


class Context(nn.Module):
    """x0-hat whose products with the rows are what the other positions say of each, exactly, of tokens whose law is a table."""

    def __init__(self, law: TokenTable, table: Table) -> None:
        super().__init__()
        self.law, self.table = law, table

    def forward(self, x: Tensor, level: Tensor, cond: object = None) -> Tensor:
        """It sees means of rows, from which each vector's own p(w | x_t) can be read where rows are in general position."""
        basis = torch.cat([self.table.rows, torch.ones(K, 1, dtype=F64)], 1)
        own = (torch.cat([x, torch.ones_like(x[..., :1])], -1) @ torch.linalg.pinv(basis)).clamp(min=1e-30).log()
        said = torch.stack([self.others(own, i) for i in range(x.shape[1])], 1)
        basis = torch.cat([self.table.rows / math.sqrt(WIDTH), torch.ones(K, 1, dtype=F64)], 1)
        return (said @ torch.linalg.pinv(basis).T)[..., :-1]

    def others(self, own: Tensor, i: int) -> Tensor:
        """log Σ over the other positions of p(w) Π p(x_j | w_j), (B, K), but for a number a sample."""
        joint = self.law.p.log()[None].repeat(len(own), *[1] * own.shape[1])
        for j in range(own.shape[1]):
            if j != i:
                joint = joint + own[:, j].reshape(len(own), *[K if k == j else 1 for k in range(own.shape[1])])
        return joint.logsumexp([k + 1 for k in range(own.shape[1]) if k != i])


class Wrong(nn.Module):
    """A network that knows nothing of the data, and is sure of it."""

    def __init__(self, size: float) -> None:
        super().__init__()
        self.mix, self.size = nn.Linear(WIDTH, WIDTH).double(), size

    def forward(self, x: Tensor, level: Tensor, cond: object = None) -> Tensor:
        return self.size * torch.tanh(self.mix(x.roll(1, 1)) - like(level, x))


def denoiser(
    network: nn.Module | None, schedule: Schedule, clamp: str = "mean", **options: float
) -> EmbeddedDenoiser:
    known = rows()
    network = network or Context(law(), known)
    return EmbeddedDenoiser(network, Gaussian(schedule), X0(), UnitX0(), known, clamp=clamp, **options).eval()


def law() -> TokenTable:
    return table(LENGTH, K)


def posterior(made: EmbeddedDenoiser, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """(p(w_i | x_t) (B, L, K), the mean of E(w) (B, L, D)), by a sum over all sequences."""
    schedule, every = made.process.schedule, law().every()
    away = x_t[:, None] - like(schedule.alpha(t), x_t) * made.table(every)
    logp = law().log_prob(every) - 0.5 * (away / like(schedule.sigma(t), x_t)).square().sum((2, 3))
    p = torch.einsum("bs,slk->blk", logp.softmax(1), nn.functional.one_hot(every, K).double())
    return p, p @ made.table.rows


@each_schedule
@pytest.mark.parametrize("t", [0.2, 0.5, 0.9])
def test_rounding_is_bayes_rule_and_the_mean_of_rows_is_the_true_belief(schedule: Schedule, t: float) -> None:
    made, x0 = denoiser(None, schedule), law().sample(Streams(range(40)))
    x_t, _ = made.process.corrupt(made.table(x0).detach(), scalar(t), Streams(range(40)))
    p, mean = posterior(made, x_t, scalar(t))
    said = said_of(made, x_t, scalar(t))
    torch.testing.assert_close(made.logits(said, x_t, scalar(t)).softmax(-1), p, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(made(x_t, scalar(t)).x0, mean, rtol=1e-4, atol=1e-4)


def said_of(made: EmbeddedDenoiser, x_t: Tensor, t: Tensor) -> Tensor:
    """The network's own x0-hat."""
    plain = EmbeddedDenoiser(made.network, made.process, X0(), UnitX0(), made.table, clamp="none")
    said: Tensor = plain(x_t, t).x0
    return said


def bounds(
    made: EmbeddedDenoiser, sequences: Tensor, copies: int, ratio: float, n: int = 16
) -> tuple[Tensor, Tensor]:
    """(the mean bound of each sequence, its standard error), from `copies` estimates."""
    ids = sequences.repeat(copies, 1)
    found = embedded_bound(made, ids, None, Streams(range(len(ids))), n, ratio).nats.reshape(copies, -1)
    return found.mean(0), found.std(0) / math.sqrt(copies)


@each_schedule
def test_the_bound_is_the_probability_where_the_denoiser_is_exact(schedule: Schedule) -> None:
    """Of every sequence by itself. At the first time all tokens can be told apart, so that rounding each alone costs nothing."""
    made = denoiser(None, schedule)
    mean, error = bounds(made, law().every(), 1500, 0.2)
    assert float(error.max()) < 0.08
    difference = (mean + law().log_prob(law().every())) / error
    assert float(difference.abs().max()) < 4.5


NETWORKS = {"exact": 0.0, "a little wrong": 0.5, "wrong": 3.0}


@pytest.mark.parametrize("clamp", ["none", "mean", "nearest"])
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("ratio", [0.3, 2.0])
def test_no_network_gets_below_a_law(name: str, clamp: str, ratio: float) -> None:
    """Whatever network and clamp, Σ exp(−bound) over all sequences is at most Σ P = 1: each bound is above its −log P."""
    torch.manual_seed(1)
    network = None if name == "exact" else Wrong(NETWORKS[name])
    made = denoiser(network, SMOOTH["flow"], clamp)
    mean, error = bounds(made, law().every(), 60, ratio)
    total, spread = (-mean).exp().sum(), (error * (-mean).exp()).norm()
    assert float(total) < 1 + 4 * float(spread)
    if name == "exact" and clamp == "mean" and ratio < 1:
        assert float(total) > 0.9  # The sum would tell of terms that are missing.


def test_the_bound_s_error_is_honest_and_code_length_is_it() -> None:
    made, ids = denoiser(Wrong(0.5), SMOOTH["flow"]), law().sample(Streams(range(1))).expand(300, -1)
    found = embedded_bound(made, ids, None, Streams(range(300)), 8)
    assert found.standard_error is not None
    told, seen = float(found.standard_error.square().mean().sqrt()), float(found.nats.std())
    assert 0.85 * seen < told < 1.6 * seen
    same = code_length(made, ids, None, Streams(range(300)), 8)
    assert torch.equal(same.nats, found.nats)


def test_the_bound_s_integral_is_the_loss_with_the_bound_s_weight() -> None:
    """∫ ½ e^λ (−dλ/dt) ‖believed − E(w)‖² dt from the loss, whose weight is vlb, beside the integrand along the clock."""
    made, ids = denoiser(Wrong(0.5), SMOOTH["flow"]), law().every()[4:5].expand(4000, -1)
    made.weight, made.rounding = VLB(), 1e-12
    first = made.process.schedule.inverse(scalar(-2 * math.log(0.5)))
    u = Streams(range(4000)).uniform()
    loss = made.loss(ids, first + (1 - first) * u, None, Streams(range(4000, 8000))).detach()
    nats = loss * (1 - first) * WIDTH * LENGTH
    whole = embedded_bound(made, ids[:500], None, Streams(range(500)), 16, 0.5).nats
    rounding = made.nats(*noised(made, ids, first), first, None).detach().sum(1)
    error = math.hypot(float(nats.std()) / math.sqrt(4000), float(whole.std()) / math.sqrt(500))
    assert abs(float(nats.mean() + rounding.mean() - whole.mean())) < 4.5 * error


def noised(made: EmbeddedDenoiser, ids: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    x_t, _ = made.process.corrupt(made.table(ids).detach(), t, Streams(range(len(ids))))
    return x_t, ids


def test_without_rounding_all_rows_may_become_one_and_with_it_they_do_not() -> None:
    """The squared error alone is least where no token differs from another; −log p of K equal rows is log K a token."""

    def cost(spread: float, parts: Sequence[float]) -> float:
        made = denoiser(Wrong(0.0), SMOOTH["flow"])
        one = torch.ones(1, WIDTH, dtype=F64)
        with torch.no_grad():
            made.table.weight.copy_(one + spread * (made.table.weight - one))
        ids, t = law().sample(Streams(range(200))), torch.full((200,), 0.5, dtype=F64)
        losses = []
        for rounding in (1e-9, 1.0):
            made.rounding = rounding
            losses.append(float(made.loss(ids, t, None, Streams(range(200))).detach().mean()))
        return parts[0] * losses[0] + parts[1] * (losses[1] - losses[0])

    assert cost(0.0, (1, 0)) < 1e-6 < cost(1.0, (1, 0))
    assert cost(0.0, (0, 1)) == pytest.approx(math.log(K), rel=1e-5) and cost(1.0, (0, 1)) < 0.8 * math.log(K)
