"""docs/mathematics.md, masks as noise: every sum over what may be hidden is taken in full, every integral by quadrature."""

from itertools import pairwise, permutations

import pytest
import torch
from quadrature import gauss
from torch import Tensor
from toys import F64, scalar
from words import SURVIVAL_CASES, Looker, Many, exact, patterns, table, total_variation, walked_law

from carrara.analytic import TableDenoiser, TokenTable
from carrara.beliefs import Tokens
from carrara.masking import Masked
from carrara.schedules import Flow, Schedule
from carrara.times import uniform
from carrara.token_likelihood import token_bound
from carrara.tokens import MaskedDenoiser

each_schedule = pytest.mark.parametrize("schedule", SURVIVAL_CASES.values(), ids=SURVIVAL_CASES)
HALF = scalar(0.5)


class Blurred(TableDenoiser):
    """A belief that is wrong: the exact one, half of it forgotten."""

    def __call__(self, x_t: Tensor, t: Tensor, cond: object = None) -> Tokens:
        hidden = self.process.hidden(x_t)
        return Tokens.of(0.5 * super().__call__(x_t, t).logp.clamp(min=-60)).told(x_t, hidden)


def blurred() -> Blurred:
    return Blurred(table(3), Masked(Flow(), 3))


def cost(denoiser: TableDenoiser, x0: Tensor, hidden: Tensor) -> Tensor:
    """−log p of what is hidden of x0 (B, L), by itself: (B, L), 0 elsewhere."""
    logp = denoiser(x0.masked_fill(hidden, denoiser.process.mask), HALF).logp
    return -logp.gather(-1, x0[..., None])[..., 0] * hidden


def expected_cost(denoiser: TableDenoiser, x0: Tensor, sigma: Tensor) -> Tensor:
    """E of the sum of it where a share sigma (n,) is hidden: (B, n)."""
    total = torch.zeros(len(x0), len(sigma), dtype=F64)
    for hidden in patterns(x0.shape[1]):
        count = int(hidden.sum())
        chance = sigma**count * (1 - sigma) ** (x0.shape[1] - count)
        total += cost(denoiser, x0, hidden).sum(1)[:, None] * chance
    return total


def bound(denoiser: TableDenoiser, x0: Tensor) -> Tensor:
    """∫ E[cost] dsigma / sigma, (B,)."""
    return gauss(lambda sigma: expected_cost(denoiser, x0, sigma) / sigma, 0, 1)


@each_schedule
def test_a_mask_s_posterior_is_bayes_rule(schedule: Schedule) -> None:
    """q(x_s shows | x_t hidden, x0) = q(x_t hidden | x_s shows) q(x_s shows | x0) / q(x_t hidden | x0)."""
    t, s = scalar(0.7), scalar(0.3)
    alpha_t, alpha_s = schedule.alpha(t), schedule.alpha(s)
    hides = 1 - alpha_t / alpha_s
    torch.testing.assert_close(Masked(schedule, 3).reveal(t, s), hides * alpha_s / (1 - alpha_t))


@each_schedule
def test_the_bound_of_many_steps_becomes_the_integral(schedule: Schedule) -> None:
    """Σ (1 − sigma_s / sigma_t) E[cost at t], whatever the schedule; the mean of few exact steps lies above it."""
    process, law = Masked(schedule, 3), table(3)
    every = law.every()

    def steps(n: int, denoiser: TableDenoiser) -> Tensor:
        t, s = (torch.stack(side) for side in zip(*pairwise(uniform(n, schedule)), strict=True))
        return (expected_cost(denoiser, every, schedule.sigma(t)) * process.reveal(t, s)).sum(1)

    for denoiser in (blurred(), exact(3)):
        torch.testing.assert_close(steps(4000, denoiser), bound(denoiser, every), rtol=2e-3, atol=0)
    few, more = (float((law.p.flatten() * steps(n, exact(3))).sum()) for n in (4, 16))
    assert few > more > law.entropy


