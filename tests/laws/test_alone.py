"""A sample depends on its seed alone: not on its batch, its place in it, nor on the samplers that run beside it."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from toys import F64, OF_NUMBERS, SMOOTH, Elementwise, judge, last

from carrara.rng import Streams
from carrara.samplers import Step
from carrara.times import grid

SEEDS = list(range(1000, 1064))
each_sampler = pytest.mark.parametrize("name", OF_NUMBERS)


def run(name: str, seeds: list[int], dtype: torch.dtype) -> Tensor:
    denoiser, rng = Elementwise(SMOOTH["cosine"]), Streams(seeds)
    x = denoiser.process.prior((3, 7), rng).to(dtype)
    return last(OF_NUMBERS[name].walk(denoiser, x, grid("karras", 6, denoiser.process.schedule), rng=rng))


@each_sampler
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_samples_are_bit_equal_in_any_batch(name: str, dtype: torch.dtype) -> None:
    together = run(name, SEEDS, dtype)
    assert len({tuple(x.flatten().tolist()) for x in together}) == len(SEEDS)
    for start in range(0, len(SEEDS), 8):
        assert torch.equal(run(name, SEEDS[start : start + 8], dtype), together[start : start + 8])
    for i in range(0, len(SEEDS), 9):
        assert torch.equal(run(name, [SEEDS[i]], dtype)[0], together[i])
    assert torch.equal(run(name, SEEDS[::-1], dtype).flip(0), together)


def start_walk(name: str, kind: str, seeds: range) -> Iterator[Step]:
    denoiser, rng = judge(SMOOTH[kind]), Streams(seeds)
    x = denoiser.process.prior((2,), rng)
    return OF_NUMBERS[name].walk(denoiser, x, grid("karras", 9, SMOOTH[kind]), rng=rng)


@each_sampler
@pytest.mark.parametrize("other", OF_NUMBERS)
def test_interleaved_walks_do_not_meet(name: str, other: str) -> None:
    def pair() -> tuple[Iterator[Step], Iterator[Step]]:
        return start_walk(name, "cosine", range(4)), start_walk(other, "edm", range(2, 7))

    one, two = pair()
    apart = [step.x for step in one], [step.x for step in two]
    turns = list(zip(*pair(), strict=True))
    assert len(turns) == 9
    for (a, b), x, y in zip(turns, *apart, strict=True):
        assert torch.equal(a.x, x)
        assert torch.equal(b.x, y)


@each_sampler
def test_a_walk_leaves_its_start_and_its_steps_alone(name: str) -> None:
    """No x is overwritten later, so previews and films may keep them; the starting noise may be used again."""
    denoiser = judge(SMOOTH["flow"])
    x = denoiser.process.prior((2,), Streams(range(3)))
    before, copies, steps = x.clone(), [], []
    for step in OF_NUMBERS[name].walk(denoiser, x, grid("karras", 7, SMOOTH["flow"]), rng=Streams(range(3))):
        steps.append(step)
        copies.append((step.x.clone(), step.belief.preview.clone()))
    assert torch.equal(x, before)
    assert all(
        torch.equal(step.x, a) and torch.equal(step.belief.preview, b)
        for step, (a, b) in zip(steps, copies, strict=True)
    )
