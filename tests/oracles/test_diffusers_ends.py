"""How diffusers' walks end, and what they round."""

import pytest
import torch
from benchmarks.peers import of_diffusers, scheduler, widened
from sides import denoise, karras_sigmas, ours, start, theirs
from torch import Tensor
from toys import F64

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")]

TO_ZERO = karras_sigmas(10)
UNREADABLE = [{"solver_type": "bh1"}, {"predict_x0": False}, {"solver_type": "bh1", "predict_x0": False}]


def own_walk(name: str, n: int, **options: object) -> Tensor:
    """diffusers in n steps on the sigmas that it lays for itself, in its own precision, with the exact denoiser."""
    made = scheduler(name, **options)
    made.set_timesteps(n)
    sigmas = made.sigmas.double()
    x = start(sigmas[0]) / (1 + sigmas[0] ** 2).sqrt()
    for step, sigma in zip(made.timesteps, sigmas, strict=False):
        unscaled = x * (1 + sigma**2).sqrt()
        x = made.step((unscaled - denoise(unscaled, sigma)) / sigma, step, x).prev_sample
    return x


@pytest.mark.parametrize("options", UNREADABLE, ids=["bh1", "eps", "bh1 of eps"])
def test_unipc_of_these_kinds_ends_in_nan(options: dict[str, object]) -> None:
    """diffusers' UniPC goes to sigma = 0 unless told otherwise, where λ is infinite. Only B(h) = e^h − 1 of x0, its default,
    survives that; the other three multiply infinity with 0. Ours hold the belief in that step."""
    assert bool(own_walk("UniPCMultistep", 10).isfinite().all())
    assert bool(own_walk("UniPCMultistep", 10, **options).isnan().all())
    for name in ("unipc", "deis", "lms", "adams"):
        assert bool(ours(name, TO_ZERO).isfinite().all())


def test_deis_keeps_noise_and_spends_a_step_on_nothing() -> None:
    """diffusers' DEIS with Karras' sigmas lists the last of them twice: the last of n evaluations moves nothing, and the noise
    of that level stays. Ours on the same levels ends at 0."""
    made = scheduler("DEISMultistep", use_karras_sigmas=True)
    made.set_timesteps(10)
    assert float(made.sigmas[-1]) == float(made.sigmas[-2]) > 0.009
    x = torch.ones(2, 3)
    made._step_index = 9
    assert torch.equal(made.step(0.7 * x, made.timesteps[-1], x).prev_sample, x)


def test_lms_extrapolates_eps_to_no_noise() -> None:
    """In the step that ends at 0 diffusers' LMS takes eps from its last four values, ours from the last one: the belief."""
    peer = of_diffusers("LMSDiscrete")
    before, sigma = theirs(peer, TO_ZERO[:-1]), TO_ZERO[-2]
    torch.testing.assert_close(ours("lms", TO_ZERO), denoise(before, sigma), rtol=1e-10, atol=1e-10)
    assert float((theirs(peer, TO_ZERO) - ours("lms", TO_ZERO)).abs().max()) > 1e-6


@pytest.mark.parametrize("name", ["EulerDiscrete", "DPMSolverMultistep"])
def test_float64_is_rounded_to_float32(name: str) -> None:
    """These round x to float32 in every step, and give it back as the float64 they were given; `widened`, used in all the
    comparisons here, keeps the digits, as ours do."""

    def step() -> Tensor:
        made = scheduler(name)
        made.set_timesteps(10)
        made.is_scale_input_called = True
        found: Tensor = made.step(x / 3, made.timesteps[0], x).prev_sample
        return found

    x = start(torch.tensor(3.0, dtype=F64))
    rounded = step()
    with widened(type(scheduler(name))):
        kept = step()
    assert rounded.dtype == kept.dtype == F64
    assert 1e-9 < float((rounded / kept - 1).abs().max()) < 1e-5
