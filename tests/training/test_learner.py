"""The learning rate's shape, the average's law, clipping, and what a step does not touch when it fails."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from small import Line, Toy, differing, learner
from torch import Tensor

from carrara.errors import NonFinite
from carrara.training.learner import Learner, learning_rate, seeded
from carrara.training.settings import Training
from carrara.training.world import World


def flat(line: Line, numbers: Tensor) -> Tensor:
    """A loss that pushes nowhere."""
    return (0 * line.w + 0 * line.b.sum()).expand(len(numbers))


def steep(line: Line, numbers: Tensor) -> Tensor:
    """A loss with the gradient (30, 40, 0) and the mean 2.5 for images 0 … 3."""
    return 1 + numbers + 30 * (line.w - line.w.detach()) + 40 * (line.b[0] - line.b[0].detach())


def everything(player: Learner) -> dict[str, Tensor]:
    named = player.parameters["line"]
    found = {key: p.detach().clone() for key, p in named.items()}
    found |= {f"average {key}": p.clone() for key, p in player.average["line"].items()}
    found |= {f"buffer {key}": b.clone() for key, b in player.buffers().items()}
    return found | {key: value.clone() for key, value in player.optimisers["line"].moments().items()}


def test_the_rate_rises_stays_and_falls_as_half_a_cosine() -> None:
    settings = Training(batch=10, lr=2.0, warmup_images=100, cooldown=0.4)
    rates = [learning_rate(settings, images, 1000) for images in range(0, 1000, 10)]
    assert rates[:10] == pytest.approx([0.2 * n for n in range(1, 11)])
    assert set(rates[9:61]) == {2.0}
    assert rates[60:] == pytest.approx([1 + math.cos(math.pi * n / 40) for n in range(40)])
    assert learning_rate(settings, 1000, 1000) == pytest.approx(0, abs=1e-12)
    assert learning_rate(settings, 1500, 1000) == pytest.approx(0, abs=1e-12)


def test_the_rate_without_its_parts() -> None:
    plain = Training(batch=10, lr=2.0, warmup_images=0, cooldown=0)
    assert {learning_rate(plain, images, 1000) for images in range(0, 1010, 10)} == {2.0}
    cooling = Training(batch=10, lr=2.0, warmup_images=0, cooldown=1)
    assert [learning_rate(cooling, n, 1000) for n in (0, 500, 1000)] == pytest.approx([2, 1, 0])
    assert learning_rate(cooling, 900, None) == 2.0, "a run whose length is not known does not cool"


def test_a_player_may_learn_at_a_rate_of_its_own() -> None:
    """AdamW's steps under a constant gradient have the length of the learning rate; here a quarter of it for 8 images."""
    player, places = learner(steep, lr=0.1), [0.0]
    player.trainable.share = 0.25
    for _ in range(4):
        assert player.step(None).lr == 0.1
        places.append(float(player.parameters["line"]["w"].detach()))
    assert [b - a for a, b in pairwise(places)] == pytest.approx([-0.025, -0.025, -0.1, -0.1], rel=1e-3)


def test_the_average_of_a_constant_is_the_constant() -> None:
    player = learner(flat)
    player.trainable.line.w.data.fill_(0.3)
    player.average["line"]["w"].fill_(0.3)
    for _ in range(5):
        player.step(None)
        assert torch.equal(player.average["line"]["w"], torch.tensor([0.3]))


def test_the_average_moves_half_way_in_a_half_life() -> None:
    player = learner(flat, ema_images=40.0, ema_ramp=1.0)
    player.images = 10_000
    player.trainable.line.w.data.fill_(1.0)
    for part in (0.5, 0.75, 0.875):
        for _ in range(10):
            player.step(None)
        assert player.average["line"]["w"].item() == pytest.approx(part, abs=1e-6)


def test_the_average_forgets_its_beginning() -> None:
    """Its half-life is at first a share of the images seen: after the first step it is all but the weights."""
    player = learner(steep, ema_images=1e9, ema_ramp=0.05)
    begin = player.parameters["line"]["w"].detach().clone()
    player.step(None)
    now = player.parameters["line"]["w"].detach()
    assert not torch.equal(now, begin)
    torch.testing.assert_close(player.average["line"]["w"], torch.lerp(begin, now, 1 - 2.0**-20))
    for _ in range(99):
        player.step(None)
    before, now = player.average["line"]["w"].clone(), player.parameters["line"]["w"].detach()
    player.step(None)
    moved = (player.average["line"]["w"] - before) / (player.parameters["line"]["w"].detach() - before)
    assert moved.item() == pytest.approx(1 - 0.5 ** (4 / (0.05 * 404)), rel=1e-3)


