"""DDPM and DDIM by discrete timesteps on DDPM's own table: where diffusers and we agree, and four places where it goes wrong."""

from typing import Any

import pytest
import torch
from benchmarks.peers import drawing, no_noise, scheduler, widened
from sides import draws
from torch import Tensor
from toys import F64, Bulk, OneGaussian, judge, last, measured_order, scalar

from carrara.beliefs import Point
from carrara.errors import InputError
from carrara.predictions import Eps, check_readable
from carrara.processes import Gaussian
from carrara.samplers import SAMPLERS
from carrara.schedules import EDM, LinearBeta
from carrara.times import grid

pytestmark = pytest.mark.oracle

TABLE = LinearBeta()
POINTS = 16


def table_walk(name: str, n: int, denoiser: object, x: Tensor, eta: float, **options: object) -> Tensor:
    """diffusers' DDPM or DDIM in n steps of its table, told the eps that the denoiser believes in; draws of seed 7."""
    made = scheduler(name, clip_sample=False, **options)
    noise, told = draws(), {} if name == "DDPM" else {"eta": eta}
    with widened(type(made)), drawing(type(made), noise if eta else no_noise, x):
        made.set_timesteps(n)
        for step in made.timesteps:
            t = scalar((int(step) + 1) / 1000)
            eps = Gaussian(TABLE).eps(x, denoiser(x, t).x0, t)  # type: ignore[operator]
            x = made.step(eps, int(step), x, **told).prev_sample
    return x


def our_walk(name: str, times: Tensor, denoiser: object, x: Tensor, **options: float) -> Tensor:
    return last(SAMPLERS[name].walk(denoiser, x, times, rng=Bulk(POINTS, 7), **options))


@pytest.mark.parametrize("n", [10, 50, 250])
@pytest.mark.parametrize("name, eta", [("DDPM", 1.0), ("DDIM", 0.0), ("DDIM", 0.5), ("DDIM", 1.0)])
def test_ancestral_and_ddim_are_the_same(name: str, eta: float, n: int) -> None:
    """Ours on the trailing grid is DDPM (fixed_small) and DDIM with trailing timesteps; t = i/T is the timestep i − 1."""
    x = Bulk(POINTS, 0).normal((2,))
    expected = table_walk(name, n, judge(TABLE), x, eta, timestep_spacing="trailing")
    found = our_walk("ancestral", grid("trailing", n, TABLE), judge(TABLE), x, eta=eta)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


def test_ddim_linspace_steps_by_another_stride_than_it_lists() -> None:
    """diffusers' DDIM with "linspace" lists 999, 888, …, 0 and steps by 100, so that from the second step on x holds more noise
    than the network is told. It does not pass with more steps: on N(0, 1/4) their 600 end 32 % off, listed 1.67
    apart and stepping by 1, worse than their own 100. Ours on the same listed times have DDIM's error of first order."""
    made = scheduler("DDIM", timestep_spacing="linspace", clip_sample=False)
    made.set_timesteps(10)
    assert made.timesteps.tolist() == [999, 888, 777, 666, 555, 444, 333, 222, 111, 0]
    x0, eps, kept = torch.ones(1, 1, dtype=F64), torch.full((1, 1), 2.0, dtype=F64), made.alphas_cumprod
    landed = made.step(eps, 999, kept[999].sqrt() * x0 + (1 - kept[999]).sqrt() * eps).prev_sample
    torch.testing.assert_close(landed, kept[899].sqrt() * x0 + (1 - kept[899]).sqrt() * eps)

    denoiser, x = OneGaussian(TABLE, 0.25), torch.ones(1, 1, dtype=F64)
    exact = float((0.25 / denoiser.noisy_variance(scalar(1.0))).sqrt())

    def their_error(n: int) -> float:
        return abs(float(table_walk("DDIM", n, denoiser, x, 0.0, timestep_spacing="linspace")) / exact - 1)

    def our_error(n: int) -> float:
        listed = torch.cat([torch.linspace(999, 0, n, dtype=F64).round() + 1, torch.zeros(1, dtype=F64)]) / 1000
        return abs(float(our_walk("ddim", listed, denoiser, x)) / exact - 1)

    assert their_error(600) > 0.3 > 3 * their_error(100)
    assert our_error(600) < 0.01
    assert 0.85 < measured_order(our_error, (75, 150, 300, 600)) < 1.15


