"""Beliefs about tokens: guidance, what is told, and exact draws. Those about numbers are tested where they are used."""

import math

import pytest
import torch
from torch import Tensor

from carrara.beliefs import Belief, Point, Tokens, kept
from carrara.errors import InputError, NonFinite
from carrara.rng import Streams

F64 = torch.float64
P = torch.tensor([0.1, 0.2, 0.0, 0.4, 0.3], dtype=F64)


def belief(*p: float) -> Tokens:
    """About one position of one sample."""
    return Tokens(torch.tensor(p, dtype=F64).log()[None, None])


def random(seed: int, shape: tuple[int, ...] = (4, 3, 5)) -> Tokens:
    return Tokens.of(3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed)))


def even(count: int) -> Tensor:
    """The middles of `count` cells of [0, 1): (1, count)."""
    return ((torch.arange(count, dtype=F64) + 0.5) / count)[None]


def shares(p: Tensor, count: int = 1000, **options: float) -> Tensor:
    """How often each token is drawn from p, over `count` evenly spread numbers."""
    ids = Tokens(p.log().expand(1, count, -1)).quantile(even(count), **options)
    return torch.bincount(ids[0], minlength=len(p)).double() / count


def test_both_are_beliefs() -> None:
    assert isinstance(Point(torch.zeros(1)), Belief) and isinstance(random(0), Belief)


def test_it_is_normalised_and_at_least_float32() -> None:
    for dtype in (torch.bfloat16, torch.float32, F64):
        logp = Tokens.of(torch.randn(2, 3, 7).to(dtype)).logp
        torch.testing.assert_close(logp.exp().sum(-1), torch.ones(2, 3, dtype=logp.dtype))
        assert logp.dtype == (F64 if dtype == F64 else torch.float32)


# ------------------------------------------------------------------------------------------------------- draws


def test_draws_have_the_believed_law() -> None:
    torch.testing.assert_close(shares(P), P, rtol=0, atol=1e-12)
    torch.testing.assert_close(shares(P, temperature=2.0), P.sqrt() / P.sqrt().sum(), rtol=0, atol=2e-3)
    torch.testing.assert_close(shares(P, temperature=0.5), P**2 / (P**2).sum(), rtol=0, atol=2e-3)
    assert torch.equal(shares(P, temperature=0), torch.eye(5, dtype=F64)[3])
    torch.testing.assert_close(shares(P, temperature=1e-3), torch.eye(5, dtype=F64)[3])


def test_the_likeliest_are_kept() -> None:
    torch.testing.assert_close(shares(P, top_k=2), torch.tensor([0, 0, 0, 4, 3], dtype=F64) / 7, rtol=0, atol=2e-3)
    torch.testing.assert_close(shares(P, top_k=9), P)
    torch.testing.assert_close(shares(P, top_p=0.69), torch.tensor([0, 0, 0, 4, 3], dtype=F64) / 7, rtol=0, atol=2e-3)
    torch.testing.assert_close(shares(P, top_p=0.71), torch.tensor([0, 2, 0, 4, 3], dtype=F64) / 9, rtol=0, atol=2e-3)
    assert torch.equal(shares(P, top_p=1e-9), torch.eye(5, dtype=F64)[3])
    torch.testing.assert_close(shares(P, top_p=1.0), P)
    # Of three tokens with 0.4, 0.3 and 0.2 of 0.9, the first two hold 0.78.
    found = kept(P[None], 3, 0.77)[0]
    assert torch.equal(found, torch.tensor([0, 0, 0, 0.4, 0.3], dtype=F64))
    tied = torch.tensor([[0.25, 0.25, 0.25, 0.25]], dtype=F64)
    assert torch.equal(kept(tied, 2, None), tied) and int((kept(tied, None, 0.5) > 0).sum()) == 2


def test_what_is_impossible_is_never_drawn() -> None:
    """At both ends of the uniform numbers, among tokens of no probability at both ends of the vocabulary."""
    p = torch.tensor([0.0, 0.3, 0.0, 0.7, 0.0], dtype=F64)
    u = torch.tensor([[0.0, 0.3, 1 - 2**-53, 5e-324]], dtype=F64)
    assert Tokens(p.log().expand(1, 4, -1)).quantile(u).tolist() == [[1, 3, 3, 1]]
    generator = torch.Generator().manual_seed(0)
    many = torch.rand(2000, 1, 6, generator=generator, dtype=F64)
    many[..., 4:] = 0
    drawn = Tokens((many / many.sum(-1, keepdim=True)).log()).quantile(torch.full((2000, 1), 1 - 2**-53, dtype=F64))
    assert int(drawn.max()) < 4


def test_the_tail_is_not_lost() -> None:
    """A token of probability 1e-9 is drawn by the numbers that are its own, of which float32 knows none."""
    p = torch.tensor([1 - 1e-9, 1e-9], dtype=F64)
    ids = Tokens(p.log().expand(1, 2, -1)).quantile(torch.tensor([[1 - 2e-9, 1 - 0.5e-9]], dtype=F64))
    assert ids.tolist() == [[0, 1]]


