"""What is counted in texts, against cases by hand and brute force."""

import math
from collections import Counter
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carrara.evaluation.texts.words import (
    distinct,
    entropy,
    first,
    inner,
    longest_repeat,
    ngrams,
    repeated,
    shuffled_words,
    words,
)

letters = st.text("ab ", max_size=14)


def test_words() -> None:
    assert words("Don’t STOP, o'er 12 hills—'tis naïve_x!") == [
        "don't",
        "stop",
        "o'er",
        "12",
        "hills",
        "tis",
        "naïve",
        "x",
    ]
    assert words("他说hello。二〇") == ["他", "说", "hello", "二", "〇"]
    assert words(" .\n�▁ ") == []


def test_the_inside_of_a_window_has_no_half_words() -> None:
    assert inner("ginning was the wo") == "was the"
    assert inner("  one two  ") == "two" and inner("one two\nthree") == "two"
    assert inner("alone") == "alone" and inner("") == "" and inner("他说他说") == "他说他说"


def test_entropy_by_hand() -> None:
    assert entropy([["a", "b"], ["a", "c"]]) == pytest.approx(0.5 * 1 + 2 * 0.25 * 2)
    assert entropy([["a"] * 5]) == 0 and math.isnan(entropy([[], []]))


def test_distinct_by_hand() -> None:
    texts = [list("abab"), list("ab")]
    assert distinct(texts, 1) == 2 / 6 and distinct(texts, 2) == 2 / 4 and distinct(texts, 3) == 1
    # No n-gram goes from one text into the next.
    assert distinct([["a"], ["b"]], 2) != 1 and math.isnan(distinct([["a"], ["b"]], 2))


def test_repetition_by_hand() -> None:
    loop = ["go", "to", "go", "to", "go", "to"]
    assert ngrams(loop, 4) == [tuple(loop[i : i + 4]) for i in range(3)]
    assert repeated([loop]) == pytest.approx(1 / 3)
    # Its mean over the texts; those that are too short say nothing, and others' n-grams are no repetition.
    assert repeated([loop, list("abcd"), list("abcd"), ["a"]]) == pytest.approx(1 / 9)
    assert math.isnan(repeated([["a"]]))


@settings(max_examples=200, deadline=None)
@given(letters)
def test_the_longest_repeat_is_that_of_brute_force(text: str) -> None:
    pieces = Counter(text[i:j] for i, j in combinations(range(len(text) + 1), 2))
    assert longest_repeat(text) == max((len(piece) for piece, count in pieces.items() if count > 1), default=0)


def test_the_longest_repeat_by_hand() -> None:
    assert longest_repeat("banana") == 3 and longest_repeat("aaaa") == 3
    assert longest_repeat("") == longest_repeat("a") == longest_repeat("abc") == 0


def test_shuffled_words_are_the_same_words_in_another_order() -> None:
    texts = ["one, two three", "四五 six.", ""] + [f"word{letter} x" for letter in "abcdefghijklmnopqrstuvw"]
    mixed = shuffled_words(texts)
    assert mixed == shuffled_words(texts) and mixed != shuffled_words(texts, 1)
    assert [len(words(text)) for text in mixed] == [len(words(text)) for text in texts]
    assert Counter(w for t in mixed for w in words(t)) == Counter(w for t in texts for w in words(t))
    assert mixed != texts and "one, " in " ".join(mixed) + " "


def test_the_first_characters() -> None:
    assert first(["abc", "def", "ghi"], 5) == ["abc", "de"]
    assert first(["abc"], 9) == ["abc"] and first(["abc"], 0) == [] and first([], 3) == []
