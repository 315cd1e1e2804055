"""Random numbers: one stream per sample.

A sample's noise must not depend on the pictures that happen to share its batch, nor on how many processes share the
work. So nothing here draws for a batch: every sample owns a generator, started from its own seed, and a batch's noise is
its samples' noises stacked. All numbers are drawn on the CPU, so that a GPU sees the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from carrara.errors import InputError

_WORD = 1 << 32


def scramble(x: int) -> int:
    """A 32-bit word from a 32-bit word, one to one, close inputs going to far outputs.

    Generators started from 0, 1, 2, … would begin alike; their scrambled seeds do not, and stay distinct.

    Source: Austin Appleby, MurmurHash3 (public domain), the 32-bit finaliser.
    """
    x = ((x ^ (x >> 16)) * 0x85EBCA6B) % _WORD
    x = ((x ^ (x >> 13)) * 0xC2B2AE35) % _WORD
    return x ^ (x >> 16)


def derive(seed: int, *names: int) -> int:
    """A 32-bit seed for the item `names` of the run `seed`: distinct for distinct last names below 2**32."""
    word = scramble(seed % _WORD) ^ scramble(seed // _WORD + 0x9E37)
    for name in names:
        word = scramble((word + name) % _WORD)
    return word


class Streams:
    """One independent random stream for each of B samples.

    >>> alone, together = Streams([7]), Streams([3, 7])
    >>> bool((alone.normal((2, 2))[0] == together.normal((2, 2))[1]).all())
    True
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        if not seeds:
            raise InputError("no seeds were given; a batch has at least one sample, each with its seed")
        for seed in seeds:
            if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
                raise InputError(f"seed {seed!r} is not a whole number from 0 to 2**63 - 1")
        self.seeds = tuple(seeds)
        self._generators = [torch.Generator().manual_seed(derive(seed)) for seed in seeds]

    @classmethod
    def of_run(cls, seed: int, start: int, count: int) -> Streams:
        """The streams of a training run's images number start … start + count − 1: known without any state."""
        return cls([derive(seed, image) for image in range(start, start + count)])

    def __len__(self) -> int:
        return len(self.seeds)

    def normal(
        self, shape: Sequence[int], dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> Tensor:
        """Standard normal numbers (B, *shape): row i from stream i alone.

        float64 is drawn as float64; every other dtype is drawn as float32 and rounded, so that bf16 and float32 runs
        see the same noise.
        """
        drawn = torch.float64 if dtype == torch.float64 else torch.float32
        rows = torch.empty((len(self), *shape), dtype=drawn)
        for row, generator in zip(rows, self._generators, strict=True):
            row.normal_(generator=generator)
        return rows.to(device=device, dtype=dtype)

    def uniform(self, shape: Sequence[int] = (), device: torch.device | str = "cpu") -> Tensor:
        """Uniform numbers in [0, 1), float64 (B, *shape): row i from stream i alone."""
        rows = [torch.rand(tuple(shape), generator=g, dtype=torch.float64) for g in self._generators]
        return torch.stack(rows).to(device)