def test_a_draw_is_its_stream_s_and_a_place_that_is_not_asked_for_costs_none() -> None:
    found, whole = random(1), random(1).draw(Streams([5, 6, 7, 8]))
    assert torch.equal(Tokens(found.logp[2:3]).draw(Streams([7]))[0], whole[2])
    where = torch.rand(4, 3, generator=torch.Generator().manual_seed(3)) < 0.5
    rng = Streams([5, 6, 7, 8])
    assert torch.equal(found.draw(rng, where=where), torch.where(where, whole, 0))
    rest = Streams([5, 6, 7, 8])
    rest.uniform((3,))
    assert torch.equal(rng.uniform(), rest.uniform())
    assert torch.equal(found.draw(None, temperature=0), found.preview)
    assert torch.equal(found.draw(None, 0, where=torch.zeros_like(where)), torch.zeros(4, 3, dtype=torch.int64))
    with pytest.raises(InputError, match="needs the samples' random streams: pass rng, or temperature 0"):
        found.draw(None)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"temperature": -1}, "temperature is -1"),
        ({"temperature": math.inf}, "temperature is inf"),
        ({"top_k": 0}, "top_k is 0"),
        ({"top_k": True}, "top_k is True"),
        ({"top_p": 0}, "top_p is 0"),
        ({"top_p": 1.5}, "top_p is 1.5"),
    ],
)
def test_what_makes_no_law_is_refused(options: dict[str, float], said: str) -> None:
    for draw in (
        lambda: random(0).draw(Streams(range(4)), **options),
        lambda: random(0).quantile(even(1), **options),
    ):
        with pytest.raises(InputError, match=said):
            draw()


# ------------------------------------------------------------------------------------------------------- guidance


@pytest.mark.parametrize("scale", [-1.0, 0.3, 2.0, 7.5])
def test_guidance_is_a_power_of_probabilities(scale: float) -> None:
    strong, weak = random(1), random(2)
    p = strong.logp.double().exp() ** scale * weak.logp.double().exp() ** (1 - scale)
    found = strong.extrapolate(weak, scale).logp.double().exp()
    torch.testing.assert_close(found, p / p.sum(-1, keepdim=True), rtol=1e-4, atol=1e-6)


def test_scale_0_is_the_start_and_1_is_itself() -> None:
    strong, weak = random(1), random(2)
    torch.testing.assert_close(strong.extrapolate(weak, 1.0).logp, strong.logp)
    torch.testing.assert_close(strong.extrapolate(weak, 0.0).logp, weak.logp)


def test_a_scale_for_each_sample() -> None:
    scales = torch.tensor([0.0, 1.0, 2.0, -0.5], dtype=F64)
    for strong, weak in ((random(1), random(2)), (Point(torch.randn(4, 2)), Point(torch.randn(4, 2)))):
        whole = strong.extrapolate(weak, scales).preview  # type: ignore[arg-type]
        for i, scale in enumerate(scales.tolist()):
            one = strong.extrapolate(weak, scale).preview[i]  # type: ignore[arg-type]
            torch.testing.assert_close(whole[i], one)


def test_what_is_impossible_stays_so_and_nothing_is_nan() -> None:
    strong, weak = belief(0.5, 0.5, 0.0, 0.0), belief(0.0, 0.6, 0.4, 0.0)
    for scale, possible in ((3.0, [True, True, False, False]), (0.5, [False, True, False, False])):
        found = strong.extrapolate(weak, scale).logp[0, 0]
        assert (found > -math.inf).tolist() == possible and not found.isnan().any()
        assert float(found.exp().sum()) == pytest.approx(1)
    assert torch.equal(strong.extrapolate(weak, 0.0).logp.exp(), weak.logp.exp())


def test_what_shows_is_believed_under_every_guidance() -> None:
    ids = torch.tensor([[1, 2, 4]] * 4)
    sure = [random(seed).told(ids, torch.tensor(False)) for seed in (1, 2)]
    for scale in (0.0, 0.5, 1.0, 4.0):
        found = sure[0].extrapolate(sure[1], scale)
        assert torch.equal(found.logp, sure[0].logp)


def test_told_is_sure_where_it_is_not_made() -> None:
    made = torch.tensor([[True, False, True]])
    known = torch.tensor([[9, 2, -1]] * 4)  # What is made is not looked at.
    found = random(1).told(known, made)
    assert torch.equal(found.logp[:, [0, 2]], random(1).logp[:, [0, 2]])
    assert torch.equal(found.logp[:, 1].exp(), torch.eye(5)[2].expand(4, -1))


def test_halves_and_rows() -> None:
    whole, (first, second) = random(1), random(1).halves()
    assert torch.equal(torch.cat([first.logp, second.logp]), whole.logp)
    rows = torch.tensor([False, True, False, True])
    mixed = whole.put(rows, Tokens(random(2).logp[rows]))
    assert torch.equal(mixed.logp[~rows], whole.logp[~rows]) and torch.equal(mixed.logp[rows], random(2).logp[rows])
    assert torch.equal(whole.logp, random(1).logp)


@pytest.mark.parametrize("options", [{}, {"temperature": 0.0}, {"top_k": 1}, {"top_p": 0.5}])
def test_a_belief_that_is_no_number_is_not_drawn_from(options: dict[str, float]) -> None:
    belief = Tokens.of(torch.tensor([[[0.0, 1.0], [float("nan"), 1.0]], [[0.0, 1.0], [0.0, 1.0]]]))
    u = torch.full((2, 2), 0.5, dtype=F64)
    with pytest.raises(NonFinite, match="the belief about tokens holds NaN"):
        belief.quantile(u, **options)  # type: ignore[arg-type]
    asked = torch.tensor([[True, False], [True, True]])
    assert belief.quantile(u, where=asked, **options).tolist() == [[1, 0], [1, 1]]  # type: ignore[arg-type]
