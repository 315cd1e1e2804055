"""What can be asked for, and what is dropped out in training."""

from typing import Any

import numpy as np
import pytest
import torch

from carrara.conditions.base import dropped
from carrara.conditions.label import LabelCondition, NoCondition
from carrara.errors import InputError
from carrara.rng import Streams

ANIMALS = LabelCondition(("cat", "dog", "7"), dropout=0.25)


@pytest.mark.parametrize(
    ("label", "numbers"),
    [
        (None, [0, 1, 2, 0]),
        (1, [1, 1, 1, 1]),
        ("dog", [1, 1, 1, 1]),
        ("1", [1, 1, 1, 1]),
        ("7", [2, 2, 2, 2]),
        (["dog", 0, "0", "7"], [1, 0, 0, 2]),
        (("cat",) * 4, [0, 0, 0, 0]),
        (np.array([2, 1, 0, 0]), [2, 1, 0, 0]),
        (np.int64(2), [2, 2, 2, 2]),
        (torch.tensor([2, 1, 0, 0]), [2, 1, 0, 0]),
        (torch.tensor(2), [2, 2, 2, 2]),
        (np.array(2), [2, 2, 2, 2]),
        (torch.tensor([2]), None),
        (range(0), None),
        ([0, 1], None),
        ([0] * 5, None),
    ],
)
def test_labels_by_number_name_and_list(label: Any, numbers: list[int] | None) -> None:
    if numbers is None:
        with pytest.raises(
            InputError, match=f"{len(label)} labels were given for 4 samples; give one, or one for each"
        ):
            ANIMALS.ask(4, label=label)
        return
    found = ANIMALS.ask(4, label=label)["label"]
    assert (found.tolist(), found.dtype) == (numbers, torch.int64)


@pytest.mark.parametrize("label", ["cta", 3, -1, "-1", "3", "²", "", 1.0, None, [0]])
def test_a_class_that_is_none_is_refused(label: Any) -> None:
    with pytest.raises(InputError, match=r"there is no class .*allowed: 7, cat, dog, or 0 to 2"):
        ANIMALS.ask(2, label=[0, label])


def test_the_nearest_class_is_told() -> None:
    with pytest.raises(InputError, match=r"there is no class 'cta': did you mean 'cat'\?"):
        ANIMALS.ask(1, label="cta")


def test_other_wishes_are_refused() -> None:
    with pytest.raises(InputError, match="asked for by label; it does not know prompt"):
        ANIMALS.ask(1, label=0, prompt="a cat")
    assert ANIMALS.ask(1, label=0, prompt=None)["label"].tolist() == [0]


def test_an_unconditional_model_can_be_asked_for_nothing() -> None:
    none = NoCondition(("cat",))
    assert none.ask(3) is None and none.ask(3, label=None) is None and none.null(3) is None
    assert none.encode({"label": torch.zeros(2)}) is None and none.classes == ()
    with pytest.raises(InputError, match="this model is unconditional; it cannot be asked for label"):
        none.ask(3, label=0)


def test_impossible_conditions_are_refused() -> None:
    with pytest.raises(InputError, match="condition kind 'label' needs classes, and the data has none"):
        LabelCondition(())
    for dropout in (-0.1, 1.0):
        with pytest.raises(InputError, match=rf"condition\.dropout is {dropout}"):
            LabelCondition(("a",), dropout)


def test_the_null_is_beyond_the_classes() -> None:
    assert ANIMALS.null(2)["label"].tolist() == [3, 3]
    assert torch.equal(ANIMALS.encode({"label": torch.tensor([2, 0])})["label"], torch.tensor([2, 0]))


def drawn(seeds: range, condition: LabelCondition = ANIMALS) -> torch.Tensor:
    cond = {"label": torch.arange(len(seeds)) % 3}
    found = dropped(condition, cond, Streams(seeds))
    assert found is not None
    kept = found["label"] != 3
    assert torch.equal(found["label"][kept], cond["label"][kept])
    assert found["label"].dtype == torch.int64
    return ~kept


def test_the_share_that_is_dropped_is_the_one_asked_for() -> None:
    share = drawn(range(4000)).double().mean().item()
    assert abs(share - 0.25) < 4 * (0.25 * 0.75 / 4000) ** 0.5
    assert not bool(drawn(range(100), LabelCondition(("a", "b", "c"), dropout=0.0)).any())


def test_each_sample_is_dropped_by_its_own_stream() -> None:
    whole = drawn(range(60))
    assert torch.equal(torch.cat([drawn(range(10)), drawn(range(10, 60))]), whole)


def test_dropping_takes_one_number_of_the_stream_whatever_the_condition() -> None:
    """So that a conditional and an unconditional model see the same noise after it."""
    one, other, plain = Streams([5]), Streams([5]), Streams([5])
    assert dropped(NoCondition(), None, one) is None
    dropped(ANIMALS, {"label": torch.tensor([0])}, other)
    plain.uniform()
    expected = plain.normal((3,))
    assert torch.equal(one.normal((3,)), expected) and torch.equal(other.normal((3,)), expected)


def test_a_sample_is_dropped_in_all_its_tensors() -> None:
    class Two:
        dropout = 0.5

        def null(self, count: int) -> dict[str, torch.Tensor]:
            return {"text": torch.zeros(count, 3, 4), "label": torch.full((count,), 9)}

    cond = {"text": torch.ones(50, 3, 4), "label": torch.zeros(50, dtype=torch.int64)}
    found = dropped(Two(), cond, Streams(range(50)))
    assert found is not None
    gone = found["label"] == 9
    assert 10 < int(gone.sum()) < 40
    assert torch.equal(found["text"], (~gone).float()[:, None, None].expand(50, 3, 4))


@pytest.mark.parametrize("label", [True, np.bool_(True), torch.tensor(True), [True, 0]])
def test_yes_is_no_class(label: Any) -> None:
    with pytest.raises(InputError, match="there is no class"):
        ANIMALS.ask(2, label=label)
