"""The peers' samplers on a grid of one's own, in float64: diffusers' schedulers, and k-diffusion's where it is installed.

Each is walked with the same three things: `denoise(x, sigma)`, the belief at x = x0 + sigma · eps; x at the first sigma; and the
grid of sigmas, float64, falling to 0. Schedulers that keep alpha² + sigma² at 1 see x / √(1 + sigma²). Some of them round what they
are given to float32 in every step; `widened` lets them compute in float64, so that what is compared is the method.
"""

from __future__ import annotations

import importlib.util
import sys
import types
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor

Denoise = Callable[[Tensor, Tensor], Tensor]
Noise = Callable[[Tensor], Tensor]
Walk = Callable[[Denoise, Tensor, Tensor], Tensor]


class Peer(NamedTuple):
    """A sampler of somebody else's: its walk, and evaluations of the denoiser a step (all but the last, which needs one)."""

    walk: Walk
    evaluations: int = 1


class _Wide:
    """torch, but for float32, which is float64 here."""

    float32 = torch.float64

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


@contextmanager
def widened(cls: type) -> Iterator[None]:
    """Inside, the modules of this scheduler and of its parents take float64 for float32."""
    modules = {
        sys.modules[parent.__module__] for parent in cls.__mro__ if "schedulers.scheduling" in parent.__module__
    }
    patches = [patch.object(module, "torch", _Wide()) for module in modules if hasattr(module, "torch")]
    for each in patches:
        each.start()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=DeprecationWarning, message="__array")
            yield
    finally:
        for each in patches:
            each.stop()


def no_noise(x: Tensor) -> Tensor:
    """For samplers that ask for noise and multiply it with 0."""
    return torch.zeros_like(x)


# ---------------------------------------------------------------------------------------------------- diffusers


@cache
def _diffusers() -> Any:
    import diffusers

    # It says much of its settings on stderr; here they are chosen on purpose.
    diffusers.utils.logging.set_verbosity_error()
    return diffusers


def scheduler(name: str, **options: Any) -> Any:
    """A scheduler of diffusers by its class's name without "Scheduler", for eps-prediction unless told otherwise."""
    made = getattr(_diffusers(), f"{name}Scheduler")
    known = {} if name == "IPNDM" else {"prediction_type": "epsilon"}
    with widened(made):
        return made(**known, **options)


def on_grid(made: Any, sigmas: Tensor) -> Any:
    """The scheduler, made ready to walk these sigmas (n + 1, falling to 0) in place of its own."""
    with widened(type(made)):
        made.set_timesteps(len(sigmas) - 1)
    put = {"HeunDiscreteScheduler": _heun_grid, "KDPM2DiscreteScheduler": _dpm2_grid, "IPNDMScheduler": _ipndm_grid}
    count = put.get(type(made).__name__, _plain_grid)(made, sigmas)
    made.timesteps = torch.arange(count, 0, -1).double()
    made.num_inference_steps, made._step_index, made.is_scale_input_called = count, 0, True
    return made


def _plain_grid(made: Any, sigmas: Tensor) -> int:
    made.sigmas = sigmas
    return len(sigmas) - 1


def _heun_grid(made: Any, sigmas: Tensor) -> int:
    made.sigmas = torch.cat([sigmas[:1], sigmas[1:-1].repeat_interleave(2), sigmas[-1:]])
    return 2 * len(sigmas) - 3


def _dpm2_grid(made: Any, sigmas: Tensor) -> int:
    between = sigmas.log().lerp(sigmas.roll(1).log(), 0.5).exp()
    for name, row in (("sigmas", sigmas), ("sigmas_interpol", between)):
        setattr(made, name, torch.cat([row[:1], row[1:].repeat_interleave(2), row[-1:]]))
    return 2 * len(sigmas) - 3


def _ipndm_grid(made: Any, sigmas: Tensor) -> int:
    made.sigmas = sigmas
    made.alphas, made.betas = torch.rsqrt(1 + sigmas**2), sigmas * torch.rsqrt(1 + sigmas**2)
    return len(sigmas) - 1


def output(made: Any, x: Tensor, x0: Tensor, sigma: Tensor) -> Tensor:
    """What a network would have to say of x = x0 + sigma · eps for this scheduler to believe in x0."""
    eps = (x - x0) / sigma
    if type(made).__name__ == "IPNDMScheduler":
        return (eps - sigma * x0) * torch.rsqrt(1 + sigma**2)
    if type(made).__name__.startswith("EDM"):
        data_std: float = made.config.sigma_data
        skip = data_std**2 / (sigma**2 + data_std**2)
        return (x0 - skip * x) * (sigma**2 + data_std**2).sqrt() / (sigma * data_std)
    return eps


def preserving(made: Any) -> bool:
    """Whether the scheduler keeps alpha² + sigma² at 1, instead of alpha at 1."""
    exploding = ("Euler", "LMS", "Heun", "KDPM2", "EDM")
    return not type(made).__name__.startswith(exploding)


