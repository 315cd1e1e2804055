"""Edit distance against its definition, and the shares that are wrong, by hand."""

import functools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from carrara.errors import InputError
from carrara.evaluation.texts.edits import edit_distance, errors, token_accuracy

short = st.text("abc", max_size=6)


def by_definition(a: str, b: str) -> int:
    @functools.cache
    def d(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        return min(d(i - 1, j) + 1, d(i, j - 1) + 1, d(i - 1, j - 1) + (a[i - 1] != b[j - 1]))

    return d(len(a), len(b))


@given(short, short)
def test_edit_distance_is_its_definition(a: str, b: str) -> None:
    assert edit_distance(a, b) == edit_distance(b, a) == by_definition(a, b)


def test_edit_distance_by_hand() -> None:
    assert edit_distance("kitten", "sitting") == 3 and edit_distance("", "abc") == 3
    assert edit_distance(["HH", "AH0", "L"], ["HH", "EH1", "L", "OW1"]) == 2


def test_errors_by_hand() -> None:
    found = errors(["abc", "xbcd", "aaaa"], ["abc", "abc", "a"])
    assert found.as_dict() == {"symbol_error": 5 / 7, "text_error": 2 / 3, "edits": 5, "symbols": 7, "n": 3}
    # Symbols count in the references: what is put in may come to more than there is.
    assert errors(["aaaa"], ["b"]).symbol_error == 4
    sounds = errors([["HH", "AH0"]], [["HH", "AH0", "L"]])
    assert sounds.symbol_error == pytest.approx(1 / 3)


@pytest.mark.parametrize(("given_", "right"), [([], []), (["a"], []), ([""], [""])])
def test_what_cannot_be_compared_is_refused(given_: list[str], right: list[str]) -> None:
    with pytest.raises(InputError):
        errors(given_, right)


def test_token_accuracy_by_hand() -> None:
    right = torch.tensor([[1, 2, 9, 9], [3, 9, 9, 9]])
    made = torch.tensor([[1, 0, 9, 9], [3, 9, 9, 5]])
    assert token_accuracy(made, right) == 6 / 8
    # Up to the first end: 1 2 9 and 3 9, of which one is wrong.
    assert token_accuracy(made, right, end=9) == 4 / 5
    with pytest.raises(InputError, match=r"\(2, 4\) and \(2, 3\)"):
        token_accuracy(made, right[:, :3])
