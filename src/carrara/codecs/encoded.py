"""A dataset encoded once: training reads tokens, not texts; and codecs that are made from a dataset's texts, made once.

<cache>/encoded/<key>/train.npy  heldout.npy   x0 of every example, or window of text, in as few bytes as hold the ids
<cache>/codecs/<key>/…                         what the codec saves
                     meta.json                 the hashes of the others, written last
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from carrara import __version__, files
from carrara.data.cache import kept, read_meta, write_meta
from carrara.data.dataset import Dataset, Split
from carrara.data.documents import Documents
from carrara.data.growing import Growing, mapped
from carrara.errors import DataError, InputError

Of = Literal["media", "sources"]
Array = npt.NDArray[Any]

_PICTURES_AT_ONCE = 256
_SIDES = ("train", "heldout")


def encoded(dataset: Dataset, codec: Any, of: Of = "media") -> tuple[Array, Array]:
    """x0 of the training and of the held-out split, each (N, *codec.shape), memory-mapped and read-only.

    Ids come in the smallest unsigned type that holds the codec's vocabulary; turn a batch of them into int64. Of texts N
    is the number of windows; where the codec lays them out in rows, row i is text i. of: the media, or the sources of
    pairs. Computed once for a dataset and a codec, by their fingerprint and identity.
    Raises DataError where a split does not fill one window, InputError for media that the codec does not encode.
    """
    place = files.cache_dir() / "encoded" / _key("encoded", dataset.fingerprint, codec.identity(), of)

    def fill(folder: Path) -> None:
        for name in _SIDES:
            _write(folder / f"{name}.npy", _blocks(_of(dataset, name, of), codec), codec, f"{dataset.name}'s {name}")
        _seal(folder)

    return kept(place, fill, _read)


def fitted(codec: Any, dataset: Dataset, of: Of = "media") -> Any:
    """The codec, made from the dataset's training texts where it is of a kind that is made from texts: one with `fit`.

    Made once for a dataset and the codec's `making`. Raises InputError where such a codec meets pictures.
    """
    if not hasattr(codec, "fit"):
        return codec
    texts = _texts(_of(dataset, "train", of))
    place = files.cache_dir() / "codecs" / _key("codec", dataset.fingerprint, json.dumps(codec.making()), of)

    def fill(folder: Path) -> None:
        codec.fit(texts).save(folder)
        _seal(folder)

    return kept(place, fill, partial(_restored, codec))


def _restored(codec: Any, place: Path) -> Any:
    _check(place)
    return codec.restore(place)


def _of(dataset: Dataset, name: str, of: Of) -> Split | Documents:
    split: Split = getattr(dataset, name)
    if of == "media":
        return split
    if split.sources is None:
        raise InputError(
            f"the dataset {dataset.name} has no sources, which pairs have: choose one of pairs, such as words, gloss or "
            "texts with source:"
        )
    return split.sources


def _texts(given: Split | Documents) -> Documents:
    return given.texts if isinstance(given, Split) else given


def _blocks(given: Split | Documents, codec: Any) -> Iterator[Array]:
    """x0 of one block of examples after another."""
    if hasattr(codec, "windows"):
        yield from codec.windows(_texts(given))
        return
    import torch

    media = given.pictures if isinstance(given, Split) else np.empty(0)
    for start in range(0, len(media), _PICTURES_AT_ONCE):
        yield codec.encode(torch.from_numpy(np.array(media[start : start + _PICTURES_AT_ONCE]))).cpu().numpy()


def _write(path: Path, blocks: Iterator[Array], codec: Any, words: str) -> None:
    first = next(blocks, None)
    if first is None:
        raise DataError(
            f"{words} texts are shorter than one window of {codec.length} tokens: give more text, or a smaller codec.length"
        )
    growing = Growing(path, _dtype(first, codec), first.shape[1:])
    try:
        growing.add(first)
        for block in blocks:
            growing.add(block)
        growing.finish()
    finally:
        growing.close()


def _dtype(first: Array, codec: Any) -> npt.DTypeLike:
    return first.dtype if first.dtype.kind == "f" else np.min_scalar_type(codec.vocab)


def _read(place: Path) -> tuple[Array, Array]:
    _check(place)
    return mapped(place / "train.npy"), mapped(place / "heldout.npy")


def _seal(folder: Path) -> None:
    """Waits until the files are on the disk, and writes their hashes."""
    for path in folder.iterdir():
        files.flush(path)
    write_meta(folder, {"sha256": {path.name: files.sha256(path) for path in sorted(folder.iterdir())}})


def _check(folder: Path) -> None:
    for name, expected in read_meta(folder)["sha256"].items():
        if files.sha256(folder / name) != expected:
            raise ValueError(f"{name} does not match its hash")


def _key(*parts: str) -> str:
    return hashlib.sha256("\n".join([__version__, *parts]).encode()).hexdigest()[:32]
