"""Denoisers of tokens and what they say of a likelihood."""

import math
from typing import Any

import pytest
import torch
from toys import F64
from words import SURVIVAL_CASES, Looker, Many, Reader, exact, patterns, table

from carrara.analytic import TableDenoiser, TokenTable
from carrara.conditions.label import NoCondition
from carrara.errors import InputError
from carrara.masking import Masked
from carrara.rng import Streams
from carrara.samplers import SAMPLERS
from carrara.sampling import Sampling
from carrara.schedules import Flow, MaskCosine, Schedule
from carrara.token_likelihood import token_bound, token_log_likelihood
from carrara.tokens import TOKEN_WEIGHTS, AutoregressiveDenoiser, MaskedDenoiser, autoregressive

K = 5
HALF = torch.tensor(0.5, dtype=F64)


def masked(schedule: Schedule | None = None, weight: str = "nelbo") -> MaskedDenoiser:
    return MaskedDenoiser(Looker(), Masked(schedule or Flow(), K), weight)


def x0(count: int = 6, length: int = 7) -> torch.Tensor:
    return torch.randint(0, K, (count, length), generator=torch.Generator().manual_seed(0))


# ------------------------------------------------------------------------------------------------------- beliefs


@pytest.mark.parametrize("make", [masked, lambda: AutoregressiveDenoiser(Reader(), Masked(Flow(), K))])
def test_what_shows_is_believed_and_the_mask_is_not(make: Any) -> None:
    denoiser = make()
    x_t, hidden = denoiser.process.corrupt(x0(), HALF, Streams(range(6)))
    belief = denoiser(x_t, HALF)
    assert belief.logp.shape == (6, 7, K) and belief.logp.dtype == torch.float32
    torch.testing.assert_close(belief.logp.exp().sum(-1), torch.ones(6, 7))
    assert torch.equal(belief.logp[~hidden].exp(), torch.eye(K)[x0()[~hidden]])
    expected = denoiser.logits(x_t, HALF, None).log_softmax(-1)
    torch.testing.assert_close(belief.logp[hidden], expected[hidden])


def test_the_network_is_told_what_is_hidden_and_the_condition() -> None:
    denoiser = masked(MaskCosine())
    t = torch.tensor([0.1, 0.5, 0.9], dtype=F64)
    labels = [denoiser(x0(3), t, {"label": torch.tensor(label)}).logp for label in ([0, 0, 0], [0, 1, 2])]
    plain = denoiser(torch.full((3, 7), K), t).logp
    level = denoiser.network.seen[0][1]
    torch.testing.assert_close(level, MaskCosine().sigma(t).float())
    assert level.dtype == torch.float32 and plain.isfinite().all()
    assert torch.equal(*labels)  # All shows.
    hidden = torch.full((3, 7), K)
    one, other = (denoiser(hidden, t, {"label": torch.tensor(label)}).logp for label in ([0, 0, 0], [0, 1, 2]))
    assert torch.equal(one[0], other[0]) and not torch.equal(one[1], other[1])


def test_a_backend_computes_where_only_values_are_asked_for() -> None:
    denoiser = masked().eval()
    denoiser.backend = lambda x, level, cond=None: torch.zeros(*x.shape, K)
    x = torch.full((2, 3), K)
    with torch.no_grad():
        assert torch.equal(denoiser(x, HALF).logp, torch.full((2, 3, K), -math.log(K)))
    assert not torch.equal(denoiser(x, HALF).logp, torch.full((2, 3, K), -math.log(K)))


# ------------------------------------------------------------------------------------------------------- losses


