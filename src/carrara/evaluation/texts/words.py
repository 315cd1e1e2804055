"""What is counted in texts: words and their n-grams, how varied they are, and how much a text repeats itself.

A word is a run of letters, with apostrophes inside, or of digits, in small letters; a Chinese or Japanese character is a word by
itself. What else there is, is no word.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

ALONE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Characters that are words by themselves, as the inside of a class of characters."""
_WORD = re.compile(rf"[{ALONE}]|(?:(?![{ALONE}])[^\W\d_])+(?:['’](?:(?![{ALONE}])[^\W\d_])+)*|\d+")
_PIECE = re.compile(rf"[{ALONE}]|[^\s{ALONE}]+")
_ALONE = re.compile(f"[{ALONE}]")
REPEATED_N = 4
"""Of how many words the n-grams are whose repetition is measured."""

Words = Sequence[str]


def words(text: str) -> list[str]:
    """The words of a text, in small letters, with straight apostrophes."""
    return [word.replace("’", "'") for word in _WORD.findall(text.lower())]


def inner(text: str) -> str:
    """A window of packed text without what its edges may have cut: from its first white space to its last, or all."""
    parts = text.strip().split(None, 1)
    if len(parts) < 2:
        return text
    kept = parts[1].rsplit(None, 1)
    return kept[0] if len(kept) == 2 else parts[1]


def ngrams(found: Words, n: int) -> list[tuple[str, ...]]:
    """All runs of n words, as often as they come."""
    return [tuple(found[start : start + n]) for start in range(len(found) - n + 1)]


def entropy(texts: Iterable[Words]) -> float:
    """The entropy of the words of all texts together, by how often each comes, in bits a word; NaN without any.

    It is of the words that were counted: few words show less of it than many, so compare at one number of words.
    """
    counts = np.array(list(Counter(word for found in texts for word in found).values()), dtype=np.float64)
    if not len(counts):
        return math.nan
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum()) + 0.0


def distinct(texts: Iterable[Words], n: int) -> float:
    """How many different n-grams all texts have, for each n-gram there is; NaN where no text has n words.

    It falls as the texts become longer or more, so compare at one number of words.

    Source: A Diversity-Promoting Objective Function for Neural Conversation Models, Li et al., 2016.
    """
    grams = [gram for found in texts for gram in ngrams(found, n)]
    return len(set(grams)) / len(grams) if grams else math.nan


def repeated(texts: Iterable[Words], n: int = REPEATED_N) -> float:
    """The share of a text's n-grams that came in it before, its mean over the texts that have n words; NaN without any.

    Source: Neural Text Generation with Unlikelihood Training, Welleck et al., 2020, section 6, seq-rep-n.
    """
    shares = [1 - len(set(grams)) / len(grams) for found in texts if (grams := ngrams(found, n))]
    return sum(shares) / len(shares) if shares else math.nan


def longest_repeat(text: str) -> int:
    """How many characters the longest piece has that comes twice in a text; the two may overlap."""
    low, high = 0, max(0, len(text) - 1)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _comes_twice(text, middle) else (low, middle - 1)
    return low


def _comes_twice(text: str, length: int) -> bool:
    seen: set[str] = set()
    for start in range(len(text) - length + 1):
        piece = text[start : start + length]
        if piece in seen:
            return True
        seen.add(piece)
    return False


def shuffled_words(texts: Sequence[str], seed: int = 0) -> list[str]:
    """The texts with their words, punctuation at them, in an order drawn over all texts; each has as many as it had."""
    pieces = [_PIECE.findall(text) for text in texts]
    every = [piece for found in pieces for piece in found]
    drawn = iter(np.random.default_rng(seed).permutation(len(every)))
    return [_joined([every[next(drawn)] for _ in found]) for found in pieces]


def _joined(pieces: Iterable[str]) -> str:
    return "".join(piece if _ALONE.fullmatch(piece) else f"{piece} " for piece in pieces).rstrip()


def first(texts: Iterable[str], characters: int) -> list[str]:
    """The first of the texts, as many characters in all as were asked for where there are so many; the last is cut for it."""
    taken: list[str] = []
    for text in texts:
        if characters <= 0:
            break
        taken.append(text[:characters])
        characters -= len(taken[-1])
    return taken
