"""What networks over sequences share, whatever stands at each place of one: level, label and source, and the blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from carrara.errors import InputError
from carrara.native.common import computed_in
from carrara.networks import ops
from carrara.networks.blocks import Fourier
from carrara.networks.options import require
from carrara.networks.transformer import Transformer

BASE = 10_000.0
"""Radians: the slowest pair of a head is turned by about 1 / BASE a token."""
SMALL = 0.02
"""The standard deviation that vectors of tokens begin with: gates begin as 0, and what comes through is soon heard."""


class Sequences(nn.Module):
    """A transformer over sequences of at most `length` places, but for how a place is read and what is said of it.

    `classes` (0: no labels; label `classes` is the null), `source_vocab` and `source_length` (0: no source; id `source_vocab` is
    its null and fills what is shorter) come from the data. The source stands before the sequence.

    Parameters are drawn in the order in which they are made: those that are made here, what a place is read by, the blocks
    (`blocks`), what is said by, and `begin`.

    Source: the blocks are DiT's (Peebles & Xie, 2023), with RMS norm (Zhang & Sennrich, 2019) and rotary places (RoFormer, Su et
    al., 2021).
    """

    turn: Tensor
    body: Transformer
    beside: nn.Embedding | None
    """What each neighbour is weighed by, see `mixed`; None where none is read."""
    place: nn.Embedding | None
    """A vector for each place of the sequence; None where places differ by their distances alone."""

    def __init__(
        self,
        length: int,
        classes: int,
        source_vocab: int,
        source_length: int,
        width: int,
        head_width: int,
        told_level: bool,
    ) -> None:
        super().__init__()
        _check_data(length, source_vocab, source_length)
        _check_width(width, head_width)
        self.length, self.classes, self.width, self.heads = length, classes, width, width // head_width
        self.source_vocab, self.source_length = source_vocab, source_length
        self.emb = emb = max(64, width // 4) if classes or told_level else 0
        self.level = (
            nn.Sequential(Fourier(2 * emb), nn.Linear(2 * emb, emb), nn.SiLU(), nn.Linear(emb, emb))
            if told_level
            else None
        )
        self.label = nn.Embedding(classes + 1, emb) if classes else None
        self.source = nn.Embedding(source_vocab + 1, width) if source_vocab else None
        self.register_buffer("turn", places(source_length + length + 1, head_width), persistent=False)

    def blocks(
        self, depth: int, mlp_ratio: float, dropout: float, first: Callable[[], nn.Module] | None = None
    ) -> Transformer:
        """The transformer of these options. Raises InputError where they make none."""
        require(
            ("depth", depth, depth >= 1, "at least 1 block"),
            ("mlp_ratio", mlp_ratio, mlp_ratio * self.width >= 1, "positive, and wide enough for one number"),
            ("dropout", dropout, 0 <= dropout < 1, "at least 0 and below 1"),
        )
        return Transformer(self.width, depth, self.heads, self.emb, mlp_ratio, dropout, ops.rms_norm, first)

    def begin(self, *tables: nn.Embedding | None) -> None:
        """Draws the vectors of tokens anew, small, of those tables that there are."""
        for table in tables:
            if table is not None:
                nn.init.normal_(table.weight, std=SMALL)

    def check_length(self, x: Tensor) -> None:
        """Raises InputError for a sequence x (B, L, …) that is longer than the network was made for."""
        if x.shape[1] > self.length:
            raise InputError(f"there are {x.shape[1]} tokens, and the network was made for {self.length} at most")

    def after(self, source: Tensor | None, x: Tensor) -> Tensor:
        """The vectors of the source, where there is one, and then x (B, m, width), as blocks compute them: (B, S + m, width)."""
        if source is not None and self.source is not None:
            x = torch.cat([looked_up(self.source, source, "token of the source"), x], 1)
        return x.to(computed_in(x))

    def among_neighbours(self, x: Tensor) -> Tensor:
        """The vectors x (B, L, width) with their neighbours mixed in, where the network reads any."""
        return x if self.beside is None else x + mixed(x, self.beside.weight)

    def at_places(self, x: Tensor, first: int = 0) -> Tensor:
        """The vectors x (B, m, width) of the places from `first` on, each with its place's own, where places have one."""
        return x if self.place is None else x + self.place.weight[first : first + x.shape[1]]

    def sources(self, cond: Mapping[str, Tensor] | None, count: int) -> Tensor | None:
        """The source (B, source_length), filled up with its null; None where the network knows none."""
        if self.source is None:
            return None
        given = None if cond is None else cond.get("source")
        if given is None:
            return torch.full((count, self.source_length), self.source_vocab, device=self.turn.device)
        if given.shape[1] > self.source_length:
            raise InputError(
                f"the source has {given.shape[1]} tokens, and the network was made for {self.source_length} at most"
            )
        return F.pad(given, (0, self.source_length - given.shape[1]), value=self.source_vocab)

    def told(self, level: Tensor, cond: Mapping[str, Tensor] | None) -> Tensor | None:
        """The embedding (B, width / 4, at least 64) of level and label; None where the network is told neither."""
        emb = None if self.level is None else self.level(level)
        if self.label is None:
            return emb
        given = None if cond is None else cond.get("label")
        if given is None:
            given = torch.full((len(level),), self.classes, device=level.device)
        label = looked_up(self.label, given, "label")
        return label if emb is None else emb + label