@pytest.mark.parametrize("schedule", SURVIVAL_CASES.values(), ids=SURVIVAL_CASES)
def test_the_loss_is_the_rate_times_what_is_hidden(schedule: Schedule) -> None:
    denoiser, t = masked(schedule), torch.linspace(0.05, 1, 6, dtype=F64)
    loss = denoiser.loss(x0(), t, None, Streams(range(6)))
    x_t, hidden = denoiser.process.corrupt(x0(), t, Streams(range(6)))
    logp = denoiser(x_t, t).logp.double().gather(-1, x0()[..., None])[..., 0]
    total = -(logp * hidden).sum(1)
    rate = -schedule.alpha_dot(t) / (1 - schedule.alpha(t))
    torch.testing.assert_close(loss.double(), rate * total / 7, rtol=1e-5, atol=0)
    assert loss.dtype == torch.float32
    plain = masked(schedule, "mean").loss(x0(), t, None, Streams(range(6)))
    torch.testing.assert_close(plain.double(), total / hidden.sum(1).clamp(min=1), rtol=1e-5, atol=0)


def test_nothing_hidden_costs_nothing() -> None:
    t = torch.full((6,), 1e-9, dtype=F64)
    for weight in TOKEN_WEIGHTS:
        assert torch.equal(masked(weight=weight).loss(x0(), t, None, Streams(range(6))), torch.zeros(6))


def test_losses_do_not_depend_on_how_the_batch_is_split() -> None:
    denoiser, t = masked(), torch.linspace(0.05, 1, 6, dtype=F64)
    cond = {"label": torch.tensor([0, 1, 2, 0, 1, 2])}

    def part(a: int, b: int) -> torch.Tensor:
        return denoiser.loss(x0()[a:b], t[a:b], {"label": cond["label"][a:b]}, Streams.of_run(1, a, b - a))

    assert torch.equal(torch.cat([part(0, 1), part(1, 6)]), part(0, 6))


def test_every_parameter_gets_a_gradient() -> None:
    for denoiser in (masked(), AutoregressiveDenoiser(Reader(), Masked(Flow(), K))):
        t = torch.linspace(0.3, 1, 6, dtype=F64)
        denoiser.loss(x0(), t, {"label": torch.tensor([0, 1, 2, 3, 0, 1])}, Streams(range(6))).mean().backward()
        for name, p in denoiser.named_parameters():
            assert (name == "network.head.bias" and denoiser.network.__class__ is Looker) or float(
                p.grad.abs().sum()
            ) > 0


def test_the_autoregressive_loss_is_the_chain_rule_and_draws_nothing() -> None:
    denoiser = AutoregressiveDenoiser(Reader(), Masked(Flow(), K)).eval()
    total = torch.zeros(6)
    for i in range(7):
        x_t = x0().clone()
        x_t[:, i:] = K
        total -= denoiser(x_t, HALF).logp[:, i].gather(-1, x0()[:, i : i + 1])[:, 0]
    loss = denoiser.loss(x0(), torch.rand(6, dtype=F64), None, None)  # type: ignore[arg-type]
    torch.testing.assert_close(loss, total / 7)
    torch.testing.assert_close(token_log_likelihood(denoiser, x0()).float(), -total)
    assert token_log_likelihood(denoiser, x0()).dtype == F64


