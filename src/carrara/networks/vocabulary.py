"""What networks over words share: the vector that a word is read by, and the logits that it is said by."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from carrara.networks.sequences import SMALL, Sequences, looked_up
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
