"""One stream per sample."""

import pytest
import torch

from carrara.errors import InputError
from carrara.rng import Streams, derive, scramble

WORD = 1 << 32


def unscramble(x: int) -> int:
    """The inverse of `scramble`, from the inverses of its multipliers modulo 2**32."""
    x ^= x >> 16
    x = (x * pow(0xC2B2AE35, -1, WORD)) % WORD
    x ^= (x >> 13) ^ (x >> 26)
    x = (x * pow(0x85EBCA6B, -1, WORD)) % WORD
    return x ^ (x >> 16)


def test_scramble_is_one_to_one() -> None:
    words = [*range(20000), *range(WORD - 2000, WORD), *range(0, WORD, 214013)]
    assert all(unscramble(scramble(word)) == word for word in words)
    assert all(0 <= scramble(word) < WORD for word in words)


def test_scramble_is_murmur3s_finaliser() -> None:
    """Values of the published function."""
    assert [scramble(x) for x in (0, 1, 0xFFFFFFFF)] == [0, 0x514E28B7, 0x81F16F39]


def test_scramble_sends_close_far() -> None:
    """Flipping one input bit flips about half of the output's."""
    flips = [(scramble(x) ^ scramble(x ^ (1 << bit))).bit_count() for x in range(500) for bit in range(32)]
    assert 15.5 < sum(flips) / len(flips) < 16.5
    assert min(flips) >= 3


def test_derive_is_distinct_for_each_image_and_seed() -> None:
    assert len({derive(5, image) for image in range(100_000)}) == 100_000
    assert len({derive(seed) for seed in range(100_000)}) == 100_000
    assert len({derive(seed, 3) for seed in range(100_000)}) == 100_000
    assert derive(1) != derive(1 + WORD)
    assert derive(1, 2, 3) != derive(1, 3, 2)


@pytest.mark.parametrize("shape", [(), (3,), (15,), (16,), (17,), (3, 8, 8)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_are_bit_equal_in_any_batch_and_order(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """In the first draw and in the later ones, normal and uniform in turn."""

    def draws(seeds: list[int]) -> list[torch.Tensor]:
        rng = Streams(seeds)
        return [rng.normal(shape, dtype), rng.normal((2, 5), dtype), rng.uniform(shape), rng.normal(shape, dtype)]

    seeds = [3 * i + 1 for i in range(64)]
    whole = draws(seeds)
    for part in ([0], [63], list(range(8)), list(range(40, 48)), list(range(63, -1, -1)), [17, 2, 33]):
        for ours, all_rows in zip(draws([seeds[i] for i in part]), whole, strict=True):
            assert torch.equal(ours, all_rows[part])
    assert not torch.equal(whole[0], whole[3])


def test_distinct_seeds_have_distinct_noise() -> None:
    seeds = [0, 1, 2, WORD - 1, WORD, WORD + 1, 2**62, 2**63 - 1]
    assert len({tuple(row.tolist()) for row in Streams(seeds).normal((4,))}) == len(seeds)


def test_lower_precision_is_the_float32_noise_rounded() -> None:
    single = Streams([1, 2]).normal((5, 5))
    for dtype in (torch.bfloat16, torch.float16):
        assert torch.equal(Streams([1, 2]).normal((5, 5), dtype), single.to(dtype))


def test_a_run_s_streams_are_known_without_state() -> None:
    whole = Streams.of_run(9, 0, 12)
    assert whole.seeds[5:8] == Streams.of_run(9, 5, 3).seeds
    assert torch.equal(whole.normal((3,))[5:8], Streams.of_run(9, 5, 3).normal((3,)))
    assert set(whole.seeds).isdisjoint(Streams.of_run(10, 0, 12).seeds)
    assert len(whole) == 12


def test_normal_and_uniform_numbers_are_what_they_are_called() -> None:
    """z-scores of moments over 2000 neighbouring seeds × 50 numbers, none beyond 4.5 of about 400."""
    rng = Streams(range(2000))
    x, u = rng.normal((50,), torch.float64), rng.uniform((50,))
    n = x.numel()
    assert bool((u >= 0).all() and (u < 1).all())
    overall = [x.mean(), (x**2 - 1).mean() / 2**0.5, (x**3).mean() / 15**0.5, (x**4 - 3).mean() / 96**0.5]
    overall += [(u - 0.5).mean() * 12**0.5, (u**2 - 1 / 3).mean() / (4 / 45) ** 0.5]
    assert max(abs(float(value)) for value in overall) * n**0.5 < 4.5
    per_place = torch.cat([x.mean(0), (u.mean(0) - 0.5) * 12**0.5]) * 2000**0.5
    assert per_place.abs().max() < 4.5


def test_neighbouring_seeds_are_uncorrelated() -> None:
    x = Streams(range(2001)).normal((50,), torch.float64)
    for lag in (1, 2, 16, 1000):
        pairs = x[:-lag] * x[lag:]
        assert abs(float(pairs.mean())) * pairs.numel() ** 0.5 < 4.5
        assert (pairs.mean(0) * len(pairs) ** 0.5).abs().max() < 4.5


@pytest.mark.parametrize("seed", [-1, 2**63, 1.0, True, "7", None])
def test_seeds_that_are_none_are_refused(seed: object) -> None:
    with pytest.raises(InputError, match=r"not a whole number from 0 to 2\*\*63 - 1"):
        Streams([0, seed])