def stepped(
    name: str, options: Mapping[str, Any], noise: Noise | None, denoise: Denoise, x: Tensor, sigmas: Tensor
) -> Tensor:
    """x at the last sigma by a scheduler of diffusers. `noise`, where given, is what it draws instead of its own."""
    made = on_grid(scheduler(name, **options), sigmas)
    scale = (1 + sigmas**2).sqrt() if preserving(made) else torch.ones_like(sigmas)
    own = x / scale[0]
    with widened(type(made)), drawing(type(made), noise or no_noise, x):
        for t in made.timesteps:
            sigma = current_sigma(made)
            x = own * (1 + sigma**2).sqrt() if preserving(made) else own
            own = made.step(output(made, x, denoise(x, sigma), sigma), t, own).prev_sample
    return own * scale[-1]


def current_sigma(made: Any) -> Tensor:
    """The sigma at which the scheduler expects the next evaluation."""
    between = hasattr(made, "sigmas_interpol") and not made.state_in_first_order
    sigma: Tensor = (made.sigmas_interpol if between else made.sigmas)[made.step_index]
    return sigma


@contextmanager
def drawing(cls: type, noise: Noise, x: Tensor) -> Iterator[None]:
    """Inside, the scheduler draws `noise` of x's shape."""
    module = sys.modules[cls.__module__]
    if hasattr(module, "randn_tensor"):
        with patch.object(module, "randn_tensor", lambda *_, **__: noise(x)):
            yield
    else:
        yield


def of_diffusers(name: str, evaluations: int = 1, noise: Noise | None = None, **options: Any) -> Peer:
    """A scheduler of diffusers as a Peer."""
    return Peer(partial(stepped, name, options, noise), evaluations)


def ended(peer: Peer) -> Peer:
    """The same, walked to the last sigma above 0 and ended with the belief there: for those that give NaN at sigma = 0."""

    def walk(denoise: Denoise, x: Tensor, sigmas: Tensor) -> Tensor:
        if len(sigmas) > 2:
            x = peer.walk(denoise, x, sigmas[:-1])
        return denoise(x, sigmas[-2])

    return Peer(walk, peer.evaluations)


# ---------------------------------------------------------------------------------------------------- k-diffusion


@cache
def k_sampling() -> types.ModuleType | None:
    """k-diffusion's sampling.py, loaded alone; None where it is not installed.

    The package itself imports torchvision and much else that its samplers do not use.
    """
    spec = importlib.util.find_spec("k_diffusion")
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(next(iter(spec.submodule_search_locations))) / "sampling.py"
    package, utils = types.ModuleType("k_diffusion"), types.ModuleType("k_diffusion.utils")
    package.__path__ = []
    setattr(package, "utils", utils)  # noqa: B010
    setattr(utils, "append_dims", lambda x, ndim: x.reshape(x.shape + (1,) * (ndim - x.ndim)))  # noqa: B010
    stubs = {"k_diffusion": package, "k_diffusion.utils": utils, "torchsde": types.ModuleType("torchsde")}
    alone: ModuleSpec | None = importlib.util.spec_from_file_location("k_diffusion.sampling", path)
    assert alone is not None and alone.loader is not None
    module = importlib.util.module_from_spec(alone)
    sys.modules.update(stubs)
    try:
        alone.loader.exec_module(module)
    finally:
        for name in stubs:
            del sys.modules[name]
    return module


def k_walked(name: str, options: Mapping[str, Any], denoise: Denoise, x: Tensor, sigmas: Tensor) -> Tensor:
    """x at the last sigma by k-diffusion's function of this name."""
    sampled: Tensor = getattr(k_sampling(), name)(
        lambda x, sigma: denoise(x, sigma[0]), x, sigmas, disable=True, **options
    )
    return sampled


def k_fast(denoise: Denoise, x: Tensor, sigmas: Tensor) -> Tensor:
    """k-diffusion's DPM-Solver-fast, which lays its own grid; the last of the evaluations takes it from its end to 0."""
    low, count = float(sigmas[-2]), len(sigmas) - 2
    if count < 1:
        return denoise(x, sigmas[0])
    module: Any = k_sampling()
    x = module.sample_dpm_fast(lambda x, sigma: denoise(x, sigma[0]), x, low, float(sigmas[0]), count, disable=True)
    return denoise(x, sigmas[-2])


