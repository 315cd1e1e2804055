"""What networks over words share: the vector that a word is read by, and the logits that it is said by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from carrara.networks.blocks import zeroed
from carrara.networks.memory import Memory
from carrara.networks.sequences import SMALL, Sequences, looked_up
from carrara.networks.transformer import Order
from carrara.networks.words import Parts


class Vocabulary(Sequences):
    """A network over sequences of ids, of which the last, `vocab`, is the mask: a token that is not known."""

    vocab: int
    tied: bool
    token: nn.Embedding
    leave: nn.Linear
    heard: Parts | None
    """What is read of the parts of which a word is made; None where words have none, or share nothing by them."""
    said: Parts | None
    """The same of what is said."""

    def share(self, levels: Sequence[int], factored: bool) -> None:
        """Makes what words share by their parts, where they do, `heard` still to be begun, `said` as nothing."""
        self.heard = Parts(levels, self.vocab, self.width) if factored else None
        self.said = Parts(levels, self.vocab, self.width) if factored else None
        if self.said is not None:
            zeroed(self.said.vectors)

    def going_on(
        self,
        tokens: Tensor,
        cond: Mapping[str, Tensor] | None,
        memory: Memory | None,
        turns: Tensor,
        vectors: bool = False,
    ) -> tuple[Tensor, Memory]:
        """(the blocks' output for tokens (B, N, width) that follow what was read, the memory with them in it), at level 0.

        `turns`: what each token from the first on is turned by, the most there can be. `vectors`: see `Memory.empty`.
        """
        if memory is None:
            memory = Memory.empty(len(self.body.blocks), len(tokens), self.heads, len(turns), tokens, vectors)
        first, memory = memory.count, memory.going_on(len(tokens), tokens.shape[1])
        order = Order(turns[first : memory.count], self.source_length)
        level = torch.zeros(len(tokens), device=tokens.device)
        return self.body(tokens, self.told(level, cond), order, memory), memory

    def read(self, x: Tensor) -> Tensor:
        """The vectors (B, L, width) of the words x (B, L), each by itself."""
        read = looked_up(self.token, x, "token")
        return read if self.heard is None else read + self.heard(x)

    def logits(self, x: Tensor) -> Tensor:
        """(…, vocab) from (…, width): all zero, and each token as probable as any other, where nothing is learnt."""
        if self.said is not None:
            return F.linear(x, self.leave.weight + self.said.table(), self.leave.bias)
        out: Tensor = self.leave(x)
        return F.linear(out, self.token.weight[:-1] / (SMALL * x.shape[-1] ** 0.5)) if self.tied else out
