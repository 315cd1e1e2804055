"""Statistics files: the mean and covariance of a set's features, in the `.npz` the field exchanges.

The keys are `mu` (dim,) and `sigma` (dim, dim), as pytorch-fid, clean-fid, EDM and ADM write them; ADM's own files hold
sFID's as `mu_s` and `sigma_s` beside them. Ours add `n`, the count, which the others do not look at. Which network and
which resizer made them no such file says: that is for the reader to know.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from carrara import files
from carrara.errors import InputError, NonFinite
from carrara.evaluation.features import Features
from carrara.evaluation.frechet import Normal
from carrara.evaluation.statistics import Moments

KEYS = ("mu", "sigma")
SPATIAL_KEYS = ("mu_s", "sigma_s")
MADE_BY = {1280: "efficientnet", 2023: "inception_spatial", 2048: "inception or inception_tensorflow"}
"""The length of a mean -> the features it may be of."""
ASYMMETRY = 1e-5
"""How far a covariance may be from its transpose, of its largest value: files are often float32."""


@dataclass(frozen=True)
class Statistics:
    """A mean (dim,) and a covariance (dim, dim), float64, and the count behind them, None where the file has none."""

    mean: Tensor
    cov: Tensor
    n: int | None

    def normal(self) -> Normal:
        """The Normal they describe, for `frechet_distance`."""
        return Normal.with_covariance(self.mean, self.cov)

    def moments(self) -> Moments:
        """The Moments they are, to which more may be added; InputError without a count of at least 2."""
        if self.n is None or self.n < 2:
            raise InputError(
                "statistics without a count of at least 2 pictures can be measured against, not added to"
            )
        return Moments.of(self.n, self.mean, self.cov)


def write_statistics(path: Path, moments: Moments) -> None:
    """Writes mu, sigma and n as float64 and int64 `.npz`, whole or not at all. InputError with fewer than two rows."""
    content = io.BytesIO()
    np.savez(content, mu=moments.mean.numpy(), sigma=moments.cov.numpy(), n=np.int64(moments.n))
    files.write(path, content.getvalue())


def read_statistics(path: Path, keys: tuple[str, str] = KEYS) -> Statistics:
    """The Statistics in a `.npz` file under these keys: KEYS, or SPATIAL_KEYS for sFID's.

    Raises InputError for another file, missing keys, shapes that do not belong together, an asymmetric covariance or
    one with a negative variance, NonFinite on NaN.
    """
    arrays = _arrays(path, keys)
    mean, cov = (torch.from_numpy(arrays[key]) for key in keys)
    if mean.ndim != 1 or not len(mean) or cov.shape != (len(mean), len(mean)):
        raise InputError(
            f"{path}: {keys[0]} must be (dim,) and {keys[1]} (dim, dim); got {tuple(mean.shape)} and {tuple(cov.shape)}"
        )
    return Statistics(mean, _checked(path, mean, cov), int(arrays["n"]) if "n" in arrays else None)


def check_length(name: str | Path, statistics: Statistics, features: Features) -> None:
    """Raises InputError where statistics are of other features, as far as their length can tell."""
    length = len(statistics.mean)
    if length != features.dim:
        kinds = MADE_BY.get(length)
        advice = f"it may be of --features {kinds}" if kinds else "no features of carrara's are as long"
        raise InputError(
            f"{name} has statistics of {length} features, and {features.name} makes {features.dim}; {advice}"
        )


def keys_in(path: Path) -> set[str]:
    """The keys of a `.npz` file; otherwise InputError."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {name.removesuffix(".npy") for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read as a .npz file of numbers: {error}") from error


def _arrays(path: Path, keys: tuple[str, str]) -> dict[str, npt.NDArray[np.float64]]:
    """The arrays under these keys, and n where there is one. Nothing is unpickled."""
    try:
        held = sorted(keys_in(path))
        if missing := [key for key in keys if key not in held]:
            raise InputError(
                f"{path} has no {' and no '.join(missing)}, but {', '.join(held) or 'nothing'}: "
                f"a statistics file holds {keys[0]} and {keys[1]}"
            )
        with np.load(path, allow_pickle=False) as loaded:
            return {key: loaded[key].astype(np.float64) for key in (*keys, "n") if key in held}
    except InputError:
        raise
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read as a .npz file of numbers: {error}") from error


def _checked(path: Path, mean: Tensor, cov: Tensor) -> Tensor:
    """The covariance, exactly symmetric, once both are what statistics can be."""
    if not (torch.isfinite(mean).all() and torch.isfinite(cov).all()):
        raise NonFinite(f"{path} holds NaN or infinity: the features it was made from were broken")
    largest = cov.abs().max()
    if (cov - cov.T).abs().max() > ASYMMETRY * largest:
        raise InputError(f"{path}: its covariance is not symmetric")
    if cov.diagonal().min() < 0:
        raise InputError(f"{path}: its covariance has a negative variance, {float(cov.diagonal().min()):.3g}")
    return (cov + cov.T) / 2
