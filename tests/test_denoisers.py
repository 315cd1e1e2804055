"""A network, a process and a prediction as one denoiser. Weights are kept by test_weights.py, read-outs by the laws."""

import math

import pytest
import torch
from torch import Tensor, nn

from carrara.denoisers import GaussianDenoiser
from carrara.predictions import PREDICTIONS, X0, EDMPrediction, V
from carrara.processes import Gaussian, like
from carrara.rng import Streams
from carrara.schedules import EDM, SCHEDULES, Cosine, Flow, LinearBeta, Schedule
from carrara.weights import WEIGHTS, Simple, UnitV, UnitX0

F64 = torch.float64
ALL = {name: make() for name, make in SCHEDULES.items()} | {
    "linear_beta, zero terminal": LinearBeta(zero_terminal=True)
}
READABLE = [
    (name, prediction)
    for name, schedule in ALL.items()
    for prediction in PREDICTIONS
    if not (prediction == "eps" and schedule.zero_terminal)
]
each_pair = pytest.mark.parametrize(("name", "prediction"), READABLE)
TIMES = torch.tensor([1e-12, 1e-5, 1e-3, 0.3, 0.7, 0.999, 1.0], dtype=F64)


class Network(nn.Module):
    """Elementwise, of x, level and a label; remembers what it was given."""

    def __init__(self, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.gain, self.dtype = nn.Parameter(torch.tensor(0.7, dtype=F64)), dtype
        self.seen: list[tuple[Tensor, Tensor, object]] = []

    def forward(self, x: Tensor, level: Tensor, cond: dict[str, Tensor] | None = None) -> Tensor:
        self.seen.append((x, level, cond))
        shift = like(cond["label"], x) if cond else 0.0
        out = torch.tanh(self.gain.to(x) * x + like(level, x) + shift)
        return out if self.dtype is None else out.to(self.dtype)


def denoiser_of(schedule: Schedule, prediction: str, network: nn.Module, weight: str = "simple") -> GaussianDenoiser:
    return GaussianDenoiser(network, Gaussian(schedule), PREDICTIONS[prediction](), WEIGHTS[weight]())


def batch(n: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(n, 2, 3, dtype=dtype, generator=torch.Generator().manual_seed(0))


@each_pair
def test_one_time_for_all_is_that_time_for_each(name: str, prediction: str) -> None:
    denoiser, x = denoiser_of(ALL[name], prediction, Network()), batch(4)
    for t in TIMES[1:]:
        assert torch.equal(denoiser(x, t).x0, denoiser(x, t.expand(4)).x0)


@each_pair
def test_belief_solves_for_the_data(name: str, prediction: str) -> None:
    """The belief x0 and the noise it implies are those whose target is the network's output."""
    schedule, network = ALL[name], Network()
    denoiser, x = denoiser_of(schedule, prediction, network), batch(5, F64)
    t = torch.tensor([1e-4, 0.1, 0.4, 0.8, 1.0], dtype=F64)
    x0 = denoiser(x, t).x0
    eps = denoiser.process.eps(x, x0, t)
    row = PREDICTIONS[prediction]().row(schedule, t)
    raw = denoiser.raw(x, t, None)
    torch.testing.assert_close(like(row.a, x) * x0 + like(row.b, x) * eps, raw, rtol=1e-7, atol=1e-7)


@each_pair
@pytest.mark.parametrize("weight", WEIGHTS)
def test_network_belief_and_loss_are_finite_at_every_time(name: str, prediction: str, weight: str) -> None:
    """float32 data, from where the noise is far below its rounding to where nothing of the data is left."""
    network = Network()
    denoiser, x0, rng = denoiser_of(ALL[name], prediction, network, weight), batch(7), Streams(range(7))
    x_t = denoiser.process.corrupt(x0, TIMES, rng)[0]
    assert bool(denoiser(x_t, TIMES).x0.isfinite().all())
    loss = denoiser.loss(x0, TIMES.clamp(min=1e-5), None, rng)
    assert loss.shape == (7,)
    assert loss.dtype == torch.float32
    assert bool(loss.isfinite().all())
    loss.sum().backward()
    assert bool(network.gain.grad.isfinite())
    for x, level, _ in network.seen:
        assert bool(x.isfinite().all() and level.isfinite().all())


def test_the_network_is_told_the_level_and_never_the_time() -> None:
    for schedule in ALL.values():
        network = Network()
        denoiser_of(schedule, "x0", network)(batch(7), TIMES)
        _, level, cond = network.seen[0]
        assert level.dtype == torch.float32
        assert level.shape == (7,)
        assert cond is None
        expected = torch.atan2(schedule.sigma(TIMES), schedule.alpha(TIMES)) * 2 / math.pi
        torch.testing.assert_close(level, expected.float())


def test_the_network_sees_x_scaled_as_its_prediction_asks() -> None:
    schedule, x, t = EDM(), batch(3), torch.tensor([0.01, 0.1, 1.0], dtype=F64)
    for prediction, scale in ((V(), torch.ones(3)), (EDMPrediction(0.5), (0.25 + schedule.sigma(t) ** 2).rsqrt())):
        network = Network()
        GaussianDenoiser(network, Gaussian(schedule), prediction, Simple())(x, t)
        torch.testing.assert_close(network.seen[0][0], like(scale, x) * x)


@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16])
def test_a_low_precision_network_s_belief_is_float32(low: torch.dtype) -> None:
    full, rounded = denoiser_of(Cosine(), "v", Network()), denoiser_of(Cosine(), "v", Network(low))
    x, t = batch(4), torch.tensor(0.6, dtype=F64)
    belief = rounded(x, t).x0
    assert belief.dtype == rounded.raw(x, t, None).dtype == torch.float32
    torch.testing.assert_close(belief, full(x, t).x0, rtol=0, atol=0.02)
    assert not torch.equal(belief, belief.to(low).float())
    assert rounded.loss(x, t.expand(4), None, Streams(range(4))).dtype == torch.float32


