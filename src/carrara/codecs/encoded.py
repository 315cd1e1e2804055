"""A dataset encoded once: training reads tokens or latents, not texts or pictures; and codecs that are made from a dataset's texts.

<cache>/encoded/<key>/train.npy  heldout.npy   x0 of every example, or window of text, in as few bytes as hold the ids
<cache>/codecs/<key>/…                         what the codec saves
                     meta.json                 the hashes of the others, and of what and by which codec they are, written last

Pictures are encoded part by part, and parts are kept until all are there (codecs/parts.py): what was stopped goes on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from carrara import __version__, files
from carrara.codecs.parts import Parts
from carrara.data.cache import kept, read_meta, write_meta
from carrara.data.dataset import Dataset, Split
from carrara.data.documents import Documents
from carrara.data.growing import Growing, mapped
from carrara.errors import DataError, InputError

Of = Literal["media", "sources", "mirrored"]
Array = npt.NDArray[Any]
Progress = Callable[[int, int], None]
"""(pictures that are encoded, all of them)."""

_PICTURES_AT_ONCE = 256
_SIDES = ("train", "heldout")


def encoded(dataset: Dataset, codec: Any, of: Of = "media", progress: Progress | None = None) -> tuple[Array, Array]:
    """x0 of the training and of the held-out split, each (N, *codec.shape), memory-mapped and read-only.

    Ids come in the smallest unsigned type that holds the codec's vocabulary; turn a batch of them into int64. Of texts N
    is the number of windows; where the codec lays them out in rows, row i is text i. of: the media, or the sources of
    pairs. Computed once for a dataset and a codec, by their fingerprint and identity.
    Raises DataError where a split does not fill one window, InputError for media that the codec does not encode.
    """
    found = _mapped(place_of(dataset, codec, of), dataset, codec, of, progress)
    return found["train"], found["heldout"]


def mirrored(dataset: Dataset, codec: Any, progress: Progress | None = None) -> Array:
    """x0 of the training pictures mirrored left-right, as `encoded` gives that of the pictures themselves.

    It is not x0 of the pictures, mirrored: an autoencoder need not know left from right.
    """
    return _mapped(place_of(dataset, codec, "mirrored"), dataset, codec, "mirrored", progress)["train"]


def place_of(dataset: Dataset, codec: Any, of: Of = "media") -> Path:
    """The folder where they are kept, or will be."""
    return files.cache_dir() / "encoded" / _key("encoded", dataset.fingerprint, codec.identity(), of)


def _mapped(place: Path, dataset: Dataset, codec: Any, of: Of, progress: Progress | None) -> dict[str, Array]:
    """The arrays of the sides, by name; made where they are not there, or are not what they should be."""
    sides = ("train",) if of == "mirrored" else _SIDES
    about = {"dataset": dataset.fingerprint, "codec": codec.identity(), "of": of}
    parts = Parts.beside(place, sum(len(getattr(dataset, name)) for name in sides), progress)

    def fill(folder: Path) -> None:
        for name in sides:
            blocks = _blocks(_of(dataset, name, of), codec, of == "mirrored", partial(parts.kept, name))
            _write(folder / f"{name}.npy", blocks, codec, f"{dataset.name}'s {name}")
        _seal(folder, about)

    found = kept(place, fill, partial(_read, about=about, sides=sides))
    parts.clear()
    return found


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
    if of != "sources":
        return split
    if split.sources is None:
        raise InputError(
            f"the dataset {dataset.name} has no sources, which pairs have: choose one of pairs, such as words, gloss or "
            "texts with source:"
        )
    return split.sources


def _texts(given: Split | Documents) -> Documents:
    return given.texts if isinstance(given, Split) else given


Keeping = Callable[[range, Callable[[], Array]], Array]
"""What is made of the pictures with these numbers; made now, or found where it was kept."""


def _blocks(given: Split | Documents, codec: Any, mirror: bool, keeping: Keeping) -> Iterator[Array]:
    """x0 of one block of examples after another."""
    if hasattr(codec, "windows"):
        yield from codec.windows(_texts(given))
        return
    media = given.pictures if isinstance(given, Split) else np.empty(0)
    for start in range(0, len(media), _PICTURES_AT_ONCE):
        rows = range(start, min(start + _PICTURES_AT_ONCE, len(media)))
        yield keeping(rows, partial(_encoded, media, rows, codec, mirror))


def _encoded(media: Array, rows: range, codec: Any, mirror: bool) -> Array:
    """x0 of the pictures with these numbers."""
    import torch

    pictures = torch.from_numpy(np.array(media[rows.start : rows.stop]))
    found: Array = codec.encode(pictures.flip(-1) if mirror else pictures).cpu().numpy()
    return found


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


def _read(place: Path, about: Mapping[str, str], sides: Sequence[str]) -> dict[str, Array]:
    _check(place, about)
    return {name: mapped(place / f"{name}.npy") for name in sides}


def _seal(folder: Path, about: Mapping[str, str] | None = None) -> None:
    """Waits until the files are on the disk, and writes their hashes, and what they are."""
    for path in folder.iterdir():
        files.flush(path)
    hashes = {path.name: files.sha256(path) for path in sorted(folder.iterdir())}
    write_meta(folder, {"sha256": hashes, "about": dict(about or {})})


def _check(folder: Path, about: Mapping[str, str] | None = None) -> None:
    """Raises ValueError for files that are not those that were written, or are of something else."""
    body = read_meta(folder)
    for name, expected in body["sha256"].items():
        if files.sha256(folder / name) != expected:
            raise ValueError(f"{name} does not match its hash")
    for key, value in (about or {}).items():
        if (found := body.get("about", {}).get(key, value)) != value:
            raise ValueError(f"it was made by or of another {key}, {found[:20]}…, and not by or of {value[:20]}…")


def _key(*parts: str) -> str:
    return hashlib.sha256("\n".join([__version__, *parts]).encode()).hexdigest()[:32]
