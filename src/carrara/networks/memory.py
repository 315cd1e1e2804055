"""What a transformer remembers of the tokens that it has read, which change no more: in each block keys, values and vectors."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from torch import Tensor

from carrara.errors import InputError


class _Claim:
    """How many tokens stand in rooms that several memories may share: only one of them may go on in place."""

    def __init__(self, count: int) -> None:
        self.count, self.lock = count, threading.Lock()

    def moved(self, before: int, after: int) -> bool:
        """Whether exactly `before` tokens stood there: then it is `after` now."""
        with self.lock:
            if self.count != before:
                return False
            self.count = after
            return True


@dataclass(frozen=True)
class Memory:
    """Keys and values of the first `count` tokens: a value, which reading on leaves as it was.

    The newest memory is extended in place; where one that is not the newest is gone on from, its rooms are copied.
    """

    rooms: Tensor
    """(depth, 2, B, heads, the most tokens, D)"""
    count: int
    claim: _Claim = field(repr=False, compare=False)
    vectors: Tensor | None = None
    """(depth, B, the most tokens and one, width): what each block was given, where something reads that besides; the last is 0."""

    @classmethod
    def empty(cls, depth: int, batch: int, heads: int, most: int, like: Tensor, vectors: bool = False) -> Memory:
        """A memory of nothing, with room for `most` tokens such as those of `like` (B, N, width), and their `vectors` if so."""
        shape = depth, 2, batch, heads, most, like.shape[2] // heads
        rooms = like.new_empty(shape)
        return cls(rooms, 0, _Claim(0), like.new_zeros(depth, batch, most + 1, like.shape[2]) if vectors else None)

    def going_on(self, batch: int, tokens: int) -> Memory:
        """A memory of so many tokens more, which are still to be put there. Raises InputError where they have no place."""
        after, most = self.count + tokens, self.rooms.shape[4]
        if after > most:
            raise InputError(
                f"the network was made to read {most} tokens, source and beginning included, and not {after}"
            )
        if batch != self.rooms.shape[2]:
            raise InputError(
                f"the memory is of a batch of {self.rooms.shape[2]}, and the tokens that follow are of one of {batch}"
            )
        if self.claim.moved(self.count, after):
            return Memory(self.rooms, after, self.claim, self.vectors)
        return Memory(
            self.rooms.clone(), after, _Claim(after), None if self.vectors is None else self.vectors.clone()
        )

    def of(self, block: int, tokens: int) -> Kept:
        """The part of one block, whose last `tokens` are still to be put there."""
        vectors = None if self.vectors is None else self.vectors[block]
        return Kept(self.rooms[block], self.count - tokens, self.count, vectors)


@dataclass(frozen=True)
class Kept:
    """A block's part of a memory: keys and values (2, B, heads, most, D), filled up to `first`, to be filled up to `last`."""

    rooms: Tensor
    first: int
    last: int
    vectors: Tensor | None = None
    """(B, most + 1, width), filled as far; the last is 0."""

    def along(self, x: Tensor) -> Tensor:
        """All vectors (B, most + 1, width), when x (B, last - first, width) are put there."""
        assert self.vectors is not None, "this memory was made without vectors"
        self.vectors[:, self.first : self.last] = x
        return self.vectors

    def added(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values (B, heads, last, D), when the last of them (B, heads, last - first, D) are put there."""
        for room, new in zip(self.rooms, (keys, values), strict=True):
            room[:, :, self.first : self.last] = new
        return self.rooms[0, :, :, : self.last], self.rooms[1, :, :, : self.last]
