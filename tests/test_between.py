"""From one sample to another: the ends to the bit, noise that stays noise, texts whose lengths differ."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

from carrara.between import Between, Stops, blended, turned
from carrara.errors import InputError
from carrara.guidance import against
from carrara.interpolation import between
from carrara.model import Model, build
from carrara.processes import Gaussian
from carrara.recipe import read
from carrara.rng import Streams
from carrara.schedules import SCHEDULES

SHARES = torch.tensor([0.0, 0.2, 0.5, 0.9, 1.0], dtype=torch.float64)


def noise(seeds: range, size: int = 6) -> Tensor:
    return Streams(seeds).normal((size,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_ends_are_the_ends(dtype: torch.dtype) -> None:
    a, b = noise(range(5)).to(dtype), noise(range(5, 10)).to(dtype)
    zeros, ones = torch.zeros(5, dtype=torch.float64), torch.ones(5, dtype=torch.float64)
    assert torch.equal(turned(a, b, zeros), a) and torch.equal(turned(a, b, ones), b)
    assert turned(a, b, SHARES).dtype == dtype


@pytest.mark.parametrize("share", [0.1, 0.5, 0.75])
@pytest.mark.parametrize("size", [1, 3, 40])
def test_noise_on_the_way_is_noise_and_its_length_chi(share: float, size: int) -> None:
    """Which it is not on the straight line: there it is shorter, by a factor of the root of two in the middle."""
    a, b = noise(range(4000), size), noise(range(4000, 8000), size)
    x = turned(a, b, torch.full((4000,), share, dtype=torch.float64))
    assert stats.kstest(x.norm(dim=1).numpy(), stats.chi(size).cdf).pvalue > 1e-3
    assert stats.kstest(x[:, 0].numpy(), stats.norm.cdf).pvalue > 1e-3
    straight = ((1 - share) * a + share * b).norm(dim=1).numpy()
    assert stats.kstest(straight, stats.chi(size).cdf).pvalue < 1e-3


def test_the_way_is_steady() -> None:
    """Equal shares turn by equal angles: neighbours have one correlation."""
    a, b = noise(range(1), 100_000), noise(range(1, 2), 100_000)
    way = torch.cat([turned(a, b, share[None]) for share in torch.linspace(0, 1, 7, dtype=torch.float64)])
    near = torch.nn.functional.cosine_similarity(way[1:], way[:-1])
    assert near == pytest.approx([math.cos(math.pi / 12)] * 6, abs=2e-3)


def test_stops_lie_evenly_between_all_ends() -> None:
    stops = Stops.of(3, 1)
    assert stops.first.tolist() == [0, 0, 1, 1, 1] and stops.second.tolist() == [1, 1, 2, 2, 2]
    assert stops.share.tolist() == [0, 0.5, 0, 0.5, 1]
    assert Stops.of(2, 3).share.tolist() == [0, 0.25, 0.5, 0.75, 1]
    for ends, count in ((1, 3), (0, 3), (2, 0)):
        with pytest.raises(InputError, match="give two ends or more, and 1 or more between"):
            Stops.of(ends, count)


@pytest.mark.parametrize("schedule", ["flow", "cosine", "edm"])
def test_where_walks_begin_does_not_depend_on_the_batch(schedule: str) -> None:
    process = Gaussian(SCHEDULES[schedule]())
    whole = Between((7, 9, 7), (2, 3), Stops.of(3, 4))
    x = whole.begin(process, torch.ones(()), Streams([0]))
    for rows in (slice(0, 1), slice(3, 7), slice(10, 11)):
        assert torch.equal(whole.rows(rows).begin(process, torch.ones(()), Streams([0])), x[rows])
    plain = process.prior((2, 3), Streams([7, 9]))
    assert torch.equal(x[[0, 5, 10]], plain[[0, 1, 0]])
    still = Between((7, 7), (2, 3), Stops.of(2, 3)).begin(process, torch.ones(()), Streams([0]))
    assert all(torch.equal(one, plain[0]) for one in still)


def states(*counts: int, length: int = 4) -> dict[str, Tensor]:
    """Texts of so many tokens, each its own state, the others zero."""
    mask = torch.arange(length)[None] < torch.tensor(counts)[:, None]
    rows = torch.randn(len(counts), length, 3, generator=torch.Generator().manual_seed(2))
    return {"text": rows * mask[..., None], "text_mask": mask}


def test_what_one_text_alone_has_comes_with_the_share() -> None:
    cond = states(2, 4, 0)
    made = blended(cond, Stops.of(3, 3))
    assert made is not None
    for end, place in enumerate((0, 4, 8)):
        assert torch.equal(made["text"][place], cond["text"][end])
        assert torch.equal(made["text_mask"][place], cond["text_mask"][end].float())
    short, long, _ = cond["text"]
    assert made["text_mask"][[1, 3, 5]].tolist() == [[1, 1, 0.25, 0.25], [1, 1, 0.75, 0.75], [0.75] * 4]
    torch.testing.assert_close(made["text"][1], torch.cat([0.75 * short[:2] + 0.25 * long[:2], long[2:]]))
    assert torch.equal(made["text"][5], long)


def test_what_both_ends_share_stays_and_is_not_counted_as_different() -> None:
    cond = {name: value[[0, 0]] for name, value in states(3).items()}
    whole = {**against(cond, states(0, 0)), "label": torch.tensor([4, 4])}
    made = blended(whole, Stops.of(2, 2))
    assert made is not None and made.keys() == whole.keys()
    assert all(torch.equal(value, whole[name][[0, 0, 0, 0]]) for name, value in made.items())
    assert blended(None, Stops.of(2, 2)) is None


@pytest.mark.parametrize(
    ("cond", "words"),
    [
        ({"label": torch.tensor([1, 2])}, "nothing lies between one label and another"),
        (
            {"text": torch.tensor([[1, 2], [1, 3]]), "text_mask": torch.ones(2, 2, dtype=torch.bool)},
            "nothing lies between two letters; give one prompt and go between seeds",
        ),
    ],
)
def test_where_nothing_lies_in_between_it_is_said(cond: dict[str, Tensor], words: str) -> None:
    with pytest.raises(InputError, match=words):
        blended(cond, Stops.of(2, 1))


class Letters:
    """An encoder whose states are letters."""

    name, sha256, width, vocab, longest = "letters", "b" * 64, 4, 0, 99

    def __call__(self, texts: Any, length: int, /) -> list[Tensor]:
        rows = [[ord(letter) % 7, ord(letter) % 5, ord(letter) % 3, 1.0] for letter in "abcdefghijklmnopqrstuvwxyz "]
        return [torch.tensor([rows["abcdefghijklmnopqrstuvwxyz ".index(x)] for x in text[:length]]) for text in texts]

    def read(self, text: str, length: int, /) -> int:
        return min(len(text), length)


@pytest.fixture(scope="module")
def model() -> Model:
    changes = ["network={kind: unet, width: 8, depth: 1}", "sampling.steps=3"]
    recipe = read("emoji", [*changes, "condition={kind: text, encoder: 'test_between:Letters', length: 5}"])
    made = build(recipe, (3, 16, 16), ())
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in made.denoiser.network.parameters():
            if not bool(parameter.any()):
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=rng))
    return made


def test_the_ends_are_the_plain_samples_to_the_bit(model: Model) -> None:
    prompts = ["cat", "a dog", "cat"]
    way = between(model, [3, 4, 9], 2, prompt=prompts, negative_prompt="x")
    assert len(way) == 7
    assert torch.equal(way[[0, 3, 6]], model.sample(seeds=[3, 4, 9], prompt=prompts, negative_prompt="x"))
    assert len({picture.numpy().tobytes() for picture in way}) == 7
    assert torch.equal(way, between(model, [3, 4, 9], 2, batch=3, prompt=prompts, negative_prompt="x"))


def test_pictures_change_little_by_little(model: Model) -> None:
    for seeds, prompt in (([3, 4], "cat"), ([3, 3], ["cat", "zebra"]), ([3, 3], ["", "zebra"])):
        way = between(model, seeds, 19, prompt=prompt).double()
        steps = (way[1:] - way[:-1]).flatten(1).norm(dim=1)
        whole = (way[-1] - way[0]).norm()
        assert whole > 0 and steps.max() < 0.5 * whole


def test_one_seed_and_two_prompts_change_the_prompt_alone(model: Model) -> None:
    way = between(model, [3, 3], 2, prompt=["cat", "dog"])
    assert torch.equal(way[[0, 3]], model.sample(seeds=[3, 3], prompt=["cat", "dog"]))
    same = between(model, [3, 3], 2, prompt="cat")
    assert all(torch.equal(picture, same[0]) for picture in same)


def test_noise_on_the_way_is_refused_unless_there_is_none(model: Model) -> None:
    with pytest.raises(InputError, match=r"'ancestral' adds noise on the way.*choose one that does not: ddim, euler"):
        between(model, [1, 2], prompt="a", sampler="ancestral")
    way = between(model, [1, 2], 1, prompt="a", sampler="ancestral", options={"eta": 0.0})
    assert torch.equal(way[[0, 2]], model.sample(seeds=[1, 2], prompt="a", sampler="ancestral", options={"eta": 0.0}))


def test_tokens_have_nothing_in_between(model: Model) -> None:
    from carrara.sampling import Sampling

    class Tokens:
        made_of = "tokens"

    with pytest.raises(InputError, match="what is made of tokens has nothing in between"):
        Sampling().check_between(Tokens())