def test_the_autoregressive_law_has_the_sum_1() -> None:
    denoiser = AutoregressiveDenoiser(Reader(3), Masked(Flow(), 3)).eval()
    every = TokenTable(torch.full((3,) * 4, 3.0**-4, dtype=F64)).every()
    assert float(token_log_likelihood(denoiser, every).exp().sum()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: masked(weight="nelboo"), r"no weight of tokens called 'nelboo': did you mean 'nelbo'\?"),
        (lambda: MaskedDenoiser(Reader(), Masked(Flow(), K)), "looks to both sides, and this network is causal"),
        (
            lambda: AutoregressiveDenoiser(_two_sided(), Masked(Flow(), K)),
            "sees? only what comes before; choose causal: true",
        ),
        (
            lambda: MaskedDenoiser(Looker(4), Masked(Flow(), K))(torch.zeros(2, 3, dtype=torch.int64), HALF),
            "codec's vocab",
        ),
        (
            lambda: token_log_likelihood(masked(), x0()),
            "MaskedDenoiser shows tokens in every order.*token_bound bounds it",
        ),
        (lambda: token_bound(masked(), x0(), None, Streams(range(6)), 0), "0 draws were asked for"),
        (lambda: TokenTable(torch.full((2, 3), 1 / 6)), "is no law of tokens"),
        (lambda: TokenTable(torch.tensor([0.5, 0.6])), "is no law of tokens"),
        (lambda: TokenTable(torch.tensor([1.5, -0.5])), "is no law of tokens"),
    ],
)
def test_what_does_not_fit_is_refused(make: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        make()


def _two_sided() -> Looker:
    network = Looker()
    network.causal = False  # type: ignore[assignment]
    return network


# ------------------------------------------------------------------------------------------------------- bounds


def test_the_table_s_beliefs_are_bayes_rule() -> None:
    """For every pattern of what shows, by sums over the table in another way."""
    law = table(3)
    for hidden in patterns(3):
        x_t = law.every().masked_fill(hidden, 3)
        found = law.marginals(x_t)
        for row, p in zip(x_t[::4], found[::4], strict=True):
            fits = (law.every() == row).logical_or(row == 3).all(1) * law.p.flatten()
            for i in range(3):
                expected = torch.stack([fits[law.every()[:, i] == k].sum() for k in range(3)]) / fits.sum()
                torch.testing.assert_close(p[i], expected)
    impossible = TokenTable(torch.eye(2, dtype=F64) / 2)
    found = impossible.marginals(torch.tensor([[0, 1], [0, 2]]))
    torch.testing.assert_close(found, torch.tensor([[[1, 0], [0, 1]], [[1, 0], [1, 0]]], dtype=F64))


def test_the_table_draws_and_weighs() -> None:
    law = table(2)
    found = torch.zeros_like(law.p).index_put_(
        tuple(law.sample(Many(100_000)).T), torch.ones(100_000, dtype=F64), accumulate=True
    )
    assert float((found / 100_000 - law.p).abs().sum() / 2) < 0.005
    torch.testing.assert_close(law.log_prob(law.every()).exp(), law.p.flatten())
    assert law.entropy == pytest.approx(-float((law.p * law.p.log()).sum()))


def test_the_bound_is_estimated_without_bias_and_its_error_is_honest() -> None:
    """At the optimum it is −log p of every x0; 4 draws have more error than 16; the standard error is no smaller than the error."""
    denoiser = exact(3, MaskCosine())
    every = denoiser.table.every()
    for n in (1, 4, 5, 16):
        rows = every.repeat(400, 1)
        found = token_bound(denoiser, rows, None, Many(len(rows), n), n)
        each = found.nats.reshape(400, -1)
        exact_nats = -denoiser.table.log_prob(every)
        away = (each.mean(0) - exact_nats) / (each.std(0) / 20)
        assert float(away.abs().max()) < 4
        if n == 1:
            assert found.standard_error is None
        else:
            told = found.standard_error.reshape(400, -1).square().mean(0).sqrt()
            assert bool((told > 0.9 * each.std(0)).all()) and bool((told < 2 * each.std(0)).all())


def test_a_sample_s_bound_is_its_stream_s() -> None:
    denoiser = masked().eval()
    whole = token_bound(denoiser, x0(), None, Streams(range(6)), 3).nats
    assert torch.equal(token_bound(denoiser, x0()[4:5], None, Streams([4]), 3).nats[0], whole[4])


def test_a_table_denoiser_is_a_denoiser_of_its_process() -> None:
    denoiser = TableDenoiser(table(2), Masked(Flow(), 3))
    belief = denoiser(torch.tensor([[3, 1]]), HALF)
    assert belief.logp.dtype == F64 and float(belief.logp[0, 1, 1]) == 0


@pytest.mark.parametrize("sampler", sorted(name for name in SAMPLERS if name != "left_to_right"))
def test_samplers_of_another_order_are_refused(sampler: str) -> None:
    """They would draw, of a model that was never shown tokens so."""
    denoiser = autoregressive(Reader(), K)
    with pytest.raises(
        InputError,
        match=f"^the sampler '{sampler}' walks .* makes tokens in their order; choose one of left_to_right$",
    ):
        Sampling(sampler, 4).check(denoiser, NoCondition())
    Sampling("left_to_right", 4).check(denoiser, NoCondition())
    Sampling("carrara.samplers.revealing:cached", 4).check(denoiser, NoCondition())
