"""Likelihoods against data whose likelihood is known: the bound in T steps and without, and the probability-flow ODE."""

import math
import sys

import pytest
import torch
from torch import Tensor
from toys import F64, SCHEDULE_CASES, OneGaussian, judge, measured_order, mixture, scalar

from carrara.analytic import GaussianMixture, MixtureDenoiser
from carrara.beliefs import Point
from carrara.clock import clock_of, time_at
from carrara.decoders import DECODERS, Decoder, bin_width, bits_per_dim, dequantised
from carrara.denoisers import GaussianDenoiser
from carrara.errors import InputError, MissingExtra
from carrara.likelihood import Spread, bound, flow_log_likelihood, flow_nats, prior_divergence
from carrara.predictions import PREDICTIONS
from carrara.processes import Gaussian, like
from carrara.rng import Streams
from carrara.schedules import Cosine, Flow, LinearBeta, Schedule
from carrara.solvers import dopri5
from carrara.variances import divergence, snr_gap
from carrara.weights import Simple

all_schedules = pytest.mark.parametrize("schedule", SCHEDULE_CASES.values(), ids=SCHEDULE_CASES)
VALUES = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0], dtype=F64)
SHARES = torch.tensor([0.1, 0.35, 0.05, 0.3, 0.2], dtype=F64)
ENTROPY = -float((SHARES * SHARES.log()).sum())


class EachRow:
    """A denoiser that knows one time for all, asked at a time for each row."""

    def __init__(self, denoiser: MixtureDenoiser | OneGaussian) -> None:
        self.denoiser, self.process = denoiser, denoiser.process

    def __call__(self, x_t: Tensor, t: Tensor, cond: object = None) -> Point:
        if not t.ndim:
            return self.denoiser(x_t, t)
        return Point(torch.vmap(lambda x, at: self.denoiser(x[None], at).x0[0])(x_t, t))


class Sure(OneGaussian):
    """The exact belief of N(0, variance) with its exact variance: the chain back is then the data's own."""

    def __call__(self, x_t: Tensor, t: Tensor, cond: object = None) -> Point:
        schedule = self.process.schedule
        width = self.variance * schedule.sigma(t) ** 2 / self.noisy_variance(t)
        return Point(super().__call__(x_t, t).x0, like(width, x_t).expand_as(x_t))


class Fixed:
    """In place of random streams: the rows' noises are the nodes of Gauss–Hermite quadrature and their uniform numbers ½.

    So means over the noise are exact, and draws spread evenly after ½ are the midpoint rule.
    """

    def __init__(self, nodes: Tensor) -> None:
        self.nodes = nodes

    def normal(self, shape: tuple[int, ...], dtype: torch.dtype = F64, device: object = "cpu") -> Tensor:
        return self.nodes.reshape(-1, *(1 for _ in shape)).expand(len(self.nodes), *shape)

    def uniform(self, shape: tuple[int, ...] = (), device: object = "cpu") -> Tensor:
        return torch.full((len(self.nodes), *shape), 0.5, dtype=F64)


