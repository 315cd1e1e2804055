"""carrara: diffusion models of images, sound and text in one vocabulary.

>>> import carrara
>>> model = carrara.load("runs/digits")           # doctest: +SKIP
>>> pictures = model.sample(16, label=3)          # doctest: +SKIP

Public names are imported when they are first used, so that `import carrara` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from carrara.analytic import GaussianMixture, MixtureDenoiser
    from carrara.beliefs import Point, Tokens
    from carrara.denoisers import GaussianDenoiser
    from carrara.errors import CarraraError, InputError, RunError
    from carrara.guidance import Guided, guided
    from carrara.masking import Masked
    from carrara.model import Model, build, load
    from carrara.planning import Planned
    from carrara.processes import Gaussian
    from carrara.recipe import Recipe
    from carrara.rng import Streams
    from carrara.samplers import SAMPLERS, Step
    from carrara.sampling import Sampling
    from carrara.times import grid
    from carrara.tokens import AutoregressiveDenoiser, MaskedDenoiser, PlannedDenoiser

__version__ = "0.2.0"

_HOME = {
    "AutoregressiveDenoiser": "tokens",
    "CarraraError": "errors",
    "Gaussian": "processes",
    "GaussianDenoiser": "denoisers",
    "GaussianMixture": "analytic",
    "Guided": "guidance",
    "InputError": "errors",
    "Masked": "masking",
    "MaskedDenoiser": "tokens",
    "MixtureDenoiser": "analytic",
    "Model": "model",
    "Planned": "planning",
    "PlannedDenoiser": "tokens",
    "Point": "beliefs",
    "Recipe": "recipe",
    "RunError": "errors",
    "SAMPLERS": "samplers",
    "Sampling": "sampling",
    "Step": "samplers",
    "Streams": "rng",
    "Tokens": "beliefs",
    "build": "model",
    "grid": "times",
    "guided": "guidance",
    "load": "model",
}

__all__ = [
    "SAMPLERS",
    "AutoregressiveDenoiser",
    "CarraraError",
    "Gaussian",
    "GaussianDenoiser",
    "GaussianMixture",
    "Guided",
    "InputError",
    "Masked",
    "MaskedDenoiser",
    "MixtureDenoiser",
    "Model",
    "Planned",
    "PlannedDenoiser",
    "Point",
    "Recipe",
    "RunError",
    "Sampling",
    "Step",
    "Streams",
    "Tokens",
    "__version__",
    "build",
    "grid",
    "guided",
    "load",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'carrara' has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(f"carrara.{_HOME[name]}"), name)
    return found


def __dir__() -> list[str]:
    return __all__
