"""States of the tokens of many texts, which a frozen encoder computes once: kept in the cache, and with a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from carrara.conditions.encoders import TextEncoder, fingerprint
from carrara.errors import DamagedFile, NonFinite
from carrara.evaluation import cache

_AT_ONCE = 64


class States(dict[str, Tensor]):
    """Each text's tokens (n, W), n its own."""

    def packed(self) -> dict[str, Tensor]:
        """All tokens after one another, (N, W), and how many each text has, in the texts' order."""
        tokens = list(self.values())
        counts = torch.tensor([len(one) for one in tokens], dtype=torch.int64)
        return {"states": torch.cat(tokens) if tokens else torch.empty(0, 0), "counts": counts}

    @classmethod
    def of(cls, packed: Mapping[str, Tensor], texts: Sequence[str]) -> States:
        """The States of these texts. Raises DamagedFile where the tensors are those of others."""
        counts = packed["counts"].tolist() if packed.keys() >= {"states", "counts"} else []
        if len(counts) != len(texts) or sum(counts) != len(packed["states"]):
            raise DamagedFile(
                f"the states of {len(texts)} texts are not what is kept of them; they are missing or damaged"
            )
        return cls(zip(texts, torch.split(packed["states"], counts), strict=True))


def states_of(encoder: TextEncoder, texts: Sequence[str], length: int) -> States:
    """The States of different texts, as the encoder computes them, once for all runs. Raises NonFinite for what is no number."""
    key: cache.Key = {
        "what": "text states",
        "protocol": 1,
        "encoder": encoder.name,
        "sha256": encoder.sha256,
        "length": length,
        "of": fingerprint(texts),
    }
    return States.of(cache.kept(key, cache.cache_folder(), lambda: _computed(encoder, texts, length)), texts)


def _computed(encoder: TextEncoder, texts: Sequence[str], length: int) -> dict[str, Tensor]:
    """The packed states, computed some texts at a time, those of like length together: the shorter are then padded least."""
    order, made = sorted(texts, key=len), States()
    for start in range(0, len(order), _AT_ONCE):
        some = order[start : start + _AT_ONCE]
        made.update(zip(some, encoder(some, length), strict=True))
    packed = States({text: made[text] for text in texts}).packed()
    if not bool(torch.isfinite(packed["states"]).all()):
        raise NonFinite(
            f"the text encoder {encoder.name} gives NaN or infinity for a caption; choose another condition.encoder"
        )
    return packed