def test_fixed_large_log_is_the_root_of_a_logarithm() -> None:
    """diffusers' DDPM with variance_type "fixed_large_log" takes the square root of log beta, which is negative: NaN in the
    first step. Ours has beta's spread from a belief as wide as beta says, and is finite."""
    x = torch.ones(POINTS, 2, dtype=F64)
    walk = [
        table_walk("DDPM", 10, judge(TABLE), x, 1.0, variance_type=kind)
        for kind in ("fixed_large_log", "fixed_large")
    ]
    assert bool(walk[0].isnan().all())
    assert bool(walk[1].isfinite().all())
    assert bool(our_walk("ancestral", grid("trailing", 10, TABLE), judge(TABLE), x).isfinite().all())


@pytest.mark.parametrize("name", ["DDPM", "DDIM"])
def test_eps_prediction_with_zero_terminal_snr(name: str) -> None:
    """At alpha = 0 x_t is the noise itself, and x0 = (x_t − sigma eps) / alpha is 0/0. diffusers divides; we refuse the pair."""
    made = scheduler(name, rescale_betas_zero_snr=True, timestep_spacing="trailing", clip_sample=False)
    made.set_timesteps(10)
    x = torch.ones(POINTS, 2)
    for eps in (0.5, 1.0):
        assert not bool(made.step(eps * x, made.timesteps[0], x).prev_sample.isfinite().any())
    with pytest.raises(InputError, match="cannot be read at t = 1"):
        check_readable(LinearBeta(zero_terminal=True), Eps())


GOLDEN = (torch.arange(768) / 768).reshape(3, 8, 8, 4).permute(3, 0, 1, 2)


def golden_network(x: Tensor, step: Tensor) -> Tensor:
    return x * step / (step + 1)


def golden_scheduler() -> Any:
    made = scheduler(
        "EulerDiscrete", num_train_timesteps=1100, beta_start=1e-4, beta_end=0.02, beta_schedule="linear"
    )
    made.set_timesteps(10)
    return made


def golden_walk(misused: bool) -> float:
    """The sum of diffusers' test; misused, x as it is scaled for the network is handed to the step, in place of x."""
    made = golden_scheduler()
    x = GOLDEN * made.init_noise_sigma
    for step in made.timesteps:
        scaled = made.scale_model_input(x, step)
        x = made.step(golden_network(scaled, step), step, scaled if misused else x).prev_sample
    return float(x.abs().sum())


class GoldenDenoiser:
    """The same network, told the peer's timesteps."""

    def __init__(self) -> None:
        made = golden_scheduler()
        self.sigmas, self.steps, self.noise = made.sigmas.double(), made.timesteps.double(), made.init_noise_sigma
        self.process = Gaussian(EDM(float(self.sigmas[0])))

    def __call__(self, x_t: Tensor, t: Tensor, cond: object = None) -> Point:
        sigma = self.process.schedule.sigma(t)
        step = self.steps[int((self.sigmas - sigma).abs().argmin())]
        return Point(x_t - sigma * golden_network(x_t / (1 + sigma**2).sqrt(), step))


@pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")
def test_the_golden_sum_of_euler_is_of_a_misuse() -> None:
    """diffusers' own test of Euler's method expects 10.0807, which is what comes of handing it x scaled for the network in
    place of x. Called as its documentation says it gives 168.0516, and so does ours."""
    denoiser = GoldenDenoiser()
    times = denoiser.sigmas / denoiser.sigmas[0]
    found = last(SAMPLERS["euler"].walk(denoiser, GOLDEN.double() * denoiser.noise, times, rng=None))
    assert golden_walk(misused=True) == pytest.approx(10.0807, abs=1e-3)
    assert golden_walk(misused=False) == pytest.approx(168.0516, abs=1e-2)
    assert float(found.abs().sum()) == pytest.approx(168.0516, abs=1e-2)
