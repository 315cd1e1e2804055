"""Who takes part: the peers as recommended, and the peers with as many parameters as carrara's default network."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import torch
from torch import nn

from benchmarks.rivals import of_ddpm_pytorch, of_diffusers
from benchmarks.rivals.of_ddpm_pytorch import OfDdpmPytorch
from benchmarks.rivals.of_diffusers import OfDiffusers
from benchmarks.rivals.ours import recipe_of
from benchmarks.rivals.rival import Mode, Rival
from benchmarks.rivals.sizes import Widths, narrowed
from carrara.data import Dataset
from carrara.model import build
from carrara.recipe import read

OURS = "carrara"
Make = Callable[[Dataset, int, Mode], Rival]
"""A rival for a dataset's pictures and classes, a number of steps of training, and a mode."""


def diffusers(dataset: Dataset, steps: int, mode: Mode) -> Rival:
    """diffusers as recommended: 9.6 M parameters."""
    return OfDiffusers(dataset.shape[0], len(dataset.classes), steps, mode)


def ddpm_pytorch(dataset: Dataset, steps: int, mode: Mode) -> Rival:
    """denoising-diffusion-pytorch as its README has it: 35.7 M parameters."""
    return OfDdpmPytorch(dataset.shape[0], steps, mode)


def diffusers_equal(dataset: Dataset, steps: int, mode: Mode) -> Rival:
    """diffusers with as many parameters as ours, within 5 %."""
    channels, classes = dataset.shape[0], len(dataset.classes)
    net = partial(of_diffusers.network, channels, classes)
    widths = narrowed(of_diffusers.WIDTHS, our_parameters(dataset), partial(parameters, net))
    return OfDiffusers(channels, classes, steps, mode, widths)


def ddpm_pytorch_equal(dataset: Dataset, steps: int, mode: Mode) -> Rival:
    """denoising-diffusion-pytorch with as many parameters as ours, within 5 %."""
    net = partial(of_ddpm_pytorch.network, dataset.shape[0])
    widths = narrowed(of_ddpm_pytorch.WIDTHS, our_parameters(dataset), partial(parameters, net))
    return OfDdpmPytorch(dataset.shape[0], steps, mode, widths)


RECOMMENDED: dict[str, Make] = {"diffusers": diffusers, "ddpm_pytorch": ddpm_pytorch}
EQUAL: dict[str, Make] = {"diffusers_equal": diffusers_equal, "ddpm_pytorch_equal": ddpm_pytorch_equal}
CONTESTANTS: dict[str, Make] = RECOMMENDED | EQUAL


def parameters(network: Callable[[Widths], nn.Module], widths: Widths) -> int:
    """The number of a network's parameters at these widths, found without making any."""
    with torch.device("meta"):
        return sum(p.numel() for p in network(widths).parameters())


@cache
def our_parameters(dataset: Dataset) -> int:
    """The number of parameters of our recipe for the dataset."""
    return build(read(recipe_of(dataset.name)), dataset.shape, dataset.classes).parameters
