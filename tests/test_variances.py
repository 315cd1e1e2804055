"""Variances: what a belief's is, and how a network learns it without the mean noticing."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import carrara
from carrara.denoisers import GaussianDenoiser
from carrara.errors import InputError
from carrara.guidance import Guided
from carrara.model import build
from carrara.predictions import PREDICTIONS
from carrara.processes import Gaussian, like
from carrara.recipe import check, read
from carrara.rng import Streams
from carrara.schedules import SCHEDULES, Cosine, Flow, LinearBeta, Schedule
from carrara.variances import VARIANCES, Learned, Posterior, Unit, divergence, snr_gap, widest_variance
from carrara.weights import WEIGHTS, UnitV

F64 = torch.float64
ALL = {name: make() for name, make in SCHEDULES.items()} | {
    "linear_beta, zero terminal": LinearBeta(zero_terminal=True)
}
each_schedule = pytest.mark.parametrize("schedule", ALL.values(), ids=ALL)
TIMES = torch.tensor([1e-5, 1e-3, 0.3, 0.7, 0.999, 1.0], dtype=F64)


class One(nn.Module):
    """One output a number."""

    def forward(self, x: Tensor, level: Tensor, cond: object = None) -> Tensor:
        return torch.tanh(x)


class Two(nn.Module):
    """Two outputs a number: one of x, one of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.width = nn.Parameter(torch.tensor(0.7, dtype=F64)), nn.Parameter(torch.tensor(0.3, dtype=F64))

    def forward(self, x: Tensor, level: Tensor, cond: object = None) -> Tensor:
        return torch.cat([torch.tanh(self.mean.to(x) * x), self.width.to(x) * torch.sin(3 * x)], dim=1)


def denoiser_of(schedule: Schedule, variance: object, prediction: str = "v", network: nn.Module | None = None):
    made = PREDICTIONS[prediction]()
    return GaussianDenoiser(network or Two(), Gaussian(schedule), made, UnitV(), variance)  # type: ignore[arg-type]


def batch(n: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(n, 2, 3, dtype=dtype, generator=torch.Generator().manual_seed(0))


def test_the_step_s_variance_is_beta_tilde_beta_or_between() -> None:
    """On DDPM's grid, against the betas of its table."""
    schedule, process = LinearBeta(), Gaussian(LinearBeta())
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=F64)
    bars = torch.cumprod(1 - betas, 0)
    x = batch(3, F64)
    for i in (2, 40, 500, 1000):
        t, s = torch.tensor(i / 1000, dtype=F64), torch.tensor((i - 1) / 1000, dtype=F64)
        beta = float(betas[i - 1])
        tilde = beta * float((1 - bars[i - 2]) / (1 - bars[i - 1]))

        def variance_of(kind: object, t: Tensor = t, s: Tensor = s) -> tuple[Tensor, Tensor | None]:
            denoiser = denoiser_of(schedule, kind, network=Two() if isinstance(kind, Learned) else One())
            return process.reverse(x, denoiser(x, t), t, s)[1], denoiser.outputs(x, t, None)[1]

        assert float(variance_of(Posterior())[0].max()) == pytest.approx(tilde, rel=1e-9)
        wide, _ = variance_of(Unit())
        assert wide.shape == x.shape and float(wide.max()) == pytest.approx(beta, rel=1e-9)
        learned, extra = variance_of(Learned())
        assert extra is not None
        share = torch.sigmoid(extra)
        torch.testing.assert_close(learned, (1 - share) * tilde + share * beta, rtol=1e-8, atol=0)