def hermite(count: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights for the mean over a standard normal number: eigenvalues of the Jacobi matrix (Golub & Welsch)."""
    off = torch.arange(1, count, dtype=F64).sqrt()
    nodes, vectors = torch.linalg.eigh(torch.diag(off, 1) + torch.diag(off, -1))
    return nodes, vectors[0] ** 2


FIVE = GaussianMixture(VALUES[:, None], torch.zeros(5, dtype=F64), SHARES)


def discrete(schedule: Schedule) -> EachRow:
    """The exact denoiser of one number with five values."""
    return EachRow(MixtureDenoiser(FIVE, Gaussian(schedule)))


def everything(nodes: int = 100) -> tuple[Tensor, Tensor, Fixed]:
    """(x0, weights, streams): every value with every node of the noise, and the share of each pair."""
    places, weights = hermite(nodes)
    return VALUES.repeat_interleave(nodes)[:, None], torch.outer(SHARES, weights).flatten(), Fixed(places.repeat(5))


def prior_s_miss(schedule: Schedule) -> float:
    """KL(q(x_1) ‖ prior), what any model that starts from the prior loses."""
    x0, mean, streams = everything()
    one = scalar(1)
    x_1, _ = Gaussian(schedule).corrupt(x0, one, streams)
    alpha, sigma = schedule.alpha(one), schedule.sigma(one)
    start = GaussianMixture(torch.zeros(1, 1, dtype=F64), (alpha**2 + sigma**2)[None], torch.ones(1, dtype=F64))
    return float(mean @ (FIVE.noisy(alpha, sigma).log_prob(x_1) - start.log_prob(x_1)))


def at_ratio(schedule: Schedule, ratio: float) -> float:
    """The time at which sigma/alpha is this."""
    return float(schedule.inverse(scalar(-2 * math.log(ratio))))


# ---------------------------------------------------------------------------------------------------- the bound


@all_schedules
def test_a_step_s_term_is_the_divergence_of_the_posterior_from_the_step_back(schedule: Schedule) -> None:
    """The closed form in SNR against KL of two Gaussians whose means and variances the process gives."""
    process, rng = Gaussian(schedule), Streams(range(6))
    x0, guess, spread = rng.normal((3,), F64), rng.normal((3,), F64), rng.normal((3,), F64).exp()
    for s, t in ((scalar(0.3), scalar(0.35)), (scalar(0.9), scalar(1.0)), (scalar(0.05), scalar(0.6))):
        x_t, _ = process.corrupt(x0, t, rng)
        mean, variance = process.reverse(x_t, Point(x0), t, s)
        for belief in (Point(guess), Point(guess, spread)):
            other, wider = process.reverse(x_t, belief, t, s)
            direct = 0.5 * (variance / wider - 1 - (variance / wider).log() + (mean - other) ** 2 / wider)
            gap = snr_gap(schedule, t, s)
            width = torch.zeros((), dtype=F64) if belief.variance is None else belief.variance
            torch.testing.assert_close(divergence(gap * (x0 - guess) ** 2, gap * width), direct, rtol=1e-6, atol=1e-9)


@all_schedules
def test_the_prior_s_term_is_a_divergence_of_gaussians(schedule: Schedule) -> None:
    x0, one = Streams(range(5)).normal((3,), F64), scalar(1)
    alpha, sigma = schedule.alpha(one), schedule.sigma(one)
    p = alpha**2 + sigma**2
    direct = 0.5 * ((sigma**2 + alpha**2 * x0**2) / p - 1 - (sigma**2 / p).log()).sum(1)
    torch.testing.assert_close(prior_divergence(Gaussian(schedule), x0), direct, rtol=1e-7, atol=1e-12)
    if schedule.zero_terminal:
        assert bool((prior_divergence(Gaussian(schedule), x0) == 0).all())


@pytest.mark.parametrize("steps", [1, 3, 20])
@pytest.mark.parametrize("variance", [1.0, 0.3])
@all_schedules
def test_the_bound_of_an_exact_gaussian_chain_is_the_likelihood(
    schedule: Schedule, variance: float, steps: int
) -> None:
    """Every step back of a Gaussian is Gaussian: with the true variances nothing is lost but what the prior misses."""
    nodes, weights = hermite(4)  # Every term is quadratic in one noise.
    denoiser = Sure(schedule, variance)
    for value in (0.0, 0.7, -1.5):
        x0 = torch.full((4, 1), value, dtype=F64)
        found = bound(denoiser, x0, None, Fixed(nodes), steps, bins=None, draws=None)
        exact = 0.5 * (value**2 / variance + math.log(2 * math.pi * variance))
        missed = (weights @ found.total) - exact
        one = scalar(1)
        alpha, sigma = float(schedule.alpha(one)), float(schedule.sigma(one))
        prior, true = alpha**2 + sigma**2, alpha**2 * variance + sigma**2
        second = alpha**2 * value**2 + sigma**2
        mismatch = 0.5 * (second / prior - second / true + math.log(prior / true))
        assert float(missed) == pytest.approx(mismatch, abs=1e-7)


@pytest.mark.parametrize("decoder", DECODERS)
@all_schedules
def test_it_bounds_and_tightens_with_the_steps(schedule: Schedule, decoder: Decoder) -> None:
    """Five values of one number: the mean over data and noise is never below the entropy, and comes near it."""
    x0, mean, streams = everything(48)
    counts = (1, 2, 8, 32, 128, 512)
    over = [
        float(mean @ bound(discrete(schedule), x0, None, streams, n, 5, None, decoder=decoder).total) for n in counts
    ]
    assert min(over) > ENTROPY
    # EDM's even grid of sigma up to 80 never resolves the data; the rest do, from 32 steps on.
    if not schedule.exploding:
        assert over[3:] == sorted(over[3:], reverse=True)
        assert over[-1] - ENTROPY < prior_s_miss(schedule) + 0.06


@pytest.mark.parametrize("decoder", DECODERS)
@all_schedules
def test_without_steps_it_is_the_entropy_of_discrete_data(schedule: Schedule, decoder: Decoder) -> None:
    """In continuous time the exact denoiser loses nothing but what the prior misses."""
    x0, mean, streams = everything()
    found = bound(discrete(schedule), x0, None, streams, None, 5, 300, at_ratio(schedule, 0.05), decoder)
    assert float(mean @ found.total) == pytest.approx(ENTROPY + prior_s_miss(schedule), abs=2e-3)


@pytest.mark.parametrize("ratio", [0.1, 0.3, 1.0])
@pytest.mark.parametrize("decoder", DECODERS)
def test_it_bounds_wherever_it_begins(ratio: float, decoder: Decoder) -> None:
    x0, mean, streams = everything()
    found = bound(discrete(Flow()), x0, None, streams, None, 5, 300, at_ratio(Flow(), ratio), decoder)
    assert float(mean @ found.total) > ENTROPY - 1e-4
    assert float(mean @ found.reconstruction) > 0


def test_many_steps_come_to_continuous_time() -> None:
    x0, mean, streams = everything()
    limit = float(mean @ bound(discrete(Cosine()), x0, None, streams, None, 5, 400, 1 / 600).diffusion)
    gaps = [
        float(mean @ bound(discrete(Cosine()), x0, None, streams, n, 5, None).diffusion) - limit
        for n in (150, 300, 600)
    ]
    assert gaps[0] > gaps[1] > gaps[2] > 0
    assert gaps[1] == pytest.approx(gaps[0] / 2, rel=0.15) and gaps[2] == pytest.approx(gaps[0] / 4, rel=0.15)


@pytest.mark.parametrize("draws", [1, 4])
@all_schedules
def test_a_few_terms_are_an_unbiased_estimate_of_all(schedule: Schedule, draws: int) -> None:
    rows, t_min = 3000, at_ratio(schedule, 0.05)
    nodes, weights = hermite(100)
    one = torch.full((rows, 1), 0.5, dtype=F64)
    for steps, every in ((20, None), (None, 300)):
        exact = float(
            weights @ bound(discrete(schedule), one[:100], None, Fixed(nodes), steps, 5, every, t_min).diffusion
        )
        some = bound(discrete(schedule), one, None, Streams(range(rows)), steps, 5, draws, t_min).diffusion
        error = float(some.std()) / math.sqrt(rows)
        assert float(some.mean()) == pytest.approx(exact, abs=4 * error)
        assert error < 0.08 * exact


@pytest.mark.parametrize("prediction", PREDICTIONS)
@all_schedules
def test_every_prediction_gives_the_same_bound(schedule: Schedule, prediction: str) -> None:
    """A network that outputs the best row is the best denoiser, whatever the row."""
    if prediction == "eps" and schedule.zero_terminal:
        pytest.skip("refused together")

    class Best(torch.nn.Module):
        def forward(self, x: Tensor, level: Tensor, cond: object = None) -> Tensor:
            raise NotImplementedError

    class Told(GaussianDenoiser):
        def outputs(self, x_t: Tensor, t: Tensor, cond: object) -> tuple[Tensor, None]:
            x0 = OneGaussian(schedule, 0.3)(x_t, t[:, None] if t.ndim else t).x0
            row = self._row(t, x_t)
            return row.a * x0 + row.b * self.process.eps(x_t, x0, t), None

    told = Told(Best(), Gaussian(schedule), PREDICTIONS[prediction](), Simple())
    x0 = Streams(range(8)).normal((2,), F64)
    for steps in (None, 10):
        ours = bound(told, x0, None, Streams(range(8)), steps, None, 3, at_ratio(schedule, 0.05))

        class Plain(OneGaussian):
            def __call__(self, x_t: Tensor, t: Tensor, cond: object = None) -> Point:
                return super().__call__(x_t, t[:, None] if t.ndim else t)

        plain = Plain(schedule, 0.3)
        known = bound(plain, x0, None, Streams(range(8)), steps, None, 3, at_ratio(schedule, 0.05))
        torch.testing.assert_close(ours.total, known.total, rtol=1e-6, atol=1e-6)


def test_a_sample_s_bound_is_the_same_alone() -> None:
    x0 = VALUES[[0, 1, 2, 3]][:, None].float()
    for steps in (None, 12):
        whole = bound(discrete(Flow()), x0, None, Streams(range(4)), steps, 5, 3)
        alone = bound(discrete(Flow()), x0[2:3], None, Streams([2]), steps, 5, 3)
        torch.testing.assert_close(whole.total[2:3], alone.total, rtol=1e-6, atol=1e-6)


# ---------------------------------------------------------------------------------------------------- decoders and units


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("width", [0.004, 0.3, 20.0])
def test_a_decoder_s_masses_sum_to_one(decoder: str, width: float) -> None:
    values = torch.linspace(-1, 1, 256, dtype=F64)[:, None]
    schedule = Flow()
    t = scalar(at_ratio(schedule, width))
    x_t = torch.full((256, 1), 0.31, dtype=F64)
    for variance in (None, torch.full((256, 1), 1e-6, dtype=F64)):

        class Same:
            process = Gaussian(schedule)

            def __call__(self, x: Tensor, at: Tensor, cond: object = None, own: Tensor | None = variance) -> Point:
                return Point(0.9 * x, own)

        nats = DECODERS[decoder](Same(), values, x_t, t, None, 256)
        assert bool(nats.isfinite().all()) and float((-nats).exp().sum()) == pytest.approx(1, abs=1e-9)


def test_the_gaussian_decoder_is_finite_far_in_both_tails() -> None:
    class Wrong:
        process = Gaussian(Flow())

        def __call__(self, x: Tensor, t: Tensor, cond: object = None) -> Point:
            return Point(torch.tensor([[-3.0], [3.0]], dtype=F64), torch.full((2, 1), 1e-3, dtype=F64))

    x0 = torch.tensor([[0.6], [-0.6]], dtype=F64)
    x0 = ((x0 + 1) * 127.5).round() / 127.5 - 1
    nats = DECODERS["gaussian"](Wrong(), x0, x0, scalar(0.1), None, 256)
    torch.testing.assert_close(nats[0], nats[1])
    near = 0.5 * (3.6 - bin_width(256)) ** 2 / 1e-3
    assert near < float(nats[0]) < 0.5 * 3.6**2 / 1e-3 + 20


def test_uniform_data_has_eight_bits_a_number() -> None:
    """A density that is even over 256 bins, dequantised and turned into bits, by hand: log2(256)."""
    dims, width = 12, bin_width(256)
    log_density = torch.full((3,), -dims * math.log(256 * width), dtype=F64)
    torch.testing.assert_close(
        bits_per_dim(-log_density - dims * math.log(width), dims), torch.full((3,), 8.0, dtype=F64)
    )
    assert float(bits_per_dim(torch.tensor(math.log(2) * 5), 5)) == pytest.approx(1)


def test_dequantised_numbers_fill_their_own_bin() -> None:
    x0 = torch.tensor([-1.0, 1 / 255, 1.0], dtype=F64).repeat(4000, 1)
    moved = dequantised(x0, 256, Streams(range(4000))) - x0
    assert (
        float(moved.abs().max()) <= 1 / 255 and float(moved.max()) > 0.99 / 255 and float(moved.min()) < -0.99 / 255
    )
    assert float(moved.mean()) == pytest.approx(0, abs=4 / 255 / math.sqrt(3 * 12000))
    again = dequantised(x0[7:8], 256, Streams([7])) - x0[7:8]
    assert torch.equal(moved[7:8], again)


def test_what_makes_no_bound_is_refused_in_words() -> None:
    x0, rng = VALUES[:, None], Streams(range(5))
    for words, match in (
        ({"steps": 0}, "0 steps"),
        ({"draws": None}, "continuous time"),
        ({"draws": 0}, "0 draws"),
        ({"t_min": 0.0}, "t_min is 0.0"),
        ({"bins": 256}, "none of the 256 values"),
        ({"bins": 1}, "1 bins"),
        ({"bins": None, "steps": 1, "decoder": "bins"}, "at alpha = 0"),
        ({"bins": 5, "decoder": "softmax"}, "no decoder 'softmax'.*allowed: bins, gaussian"),
    ):
        with pytest.raises(InputError, match=match):
            bound(discrete(Flow()), x0, None, rng, **{"bins": 5, **words})


# ---------------------------------------------------------------------------------------------------- the flow


@all_schedules
def test_the_clock_runs_from_and_to_the_schedule_s_times(schedule: Schedule) -> None:
    t = torch.tensor([1e-4, 0.03, 0.4, 0.97, 1.0], dtype=F64)
    torch.testing.assert_close(time_at(schedule, clock_of(schedule, t)), t, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "schedule",
    [s for s in SCHEDULE_CASES.values() if s.zero_terminal],
    ids=[n for n, s in SCHEDULE_CASES.items() if s.zero_terminal],
)
def test_the_flow_s_likelihood_is_the_mixture_s(schedule: Schedule) -> None:
    x, ratio = mixture().sample(Streams(range(6))), 0.02
    known = mixture().noisy(scalar(1), scalar(ratio)).log_prob(x)
    found = flow_log_likelihood(judge(schedule), x, trace="exact", t_min=at_ratio(schedule, ratio), steps=150)
    assert found.standard_error is None
    torch.testing.assert_close(found.log_prob, known, rtol=0, atol=1e-6)


@all_schedules
def test_the_flow_carries_a_gaussian_to_the_prior(schedule: Schedule) -> None:
    """Where the prior is not the law of x_1 the flow's own density is another Gaussian, and the walk finds that one."""
    variance, ratio = 0.3, 0.05
    x = Streams(range(5)).normal((3,), F64)
    found = flow_log_likelihood(
        OneGaussian(schedule, variance), x, trace="exact", t_min=at_ratio(schedule, ratio), steps=100
    )
    one = scalar(1)
    alpha, sigma = float(schedule.alpha(one)), float(schedule.sigma(one))
    start, end = variance + ratio**2, (alpha**2 * variance + sigma**2) / (alpha**2 + sigma**2)
    own = start / end
    known = -0.5 * (x.square() / own + math.log(2 * math.pi * own)).sum(1)
    torch.testing.assert_close(found.log_prob, known, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("method", "order"), [("heun", 2), ("rk4", 4)])
def test_the_walk_has_its_order(method: str, order: int) -> None:
    x = mixture().sample(Streams(range(4)))
    known = mixture().noisy(scalar(1), scalar(0.1)).log_prob(x)

    def error(steps: int) -> float:
        found = flow_log_likelihood(
            judge(Flow()), x, trace="exact", t_min=at_ratio(Flow(), 0.1), steps=steps, method=method
        )
        return float((found.log_prob - known).abs().max())

    assert measured_order(error, (40, 80, 160)) == pytest.approx(order, abs=0.4)


def test_random_signs_give_the_trace_in_the_mean() -> None:
    """Over many streams; the stated standard errors are those that are seen."""
    rows, probes = 600, 4
    x = torch.tensor([[0.1, 0.2]], dtype=F64).repeat(rows, 1)
    setting = {"t_min": at_ratio(Flow(), 0.1), "steps": 25}
    exact = flow_log_likelihood(judge(Flow()), x[:1], trace="exact", **setting).log_prob
    found = flow_log_likelihood(judge(Flow()), x, None, Streams(range(rows)), probes=probes, **setting)
    spread = float(found.log_prob.std())
    assert spread > 0.05  # The mixture's Jacobian is not diagonal there.
    assert float(found.log_prob.mean()) == pytest.approx(float(exact), abs=4 * spread / math.sqrt(rows))
    stated = float(found.standard_error.square().mean().sqrt())
    assert stated == pytest.approx(spread, rel=0.15)
    alone = flow_log_likelihood(judge(Flow()), x[5:6], None, Streams([5]), probes=probes, **setting)
    torch.testing.assert_close(found.log_prob[5:6], alone.log_prob)
    assert flow_log_likelihood(judge(Flow()), x[:2], None, Streams([1, 2]), **setting).standard_error is None


def test_the_flow_is_walked_without_touching_weights() -> None:
    network = torch.nn.Conv2d(1, 1, 3, padding=1)
    denoiser = GaussianDenoiser(_Plain(network), Gaussian(LinearBeta()), PREDICTIONS["v"](), Simple())
    x = Streams(range(2)).normal((1, 4, 4))
    with torch.no_grad():
        found = flow_log_likelihood(denoiser, x, None, Streams(range(2)), steps=3)
        exact = flow_log_likelihood(denoiser, x, trace="exact", steps=3)
    assert bool(found.log_prob.isfinite().all()) and exact.log_prob.dtype == F64
    assert all(p.grad is None and p.requires_grad for p in network.parameters())


class _Plain(torch.nn.Module):
    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, level: Tensor, cond: object = None) -> Tensor:
        out: Tensor = self.inner(x)
        return out