def looked_up(table: nn.Embedding, ids: Tensor, what: str) -> Tensor:
    """The rows (…, width) of these ids; the last row stands for none. Raises InputError, on a CPU, for an id that has no row."""
    try:
        rows: Tensor = table(ids)
        return rows
    except IndexError as error:
        wrong, most = ids[(ids < 0) | (ids >= table.num_embeddings)], table.num_embeddings - 1
        raise InputError(
            f"the id of a {what} is {int(wrong[0])}; ids go from 0 to {most}, which stands for none"
        ) from error


def places(count: int, head_width: int) -> Tensor:
    """What q and k of each of `count` places are turned by, (count, 2, head_width) float32, see `carrara.networks.ops.turned`.

    Pair j is turned by place · BASE^(-2j / head_width) radians, so that a score depends on the difference of two places alone.

    Source: RoFormer: Enhanced Transformer with Rotary Position Embedding, Su et al., 2021, section 3.2.
    """
    speeds = BASE ** (-torch.arange(0, head_width, 2, dtype=torch.float64) / head_width)
    angle = torch.arange(count, dtype=torch.float64)[:, None] * speeds
    cosines, sines = angle.cos(), angle.sin()
    pairs = [torch.stack([cosines, cosines], 2), torch.stack([-sines, sines], 2)]
    return torch.stack(pairs, 1).flatten(2).float()


def mixed(x: Tensor, weights: Tensor) -> Tensor:
    """For each place of x (B, L, width) the sum of k places before it and k after, each times its row of `weights` (2k, width).

    Beyond the ends is 0.
    """
    k, length = len(weights) // 2, x.shape[1]
    wide = F.pad(x, (0, 0, k, k))
    parts = [wide[:, i + (i >= k) :][:, :length] * weights[i] for i in range(2 * k)]
    return torch.stack(parts).sum(0)


def _check_data(length: int, source_vocab: int, source_length: int) -> None:
    """Raises InputError for data of which no network can be made."""
    require(
        ("length", length, length >= 1, "at least 1 token"),
        ("source_vocab", source_vocab, source_vocab >= 0, "at least 0, which is no source"),
        ("source_length", source_length, source_length >= 0, "at least 0, which is no source"),
        (
            "source_length",
            source_length,
            bool(source_vocab) == bool(source_length),
            "0 where there is no source, and only there",
        ),
    )


def _check_width(width: int, head_width: int) -> None:
    """Raises InputError for a width that makes no heads."""
    require(
        (
            "head_width",
            head_width,
            head_width >= 2 and head_width % 2 == 0,
            "even, at least 2: places turn pairs of numbers",
        ),
        (
            "width",
            width,
            width >= 1 and width % max(1, head_width) == 0,
            f"a multiple of network.head_width, {head_width}",
        ),
    )