@pytest.mark.parametrize("kind", VARIANCES)
@each_schedule
def test_beliefs_steps_and_losses_are_finite_at_both_ends(schedule: Schedule, kind: str) -> None:
    """float32, from where the noise is far below its rounding to where nothing of the data is left."""
    network = Two() if kind == "learned" else One()
    denoiser, x0 = denoiser_of(schedule, VARIANCES[kind](), network=network), batch(6)
    x_t, _ = denoiser.process.corrupt(x0, TIMES, Streams(range(6)))
    belief = denoiser(x_t, TIMES)
    assert belief.variance is None or bool((belief.variance.isfinite() & (belief.variance >= 0)).all())
    stepped = denoiser.process.step(x_t, belief, TIMES, TIMES / 2, Streams(range(6)))
    assert bool(stepped.isfinite().all())
    for t, s in ((1.0, 0.5), (0.5, 0.0)):
        at, to = torch.tensor(t, dtype=F64), torch.tensor(s, dtype=F64)
        assert bool(denoiser.process.step(x_t, denoiser(x_t, at), at, to, Streams(range(6))).isfinite().all())
    loss = denoiser.loss(x0, TIMES, None, Streams(range(6)))
    assert loss.shape == (6,) and bool(loss.isfinite().all())
    if kind == "learned":
        loss.sum().backward()
        assert bool(network.mean.grad.isfinite()) and bool(network.width.grad.isfinite())


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_mean_learns_as_if_it_were_alone(prediction: str) -> None:
    """The hybrid loss's gradient in the first output is the simple loss's, and in the second it is only the bound's."""
    x0, t = batch(5, F64), torch.tensor([1e-4, 0.1, 0.4, 0.8, 1.0], dtype=F64)
    schedule = LinearBeta()
    hybrid = denoiser_of(schedule, Learned(weight=0.5), prediction)
    hybrid.loss(x0, t, None, Streams(range(5))).sum().backward()

    class First(Two):
        def forward(self, x: Tensor, level: Tensor, cond: object = None) -> Tensor:
            return super().forward(x, level, cond)[:, :2]

    simple = denoiser_of(schedule, Posterior(), prediction, First())
    simple.loss(x0, t, None, Streams(range(5))).sum().backward()
    torch.testing.assert_close(hybrid.network.mean.grad, simple.network.mean.grad, rtol=1e-12, atol=0)
    assert simple.network.width.grad is None or float(simple.network.width.grad) == 0
    assert abs(float(hybrid.network.width.grad)) > 1e-6


@each_schedule
def test_the_added_loss_is_the_divergence_of_the_step(schedule: Schedule) -> None:
    """weight · steps · KL between the process's own Gaussians, in nats a number."""
    x0, rng = batch(4, F64), Streams(range(4))
    t = torch.tensor([0.0004, 0.01, 0.5, 1.0], dtype=F64)
    s = torch.tensor([0.0002, 0.009, 0.499, 0.999], dtype=F64)
    learned, plain = Learned(weight=0.25, steps=1000), denoiser_of(schedule, Learned(weight=1e-300))
    hybrid = denoiser_of(schedule, learned)
    added = hybrid.loss(x0, t, None, Streams(range(4))) - plain.loss(x0, t, None, Streams(range(4)))
    x_t, _ = hybrid.process.corrupt(x0, t, rng)
    belief = hybrid(x_t, t)
    mean, variance = hybrid.process.reverse(x_t, carrara.Point(x0), t, s)
    other, wider = hybrid.process.reverse(x_t, belief, t, s)
    kl = 0.5 * (variance / wider - 1 - (variance / wider).log() + (mean - other) ** 2 / wider)
    torch.testing.assert_close(added, 0.25 * 1000 * kl.flatten(1).mean(1), rtol=1e-5, atol=1e-8)


@each_schedule
@pytest.mark.parametrize("at", [0.05, 0.6, 1.0])
def test_the_best_share_is_the_true_conditional_variance(schedule: Schedule, at: float) -> None:
    """Data N(0, 0.3) with its best mean: gradient descent on u alone ends at Var[x0 | x_t] over the widest."""
    t = torch.tensor([at], dtype=F64)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    true = 0.3 * sigma**2 / (alpha**2 * 0.3 + sigma**2)
    # Two errors of ± √true have the mean square that the best mean leaves.
    square = true.expand(1, 2).clone()
    extra = torch.zeros((1, 1), dtype=F64, requires_grad=True)
    learned = Learned(weight=1.0)
    optimiser = torch.optim.LBFGS([extra], lr=1, max_iter=200, tolerance_grad=1e-14, tolerance_change=1e-16)

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = learned.loss(square, extra, schedule, t)
        # A short step weighs little: scaled, so that the optimiser's tolerances mean the same everywhere.
        loss = loss.sum() / loss_scale
        loss.backward()
        return loss

    gap = snr_gap(schedule, t, torch.maximum(t - 1e-3, t / 2))
    loss_scale = float(1000 * (gap * widest_variance(schedule, t)) ** 2)
    for _ in range(5):
        optimiser.step(closure)
    found = float(torch.sigmoid(extra.detach())) * float(widest_variance(schedule, t))
    assert found == pytest.approx(float(true), rel=1e-3)


