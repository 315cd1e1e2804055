"""The smallest real dataset: scikit-learn's 1797 grey 8 x 8 handwritten digits, inside its wheel."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from carrara.data.dataset import Dataset, Split, fingerprint

_HELDOUT_PER_CLASS = 36
_CLASSES = tuple("0123456789")


def digits() -> Dataset:
    """1437 digits to train on and 360 held out, 36 of each class, uint8 (N, 1, 8, 8).

    Held out are those whose pixels have the lowest sha256 in their class, so the split depends on no library's
    version or order. Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, 1998, UCI.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    media = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    labels = bunch.target.astype(np.int64)
    heldout = _heldout(media, labels)
    splits = [Split(media[side], labels[side]) for side in (~heldout, heldout)]
    return Dataset(
        name="digits",
        classes=_CLASSES,
        train=splits[0],
        heldout=splits[1],
        fingerprint=fingerprint({"kind": "digits"}, _CLASSES, *splits),
        licence="BSD-3-Clause",
        source="scikit-learn load_digits (UCI Optical Recognition of Handwritten Digits)",
    )


def _heldout(media: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    ranks = np.array([hashlib.sha256(picture.tobytes()).hexdigest() for picture in media])
    heldout = np.zeros(len(media), dtype=np.bool_)
    for label in range(len(_CLASSES)):
        members = np.flatnonzero(labels == label)
        heldout[members[np.argsort(ranks[members], kind="stable")[:_HELDOUT_PER_CLASS]]] = True
    return heldout
