"""What `benchmarks.speed` times: training steps and evaluations of networks, the peers' and carrara's, in every mode they have."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.rivals.of_ddpm_pytorch import OfDdpmPytorch
from benchmarks.rivals.of_diffusers import OfDiffusers
from benchmarks.rivals.openvino import compiled
from benchmarks.rivals.ours import WAYS, learner
from benchmarks.rivals.rates import next_step
from benchmarks.rivals.rival import MODES, Mode, Rival
from carrara import native
from carrara.data import Dataset, Split
from carrara.errors import InputError
from carrara.model import Model, build
from carrara.networks import NETWORKS
from carrara.recipe import Recipe, check, parse, text_of

BATCH = 32
"""Pictures at once, of the peers and of ours that stands beside them."""
STEPS = 4
"""Of the walks that our evaluations are timed in."""
BACKENDS = {"float32": "torch", "bf16": "torch-bf16", "openvino": "openvino"}
"""Our modes of sampling, and what `Model.use` calls them."""


class Lane(NamedTuple):
    """A thing that is timed."""

    name: str
    mode: str
    pictures: int
    """Pictures of a call: trained on, or evaluated once."""
    gflop: float
    """Of a picture, a multiply-add counted as two, by the direct algorithm."""
    parameters: int
    call: Callable[[], Any]


class Ours(NamedTuple):
    """A network of carrara's, in the recipe that it is timed with."""

    kind: str
    shape: tuple[int, int, int]
    batch: int


OURS: dict[str, Ours] = {
    "unet 28": Ours("unet", (1, 28, 28), 64),
    "unet 32 colour": Ours("unet", (3, 32, 32), 64),
    "dit": Ours("dit", (1, 32, 32), 64),
    "unet2d": Ours("unet2d", (1, 32, 32), BATCH),
}
"""Each with the options its constructor has by default; unet2d is the architecture and the size of diffusers' own below."""
THEIRS: dict[str, Callable[[Mode], Rival]] = {
    "diffusers": lambda mode: OfDiffusers(1, 10, 1_000_000, mode, batch=BATCH),
    "ddpm_pytorch": lambda mode: OfDdpmPytorch(1, 1_000_000, mode, widths=(32, 64, 128, 256), batch=BATCH),
}
"""The peers: nets of 9.6 M and 9.2 M parameters, for pictures 1×32×32."""


def training(skipped: dict[str, str]) -> Iterator[Lane]:
    """Training steps: the gradient, clipping, the optimiser, the average. What cannot be timed is named in `skipped`."""
    for name, make in THEIRS.items():
        for mode in MODES.values():
            rival = make(mode)
            step = partial(next_step, rival, pictures((1, 32, 32)))
            yield Lane(name, mode.name, BATCH, 3 * gflop(rival.net, rival.example(1)), rival.parameters, step)
    for name, ours in present(skipped).items():
        for way, computing in WAYS.items():
            taught = learner(recipe_of(ours), pictures(ours.shape), computing)
            model = taught.trainable.model
            assert isinstance(model, Model)
            cost = 3 * gflop(model.denoiser.network, example(model))
            yield Lane(name, way, ours.batch, cost, model.parameters, partial(taught.step, None))


def sampling(skipped: dict[str, str]) -> Iterator[Lane]:
    """Evaluations: the peers' networks alone, ours as Model.sample makes them, noise, sampler and decoding included."""
    for name, make in THEIRS.items():
        for mode, rival, call in their_evaluations(make, name, skipped):
            yield Lane(name, mode, BATCH, gflop(rival.net, rival.example(1)), rival.parameters, call)
    for name, ours in present(skipped).items():
        for mode in BACKENDS:
            model = build(recipe_of(ours), ours.shape, pictures(ours.shape).classes)
            try:
                prepare(model, mode)
            except InputError as error:
                skipped[f"{name} {mode}"] = str(error)
                continue
            cost = gflop(model.denoiser.network, example(model))
            yield Lane(name, mode, ours.batch * STEPS, cost, model.parameters, partial(walked, model, ours.batch))


def their_evaluations(
    make: Callable[[Mode], Rival], name: str, skipped: dict[str, str]
) -> Iterator[tuple[str, Rival, Callable[[], Any]]]:
    """A peer's evaluations in each mode, and compiled by OpenVINO where that is installed."""
    for mode in MODES.values():
        rival = make(mode)
        yield mode.name, rival, rival.evaluation(BATCH)
    plain = make(MODES["float32"])
    try:
        yield "openvino bf16", plain, compiled(plain.net.eval(), plain.example(BATCH))
    except ImportError as error:
        skipped[f"{name} openvino bf16"] = str(error)


def present(skipped: dict[str, str]) -> dict[str, Ours]:
    """Our networks that this carrara has; the others are named in `skipped`."""
    absent = {name: f"there is no network {ours.kind}" for name, ours in OURS.items() if ours.kind not in NETWORKS}
    skipped.update(absent)
    return {name: ours for name, ours in OURS.items() if name not in absent}


def recipe_of(ours: Ours, **sections: Mapping[str, Any]) -> Recipe:
    """The recipe of fashion with another network, by default, and another batch; `sections` take the place of its own."""
    content = parse(text_of("fashion"), "fashion")
    training = {**content["training"], "batch": ours.batch}
    return check({**content, "network": {"kind": ours.kind}, "training": training, **sections})


def pictures(shape: tuple[int, int, int], n: int = 512) -> Dataset:
    """A dataset in memory, of noise: what the pictures show takes no time."""
    rng = np.random.default_rng(0)
    split = Split(rng.integers(0, 256, (n, *shape), dtype=np.uint8), np.arange(n, dtype=np.int64) % 10)
    classes = tuple("0123456789")
    return Dataset("noise", classes, split, split, "0" * 64, "none", "numpy's generator")


def prepare(model: Model, mode: str) -> None:
    """Makes the model sample in a mode, one of BACKENDS. Raises InputError where this machine does not have it."""
    model.denoiser.eval()
    model.use(BACKENDS[mode])


def walked(model: Model, batch: int) -> Tensor:
    """A batch of samples by STEPS evaluations each."""
    pictures: Tensor = model.sample(batch, batch=batch, sampler="ddim", steps=STEPS, guidance_scale=1.0)
    return pictures


def example(model: Model) -> tuple[Any, ...]:
    """What the network of a model is called with, for one picture."""
    return torch.zeros(1, *model.shape), torch.full((1,), 0.5), model.condition.null(1)


@torch.no_grad()
def gflop(network: nn.Module, inputs: tuple[Any, ...]) -> float:
    """GFLOP of one evaluation in its plain float32 form, a multiply-add counted as two: convolutions and products of matrices.

    Training is counted as three evaluations.
    """
    mode = FlopCounterMode(display=False)
    with native.chosen("torch"), sdpa_kernel(SDPBackend.MATH), mode:
        network(*inputs)
    return float(mode.get_total_flops()) / 1e9