def test_the_bound_is_the_entropy_at_the_optimum_and_above_it_elsewhere() -> None:
    """At the optimum it is −log p of every sequence by itself."""
    denoiser, wrong = exact(3), blurred()
    law, every = denoiser.table, denoiser.table.every()
    torch.testing.assert_close(bound(denoiser, every), -law.log_prob(every))
    assert float((law.p.flatten() * bound(denoiser, every)).sum()) == pytest.approx(law.entropy, rel=1e-9)
    assert float((law.p.flatten() * bound(wrong, every)).sum()) > law.entropy + 0.1


@pytest.mark.parametrize("make", [exact, blurred])
def test_the_bound_is_the_mean_over_all_orders(make: object) -> None:
    """Each order's chain rule is a likelihood of its own; the first token hidden by all, the last by none."""
    denoiser: TableDenoiser = make()  # type: ignore[operator]
    every, orders = denoiser.table.every(), list(permutations(range(3)))
    total = torch.zeros(len(every), dtype=F64)
    for order in orders:
        for place in range(3):
            hidden = torch.tensor([i in order[place:] for i in range(3)])
            total += cost(denoiser, every, hidden)[:, order[place]]
    torch.testing.assert_close(total / len(orders), bound(denoiser, every))


def test_the_order_of_reading_is_the_exact_likelihood() -> None:
    denoiser = exact(3)
    every, total = denoiser.table.every(), torch.zeros(27, dtype=F64)
    for place in range(3):
        total += cost(denoiser, every, torch.arange(3) >= place)[:, place]
    torch.testing.assert_close(total, -denoiser.table.log_prob(every))


@each_schedule
def test_the_mean_of_the_loss_is_the_bound(schedule: Schedule) -> None:
    """Of a network, over times and masks; `token_bound` estimates the same."""
    network = Looker(3)
    denoiser = MaskedDenoiser(network, Masked(schedule, 3)).eval()
    law = TokenTable(torch.full((3,) * 3, 1 / 27, dtype=F64))
    every = law.every()
    wanted = gauss(lambda sigma: _network_cost(denoiser, every, sigma) / sigma, 0, 1)
    rows = every.repeat(4000, 1)
    t = (torch.arange(len(rows), dtype=F64) // 27 + 0.5) / 4000
    with torch.no_grad():
        loss = 3 * denoiser.loss(rows, t, None, Many(len(rows))).double().reshape(4000, 27)  # type: ignore[arg-type]
    estimate = token_bound(denoiser, rows, None, Many(len(rows)), 1).nats.reshape(4000, 27)  # type: ignore[arg-type]
    for found in (loss, estimate):
        assert float(((found.mean(0) - wanted) / (found.std(0) / 4000**0.5)).abs().max()) < 4.5


def _network_cost(denoiser: MaskedDenoiser, x0: Tensor, sigma: Tensor) -> Tensor:
    with torch.no_grad():
        return expected_cost(denoiser, x0, sigma)  # type: ignore[arg-type]


@each_schedule
@pytest.mark.parametrize("steps", [1, 3, 10])
def test_two_tokens_are_wrong_as_often_as_they_show_at_once(schedule: Schedule, steps: int) -> None:
    """The law is (1 − c) p + c p_1 p_2, c = Σ (sigma_t − sigma_s)²: n steps of the straight schedule leave c = 1 / n."""
    denoiser, times = exact(2, schedule), uniform(steps, schedule)
    p = denoiser.table.p
    alone = p.sum(1)[:, None] * p.sum(0)
    c = schedule.sigma(times).diff().square().sum()
    found = walked_law(denoiser, times)
    torch.testing.assert_close(found, (1 - c) * p + c * alone)
    assert total_variation(found, p) == pytest.approx(float(c) * total_variation(alone, p))
    if isinstance(schedule, Flow):
        assert float(c) == pytest.approx(1 / steps)