@each_pair
def test_losses_do_not_depend_on_how_the_batch_is_split(name: str, prediction: str) -> None:
    denoiser, x0 = denoiser_of(ALL[name], prediction, Network(), "v"), batch(12)
    t = torch.linspace(0.05, 1, 12, dtype=F64)
    cond = {"label": torch.linspace(-1, 1, 12)}

    def part(start: int, stop: int) -> Tensor:
        own = {"label": cond["label"][start:stop]}
        return denoiser.loss(x0[start:stop], t[start:stop], own, Streams.of_run(1, start, stop - start))

    assert torch.equal(torch.cat([part(0, 1), part(1, 8), part(8, 12)]), part(0, 12))


def test_the_loss_of_the_truth_is_zero_and_of_nothing_is_the_target_s_size() -> None:
    class Zero(nn.Module):
        def forward(self, x: Tensor, level: Tensor, cond: object = None) -> Tensor:
            return torch.zeros_like(x)

    x0, t = batch(6, F64), torch.linspace(0.1, 1, 6, dtype=F64)
    loss = GaussianDenoiser(Zero(), Gaussian(Flow()), X0(), UnitX0()).loss(x0, t, None, Streams(range(6)))
    torch.testing.assert_close(loss, x0.square().mean((1, 2)))
    eps = Streams(range(6)).normal((2, 3), F64)
    target = like(Cosine().alpha(t), x0) * eps - like(Cosine().sigma(t), x0) * x0
    loss = GaussianDenoiser(Zero(), Gaussian(Cosine()), V(), UnitV()).loss(x0, t, None, Streams(range(6)))
    torch.testing.assert_close(loss, target.square().mean((1, 2)), rtol=1e-9, atol=0)


def test_the_condition_reaches_the_network() -> None:
    network = Network()
    denoiser, cond = denoiser_of(Flow(), "velocity", network), {"label": torch.ones(4)}
    x, t = batch(4), torch.tensor(0.5, dtype=F64)
    assert not torch.equal(denoiser(x, t, cond).x0, denoiser(x, t).x0)
    denoiser.loss(x, t.expand(4), cond, Streams(range(4)))
    assert network.seen[0][2] is cond
    assert network.seen[2][2] is cond


def test_only_the_network_has_weights() -> None:
    network = Network()
    denoiser = denoiser_of(LinearBeta(), "eps", network)
    assert [name for name, _ in denoiser.named_parameters()] == ["network.gain"]
    assert set(denoiser.state_dict()) == {"network.gain"}