@pytest.mark.parametrize(("spread", "decoder"), [("uniform", "bins"), ("noise", "bins"), ("noise", "gaussian")])
def test_the_flow_bounds_what_discrete_data_has(spread: Spread, decoder: Decoder) -> None:
    """The mean over data and noise is no less than the entropy, and with noise and an exact flow no more either."""
    rows = 1500
    x0 = VALUES[torch.multinomial(SHARES, rows, True, generator=torch.Generator().manual_seed(1))][:, None]
    known = -SHARES.log()[((x0[:, 0] + 1) * 2).long()]
    t_min = at_ratio(Flow(), 0.1)
    nats = flow_nats(
        discrete(Flow()), x0, None, Streams(range(rows)), 5, spread, t_min=t_min, trace="exact", steps=60
    )
    extra = nats - known
    error = float(extra.std()) / math.sqrt(rows)
    assert float(extra.mean()) > -4 * error
    if spread == "noise":
        assert float(extra.mean()) < 4 * error + 1e-3 and error < 0.01
    with pytest.raises(InputError, match="no spread 'even'"):
        flow_nats(discrete(Flow()), x0[:1], None, Streams([0]), 5, "even")


def test_an_adaptive_solver_finds_the_same() -> None:
    pytest.importorskip("torchdiffeq", reason="the extra carrara[ode] is not installed")
    x = mixture().sample(Streams(range(4)))
    t_min = at_ratio(Flow(), 0.05)
    known = mixture().noisy(scalar(1), scalar(0.05)).log_prob(x)
    for tolerance, error in ((1e-4, 1e-2), (1e-8, 1e-6)):
        found = flow_log_likelihood(
            judge(Flow()), x, trace="exact", t_min=t_min, method=dopri5(rtol=tolerance, atol=tolerance)
        )
        torch.testing.assert_close(found.log_prob, known, rtol=0, atol=error)
    single = flow_log_likelihood(judge(Flow()), x, None, Streams(range(4)), probes=3, t_min=t_min, method=dopri5())
    assert single.standard_error is not None and single.standard_error.shape == (4,)


def test_a_solver_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchdiffeq", None)
    with pytest.raises(MissingExtra, match=r"torchdiffeq.*pip install 'carrara\[ode\]'"):
        dopri5()
    with pytest.raises(InputError, match=r"rtol 0 and atol 1e-05.*positive"):
        dopri5(rtol=0)


def test_what_makes_no_walk_is_refused_in_words() -> None:
    x, rng = torch.zeros(1, 2, dtype=F64), Streams([0])
    for words, match in (
        ({"trace": "exakt"}, "no trace 'exakt': did you mean 'exact'"),
        ({"steps": 0}, "0 steps"),
        ({"rng": None}, "pass rng"),
        ({"t_min": 1.0}, "t_min is 1.0"),
        ({"x0": torch.zeros(1, 1001, dtype=F64), "trace": "exact"}, "1001 numbers"),
        ({"method": "euler"}, "no method 'euler'"),
    ):
        with pytest.raises(InputError, match=match):
            flow_log_likelihood(judge(Flow()), **{"x0": x, "rng": rng, **words})
