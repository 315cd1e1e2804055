"""A stand-in for torchvision, for two tools that import it and use next to nothing of it.

clean-fid and torch-fidelity import torchvision as they are imported, and it does not import beside every torch: it is compiled
for one version. So the process that runs such a tool (`benchmarks.fid.tools`), and no other, has these modules under its name.
What a FID passes through is three short things, which turn a picture into a tensor of the same numbers. All other names are there
only because an import statement or a base class asks for them, and refuse to be used.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NoReturn
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from carrara.errors import InputError


class ToTensor:
    """Called with an array (H, W, C), its tensor (C, H, W): float32 as it is, uint8 divided by 255 to float32."""

    def __call__(self, array: npt.NDArray[Any]) -> Tensor:
        if array.dtype not in (np.uint8, np.float32) or array.ndim != 3:
            raise InputError(f"the stand-in takes uint8 or float32 (H, W, C); got {array.dtype} {array.shape}")
        pixels = torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1)))
        return pixels.float() / 255 if array.dtype == np.uint8 else pixels


class Compose:
    """Called with a picture, what the functions make of it, one after the other."""

    def __init__(self, functions: Sequence[Callable[[Any], Any]]) -> None:
        self.functions = tuple(functions)

    def __call__(self, picture: Any) -> Any:
        for function in self.functions:
            picture = function(picture)
        return picture


def pil_to_tensor(picture: Image.Image) -> Tensor:
    """The uint8 tensor (C, H, W) of a picture of 8 bits a channel."""
    pixels = np.array(picture)
    if pixels.dtype != np.uint8:
        raise InputError(f"the stand-in takes pictures of 8 bits a channel; got mode {picture.mode}")
    return torch.from_numpy(pixels.reshape(picture.height, picture.width, -1)).permute(2, 0, 1).contiguous()


class Absent(nn.Module):
    """What is named and not here: it can be a base class, and cannot be made."""

    def __init__(self, *given: Any, **named: Any) -> None:
        refuse(type(self).__name__)


def refuse(name: str) -> NoReturn:
    """Raises InputError."""
    raise InputError(f"{name} is torchvision's, for which a stand-in is here that has what a FID needs, and not this")


def modules() -> dict[str, ModuleType]:
    """The stand-in's modules by the names they are imported by."""
    functional = _module("torchvision.transforms.functional", pil_to_tensor=pil_to_tensor)
    transforms = _module("torchvision.transforms", ToTensor=ToTensor, Compose=Compose, functional=functional)
    datasets = _module("torchvision.datasets", **{name: _absent(name) for name in ("CIFAR10", "CIFAR100", "STL10")})
    blocks = {name: _absent(name) for name in ("InceptionA", "InceptionC", "InceptionE")}
    inception = _module("torchvision.models.inception", **blocks)
    models = _module("torchvision.models", inception=inception)
    whole = _module("torchvision", transforms=transforms, datasets=datasets, models=models)
    return {module.__name__: module for module in (whole, transforms, functional, datasets, models, inception)}


@contextmanager
def standing_in() -> Iterator[None]:
    """Inside, `import torchvision` gives the stand-in; afterwards everything is as it was."""
    with patch.dict(sys.modules, modules()):
        yield


def _absent(name: str) -> type[Absent]:
    return type(name, (Absent,), {})


def _module(name: str, **named: Any) -> ModuleType:
    made = ModuleType(name)
    # As of a package, so that modules below it can be imported.
    made.__path__ = []
    vars(made).update(named)
    return made
