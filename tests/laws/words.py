"""What the laws of tokens share: tables whose answers are known, small networks, and a fast stand-in for random streams."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise, product
from typing import Any

import torch
from torch import Tensor, nn
from toys import F64

from carrara.analytic import TableDenoiser, TokenTable
from carrara.beliefs import Tokens
from carrara.masking import Masked
from carrara.samplers import Step
from carrara.schedules import SURVIVALS, Flow, Polynomial, Schedule

SURVIVAL_CASES: dict[str, Schedule] = {name: make() for name, make in SURVIVALS.items()} | {
    "polynomial, 0.7": Polynomial(0.7)
}


def table(length: int = 3, vocab: int = 3, sharpness: int = 3) -> TokenTable:
    """Tokens that depend on each other much."""
    p = torch.rand((vocab,) * length, dtype=F64, generator=torch.Generator().manual_seed(length)) ** sharpness
    return TokenTable(p / p.sum())


def exact(length: int = 3, schedule: Schedule | None = None, vocab: int = 3) -> TableDenoiser:
    return TableDenoiser(table(length, vocab), Masked(schedule or Flow(), vocab))


class Many:
    """In place of random streams where only laws matter: one fast generator for the whole batch."""

    def __init__(self, rows: int, seed: int = 0) -> None:
        self.seeds, self.generator = range(rows), torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return len(self.seeds)

    def uniform(self, shape: Sequence[int] = (), device: object = "cpu") -> Tensor:
        return torch.rand((len(self), *shape), generator=self.generator, dtype=F64)


class Reader(nn.Module):
    """A causal network that remembers: a recurrent one, with a label."""

    causal = True

    def __init__(self, vocab: int = 5, width: int = 12, classes: int = 3) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            self.embed, self.label = nn.Embedding(vocab + 1, width), nn.Embedding(classes + 1, width)
            self.cell, self.head = nn.GRU(width, width, batch_first=True), nn.Linear(width, vocab)
        self.begin, self.null = vocab, classes
        self.reads: list[int] = []

    def forward(self, x: Tensor, level: Tensor, cond: dict[str, Tensor] | None = None) -> Tensor:
        begun = torch.cat([torch.full_like(x[:, :1], self.begin), x[:, :-1]], 1)
        return self.following(begun, cond, None)[0]

    def following(self, ids: Tensor, cond: dict[str, Tensor] | None, memory: Tensor | None) -> tuple[Tensor, Tensor]:
        self.reads.append(ids.numel())
        label = torch.full((len(ids),), self.null) if cond is None else cond["label"]
        out, memory = self.cell(3 * (self.embed(ids) + self.label(label)[:, None]), memory)
        return 4 * self.head(out), memory


class Forgetful:
    """A denoiser without its memory."""

    def __init__(self, denoiser: Any) -> None:
        self.denoiser, self.process, self.asked = denoiser, denoiser.process, 0

    def __call__(self, x_t: Tensor, t: Tensor, cond: Any = None) -> Any:
        self.asked += 1
        return self.denoiser(x_t, t, cond)


class Looker(nn.Module):
    """A network that sees both sides and, if asked to, the level; no sample meets another in it."""

    def __init__(self, vocab: int = 5, width: int = 8, timed: bool = False, classes: int = 3) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(2)
            self.embed, self.label = nn.Embedding(vocab + 1, width), nn.Embedding(classes + 1, width)
            self.head = nn.Linear(width, vocab)
        self.timed, self.null = timed, classes
        self.seen: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor, level: Tensor, cond: dict[str, Tensor] | None = None) -> Tensor:
        self.seen.append((x, level))
        label = torch.full((len(x),), self.null) if cond is None else cond["label"]
        rows = self.embed(x) + self.label(label)[:, None]
        mixed = rows + rows.cumsum(1) + rows.flip(1).cumsum(1).flip(1) + self.timed * level[:, None, None]
        # Not `self.head(mixed)`: a product of matrices is rounded by the batch's size.
        return 2 * (mixed.tanh()[:, :, None] * self.head.weight).sum(-1)


def last(steps: Iterable[Step]) -> Step:
    *_, end = steps
    return end


def law_of(ids: Tensor, shape: Sequence[int]) -> Tensor:
    """How often each sequence occurs among ids (B, L), as a table."""
    ones = torch.ones(len(ids), dtype=F64)
    return torch.zeros(tuple(shape), dtype=F64).index_put_(tuple(ids.T), ones, accumulate=True) / len(ids)


def total_variation(p: Tensor, q: Tensor) -> float:
    return float((p - q).abs().sum()) / 2


def walked_law(denoiser: TableDenoiser, times: Tensor) -> Tensor:
    """The exact law of what `ancestral` ends with: all states and all sets of tokens that may show in a step are summed over."""
    table, process = denoiser.table, denoiser.process
    states = torch.cartesian_prod(*[torch.arange(table.vocab + 1)] * table.length).reshape(-1, table.length)
    law = (states == process.mask).all(1).double().reshape((table.vocab + 1,) * table.length)
    for t, s in pairwise(times):
        shows = process.reveal(t, s)
        p = denoiser(states, t).logp.exp()  # (S, L, K)
        after = torch.zeros_like(law)
        for state, believed, weight in zip(states.tolist(), p, law.flatten(), strict=True):
            if weight > 0:
                after += weight * _one_step(state, believed, shows, table.vocab)
        law = after
    return law[(slice(0, table.vocab),) * table.length]


def _one_step(state: list[int], believed: Tensor, shows: Tensor, vocab: int) -> Tensor:
    """The law after one step from a state: positions are independent of each other, which is the sampler's error."""
    joint = torch.ones((), dtype=F64)
    for token, p in zip(state, believed, strict=True):
        each = torch.zeros(vocab + 1, dtype=F64)
        if token == vocab:
            each[:vocab], each[vocab] = shows * p, 1 - shows
        else:
            each[token] = 1
        joint = joint[..., None] * each
    return joint


def patterns(length: int) -> list[Tensor]:
    """Every set of hidden positions, bool (L,)."""
    return [torch.tensor(pattern) for pattern in product([False, True], repeat=length)]


def uniform_tokens(*shape: int) -> Tokens:
    """The belief of somebody who knows nothing: (B, L, K)."""
    return Tokens.of(torch.zeros(shape))