def test_only_parameters_are_averaged_and_they_come_back_bit_for_bit() -> None:
    player = learner(steep)
    for _ in range(3):
        player.step(None)
    assert player.average["line"].keys() == {"w", "b"}
    before, line = everything(player), player.trainable.line
    with pytest.raises(RuntimeError, match="within"), player.averaged():
        assert torch.equal(line.w, before["average w"]) and not torch.equal(line.w, before["w"])
        assert torch.equal(line.get_buffer("seen"), torch.tensor([12.0]))
        raise RuntimeError("within")
    assert differing(everything(player), before) == []


@pytest.mark.parametrize(("clip", "seen"), [(1.0, [0.6, 0.8, 0.0]), (100.0, [30.0, 40.0, 0.0])])
def test_gradients_are_scaled_down_to_the_clip_and_never_up(clip: float, seen: list[float]) -> None:
    player = learner(steep, clip=clip)
    found: list[float] = []
    player.optimisers["line"].rules[0].register_step_pre_hook(
        lambda *_: found.extend(v for p in player.parameters["line"].values() for v in p.grad.tolist())
    )
    record = player.step(None)
    assert found == pytest.approx(seen, rel=1e-5)
    assert record.grad_norm == pytest.approx(50), "told as it was before clipping"


def test_a_record_tells_the_step() -> None:
    player = learner(steep, warmup_images=16)
    records = [player.step(None) for _ in range(3)]
    assert [record.images for record in records] == [4, 8, 12]
    assert [record.loss for record in records] == pytest.approx([2.5, 6.5, 10.5])
    assert [record.lr for record in records] == pytest.approx([0.025, 0.05, 0.075])
    assert [r.images for r in player.train(20)] == [16, 20]
    assert list(player.train(20)) == []


def poisoned(where: str, value: float, after: int) -> Any:
    """A loss that is as good as `steep` but for one gradient, or itself, from image `after` on."""

    def loss(line: Line, numbers: Tensor) -> Tensor:
        told = steep(line, numbers)
        if numbers[0] < after:
            return told
        if where == "loss":
            return told + value
        parameter: Tensor = getattr(line, where)
        return told + _Poison.apply(parameter, value).sum()

    return loss


class _Poison(torch.autograd.Function):
    """Zero, with a gradient that is not finite."""

    @staticmethod
    def forward(ctx: Any, parameter: Tensor, value: float) -> Tensor:
        ctx.value = value
        return torch.zeros_like(parameter)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.value, None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("where", "named"), [("loss", "the loss"), ("w", "gradient of w"), ("b", "gradient of b")])
def test_a_step_that_is_not_finite_is_not_taken_and_named(where: str, named: str, value: float) -> None:
    player = learner(poisoned(where, value, after=12))
    for _ in range(3):
        player.step(None)
    before = everything(player)
    with pytest.raises(NonFinite, match=rf"{named} became NaN or infinite in the step after 12 images; .* not taken"):
        player.step(None)
    assert differing(everything(player), before) == [] and player.images == 12
    assert all(p.grad is None for p in player.parameters["line"].values())


def test_where_one_player_cannot_step_none_does() -> None:
    """The first in turn, whose own gradient is good, included; and the second sees the first as it was before the step."""
    toy, seen = Toy(steep), []
    first, second = toy.players["line"], Line()
    toy.players["second"] = second

    def loss(player: str, start: int, count: int) -> Tensor:
        seen.append(float(first.w.detach()))
        factor = math.nan if player == "second" and start >= 8 else 1.0
        return factor * steep(toy.players[player], torch.arange(start, start + count))

    toy.loss = loss
    player = Learner(toy, Training(batch=4, lr=0.1, warmup_images=0, cooldown=0.0, ema_images=40.0), seed=1)
    player.step(None)
    player.step(None)
    before = [p.detach().clone() for line in (first, second) for p in line.parameters()]
    moments = [value.clone() for value in player.optimisers["line"].moments().values()]
    with pytest.raises(NonFinite, match="the loss became NaN or infinite in the step after 8 images"):
        player.step(None)
    after = [p for line in (first, second) for p in line.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True)) and all(p.grad is None for p in after)
    kept = list(player.optimisers["line"].moments().values())
    assert all(torch.equal(a, b) for a, b in zip(moments, kept, strict=True))
    assert seen[0::2] == seen[1::2] and len(set(seen)) == 3


def test_dropout_differs_from_step_to_step_and_from_process_to_process() -> None:
    drawn: list[float] = []

    def loss(line: Line, numbers: Tensor) -> Tensor:
        drawn.append(torch.rand(()).item())
        return flat(line, numbers)

    for rank in (0, 1):
        player = learner(loss)
        player.world = World(rank)
        for _ in range(2):
            player.step(None)
    assert len(set(drawn)) == 4


def test_dropout_s_generator_is_seeded_within_and_undisturbed_after() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    with seeded(7):
        one = torch.rand(3)
    assert torch.equal(torch.rand(3), expected)
    with seeded(7):
        assert torch.equal(torch.rand(3), one)
