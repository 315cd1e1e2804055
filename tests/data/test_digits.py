from __future__ import annotations

import numpy as np

from carrara import data


def test_digits_are_whole_and_scaled_to_the_full_range() -> None:
    digits = data.load("digits")
    assert (len(digits.train), len(digits.heldout), digits.shape) == (1437, 360, (1, 8, 8))
    values = np.unique(np.concatenate([digits.train.media, digits.heldout.media]))
    assert values.tolist() == [round(v * 255 / 16) for v in range(17)]
    assert digits.classes == tuple("0123456789")


def test_the_held_out_digits_are_stratified_and_in_no_other_place() -> None:
    digits = data.load("digits")
    assert np.bincount(digits.heldout.labels).tolist() == [36] * 10
    train = {picture.tobytes() for picture in digits.train.media}
    assert not any(picture.tobytes() in train for picture in digits.heldout.media)


def test_loading_twice_gives_the_same_fingerprint() -> None:
    assert data.load("digits").fingerprint == data.load("digits").fingerprint