def test_the_divergence_is_zero_for_the_truth_and_positive_else() -> None:
    errors, spreads = torch.logspace(-6, 4, 30, dtype=F64)[:, None], torch.logspace(-6, 4, 30, dtype=F64)
    nothing = torch.zeros((), dtype=F64)
    assert float(divergence(nothing, nothing)) == 0
    assert bool((divergence(errors, spreads) > 0).all())
    assert float(divergence(errors, nothing).sum()) == pytest.approx(0.5 * float(errors.sum()))


def test_guidance_keeps_the_strong_belief_s_variance() -> None:
    class Labelled(Two):
        def forward(self, x: Tensor, level: Tensor, cond: dict[str, Tensor]) -> Tensor:
            return super().forward(x + like(cond["label"], x), level)

    for kind, network in ((Learned(), Labelled()), (Unit(), One())):
        denoiser = denoiser_of(Flow(), kind, network=network)
        x, t = batch(3), torch.tensor(0.4, dtype=F64)
        cond, null = {"label": torch.ones(3)}, {"label": torch.zeros(3)}
        own = denoiser(x, t, cond).variance
        for rescale in (0.0, 0.7):
            found = Guided(denoiser, 2.0, null, rescale=rescale)(x, t, cond).variance
            torch.testing.assert_close(found, own)


def test_a_network_with_too_few_outputs_is_refused_in_words() -> None:
    with pytest.raises(InputError, match=r"needs 4 channels of the network, and it gives 2; .*posterior or unit"):
        denoiser_of(Cosine(), Learned(), network=One())(batch(2), torch.tensor(0.5, dtype=F64))
    for words, match in (({"weight": 0.0}, "variance.weight is 0.0"), ({"steps": 0}, "variance.steps is 0")):
        with pytest.raises(InputError, match=match):
            Learned(**words)


def tiny(**sections: object) -> carrara.Recipe:
    network = {"kind": "unet", "width": 8, "depth": 1}
    return check({"data": {"kind": "digits"}, "network": network, **sections})


def test_a_model_learns_saves_loads_and_samples(tmp_path: Path) -> None:
    recipe = tiny(
        schedule={"kind": "cosine_beta"},
        prediction={"kind": "v"},
        weight={"kind": "v"},
        variance={"kind": "learned", "weight": 0.1},
        sampling={"sampler": "ancestral", "steps": 4, "guidance_scale": 2.0},
    )
    model = build(recipe, (3, 8, 8), ("a", "b"))
    assert model.denoiser.network.leave.out_channels == 6
    optimiser = torch.optim.Adam(model.denoiser.parameters(), 0.01)
    x0 = batch(32).flatten()[:192].reshape(1, 3, 8, 8).expand(4, 3, 8, 8).contiguous()
    for i in range(4):
        t = torch.rand(4, dtype=F64, generator=torch.Generator().manual_seed(i))
        loss = model.denoiser.loss(x0, t, {"label": torch.zeros(4).long()}, Streams(range(4))).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.save(tmp_path / "model")
    loaded = carrara.load(tmp_path / "model")
    assert torch.equal(model.sample(3, seed=5), loaded.sample(3, seed=5))
    # The learned width is what the steps draw with: with none, the same seeds give other pictures.
    loaded.denoiser.variance = _Blind()
    assert not torch.equal(model.sample(3, seed=5), loaded.sample(3, seed=5))


class _Blind(Learned):
    def read(self, extra: Tensor | None, widest: Tensor) -> None:
        return None


def test_recipes_of_before_have_the_posterior_s_variance() -> None:
    assert read("fashion").sections["variance"] == {"kind": "posterior"}
    recipe = read("iddpm-fashion")
    assert isinstance(recipe.build("variance"), Learned)
    model = build(tiny(), (1, 8, 8), ("a", "b"))
    assert isinstance(model.denoiser.variance, Posterior) and model.denoiser.network.leave.out_channels == 1
    assert WEIGHTS["v"] is UnitV
