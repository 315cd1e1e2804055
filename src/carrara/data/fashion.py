"""Fashion-MNIST from its four idx files: 70000 grey 28 x 28 pictures of clothes in ten classes."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from carrara.data import packages
from carrara.data.cache import About, Staging, cached, key, stamp
from carrara.data.dataset import Dataset
from carrara.errors import DataError

SYSTEM = Path("/usr/share/datasets/fashion-mnist")
PACKAGE = "dataset-fashion-mnist"
_SIZE = 28
_CLASSES = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
# The pictures of a split, then its labels.
_FILES = (
    ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
)


def fashion(path: Path | None = None, flip: bool = False) -> Dataset:
    """60000 pictures to train on and the 10000 of the test files held out, uint8 (N, 1, 28, 28).

    path: a folder with the four idx files, gzipped or plain; by default where the Debian package puts them or where
    `make data` does. flip: mirror pictures left-right in training. Raises DataError when a file is missing, truncated
    or not what its header says. Source: H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST, 2017, arXiv 1708.07747.
    """
    folder = _folder(path)
    files = [[_file(folder, name) for name in pair] for pair in _FILES]
    about = About(
        name="fashion",
        options={"kind": "fashion", "flip": flip},
        classes=_CLASSES,
        licence="MIT",
        source="Fashion-MNIST, Zalando Research",
        flip=flip,
    )

    def build(staging: Staging) -> None:
        for heldout, (pictures, labels) in enumerate(files):
            staging.add(bool(heldout), *_pair(pictures, labels))
        staging.finish(about)

    stamps = [stamp(file) for pair in files for file in pair]
    return cached(key("fashion", {"flip": flip, "folder": folder.resolve()}, stamps), (1, _SIZE, _SIZE), build)


def fetched() -> Path:
    """Where `python -m carrara.data.fetch` puts the four files."""
    return packages.fetched(SYSTEM)


def installed(places: Iterable[Path] | None = None) -> Path | None:
    """The first folder that holds all four files: the system's, else the cache's, else None."""
    return packages.installed(SYSTEM, _whole, places)


def _whole(folder: Path) -> bool:
    return all(_find(folder, name) for pair in _FILES for name in pair)


def _folder(path: Path | None) -> Path:
    return packages.debian_folder(path, SYSTEM, _whole, PACKAGE, "Fashion-MNIST", "its four idx files")


def _find(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / f"{name}.gz", folder / name) if path.is_file()), None)


def _file(folder: Path, name: str) -> Path:
    file = _find(folder, name)
    if file is None:
        raise DataError(
            f"{folder} has neither {name}.gz nor {name}. Give `path:` a folder with all four: "
            + ", ".join(name for pair in _FILES for name in pair)
            + " (.gz or plain)."
        )
    return file


def _pair(pictures: Path, labels: Path) -> tuple[npt.NDArray[np.uint8], list[int]]:
    media, classes = read_idx(pictures, 3), read_idx(labels, 1)
    if media.shape[1:] != (_SIZE, _SIZE):
        raise DataError(f"{pictures} holds pictures of {media.shape[1:]} pixels; Fashion-MNIST has 28 x 28. {_AGAIN}")
    if len(media) != len(classes):
        raise DataError(f"{pictures} holds {len(media)} pictures and {labels} {len(classes)} labels. {_AGAIN}")
    if len(classes) and classes.max() >= len(_CLASSES):
        raise DataError(f"{labels} holds the label {classes.max()}; allowed are 0 to {len(_CLASSES) - 1}. {_AGAIN}")
    return media[:, None], classes.tolist()


_AGAIN = "Fetch the four files again."


def read_idx(path: Path, dimensions: int) -> npt.NDArray[np.uint8]:
    """The uint8 array of an idx file, gzipped if its name ends in .gz, with as many dimensions as asked.

    Layout, big-endian: two zero bytes, 8 for uint8, the number of dimensions, each as uint32, then the bytes.
    Raises DataError naming the file when it is no such thing or is too short or too long.
    """
    raw = _bytes(path)
    start = 4 + 4 * dimensions
    if len(raw) < start or raw[:4] != bytes([0, 0, 8, dimensions]):
        raise DataError(
            f"{path} begins with {raw[:4].hex() or 'nothing'}, not with 0000080{dimensions}: it is no idx file of "
            f"bytes in {dimensions} dimensions. {_AGAIN}"
        )
    shape = tuple(int(number) for number in np.frombuffer(raw, ">u4", dimensions, 4))
    wanted = start + int(np.prod(shape, dtype=object))
    if len(raw) != wanted:
        state = "truncated" if len(raw) < wanted else "too long"
        raise DataError(f"{path} is {state}: {len(raw)} bytes where its header says {wanted}. {_AGAIN}")
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


def _bytes(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
        return gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}. {_AGAIN}") from error