def k_churned(denoise: Denoise, x: Tensor, sigmas: Tensor) -> Tensor:
    """k-diffusion's Heun with noise added on the way; it draws from torch's global generator, seeded here and put back."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return k_walked("sample_heun", {"s_churn": 40.0, "s_tmin": 0.05, "s_tmax": 50.0}, denoise, x, sigmas)


def of_k(name: str, evaluations: int = 1, **options: Any) -> Peer:
    """A function of k-diffusion as a Peer."""
    return Peer(partial(k_walked, f"sample_{name}", options), evaluations)


# ---------------------------------------------------------------------------------------------------- the lists


HELPED = ", ended by us"
"""In the names of those that would give NaN at sigma = 0, and are ended with the belief before it."""


def deterministic(twins: bool = False) -> dict[str, Peer]:
    """The peers' samplers that add no noise, by a name that says whose they are and how they are set.

    With `twins` also those of k-diffusion that take the same steps as one of diffusers', digit for digit.
    """
    found = {
        "diffusers Euler": of_diffusers("EulerDiscrete"),
        "diffusers Heun": of_diffusers("HeunDiscrete", 2),
        "diffusers KDPM2": of_diffusers("KDPM2Discrete", 2),
        "diffusers LMS": of_diffusers("LMSDiscrete"),
        "diffusers iPNDM": of_diffusers("IPNDM"),
    }
    for order in (2, 3):
        for kind in ("midpoint", "heun"):
            options: dict[str, Any] = {"solver_order": order, "solver_type": kind}
            found[f"diffusers DPM++ {order}M {kind}"] = of_diffusers("DPMSolverMultistep", **options)
            found[f"diffusers DPM++ {order}S {kind}"] = of_diffusers("DPMSolverSinglestep", **options)
    return found | _unreadable_at_zero() | (_k_deterministic(twins) if k_sampling() else {})


def _unreadable_at_zero() -> dict[str, Peer]:
    """DEIS and UniPC: of these only UniPC's default can walk to sigma = 0."""
    found = {}
    for order in (2, 3):
        found[f"diffusers UniPC {order} bh2"] = of_diffusers("UniPCMultistep", solver_order=order)
        for final in (True, False):
            how: dict[str, Any] = {"solver_order": order, "lower_order_final": final}
            end = f"{'' if final else ' of full order'}{HELPED}"
            found[f"diffusers DEIS {order}{end}"] = ended(of_diffusers("DEISMultistep", **how))
            for kind in ("bh1", "bh2"):
                for of, x0 in (("x0", True), ("eps", False)):
                    peer = of_diffusers("UniPCMultistep", solver_type=kind, predict_x0=x0, **how)
                    found[f"diffusers UniPC {order} {kind} of {of}{end}"] = ended(peer)
    return found


def _k_deterministic(twins: bool) -> dict[str, Peer]:
    quiet: dict[str, Any] = {"eta": 0.0, "noise_sampler": lambda *_: 0.0}
    own = {
        "k-diffusion dpmpp_2s": of_k("dpmpp_2s_ancestral", 2, **quiet),
        "k-diffusion dpm_fast": Peer(k_fast),
        "k-diffusion dpmpp_3m_sde, eta 0": of_k("dpmpp_3m_sde", **quiet),
    }
    same = {
        "k-diffusion euler": of_k("euler"),
        "k-diffusion heun": of_k("heun", 2),
        "k-diffusion dpm_2": of_k("dpm_2", 2),
        "k-diffusion lms": of_k("lms"),
        "k-diffusion dpmpp_2m": of_k("dpmpp_2m"),
        "k-diffusion dpmpp_2m_sde heun, eta 0": of_k("dpmpp_2m_sde", solver_type="heun", **quiet),
    }
    return own | (same if twins else {})


def stochastic(noise: Noise) -> dict[str, Peer]:
    """The peers' samplers that add noise, drawing from `noise`."""
    found = {"diffusers Euler ancestral": of_diffusers("EulerAncestralDiscrete", noise=noise)}
    for order in (2, 3):
        options: dict[str, Any] = {"solver_order": order, "algorithm_type": "sde-dpmsolver++"}
        found[f"diffusers SDE-DPM++ {order}M"] = of_diffusers("DPMSolverMultistep", noise=noise, **options)
    return found | (_k_stochastic(noise) if k_sampling() else {})


def _k_stochastic(noise: Noise) -> dict[str, Peer]:
    def drawn(name: str, evaluations: int = 1, **options: Any) -> Peer:
        def walk(denoise: Denoise, x: Tensor, sigmas: Tensor) -> Tensor:
            given = {"noise_sampler": lambda *_: noise(x), **options}
            return k_walked(f"sample_{name}", given, denoise, x, sigmas)

        return Peer(walk, evaluations)

    return {
        "k-diffusion euler_ancestral": drawn("euler_ancestral"),
        "k-diffusion dpm_2_ancestral": drawn("dpm_2_ancestral", 2),
        "k-diffusion dpmpp_2s_ancestral": drawn("dpmpp_2s_ancestral", 2),
        "k-diffusion dpmpp_sde": drawn("dpmpp_sde", 2),
        "k-diffusion dpmpp_2m_sde": drawn("dpmpp_2m_sde"),
        "k-diffusion dpmpp_2m_sde heun": drawn("dpmpp_2m_sde", solver_type="heun"),
        "k-diffusion dpmpp_3m_sde": drawn("dpmpp_3m_sde"),
        "k-diffusion heun, churn 40": Peer(k_churned, 2),
    }
