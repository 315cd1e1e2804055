"""What moves the weights along their gradients: AdamW, or Muon for matrices and AdamW for the rest."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from carrara.training.muon import Muon
from carrara.training.settings import Training


class Optimiser:
    """The parameters of a player, each moved by the rule for its kind."""

    def __init__(self, player: nn.Module, settings: Training) -> None:
        self.named = dict(player.named_parameters())
        flat = matrices(player) if settings.optimiser == "muon" else {}
        self.moved: dict[str, Tensor] = {**self.named, **flat}
        """Each parameter, or the matrix that is one with it in memory."""
        self.flat = flat
        rest = [p for name, p in self.named.items() if name not in flat]
        self.rules: list[torch.optim.Optimizer] = []
        if rest:
            decay = settings.weight_decay
            self.rules.append(torch.optim.AdamW(rest, settings.lr, settings.betas, weight_decay=decay, fused=True))
        if flat:
            self.rules.append(Muon(flat.values(), settings.lr, settings.weight_decay))

    def step(self, lr: float) -> None:
        """Moves all parameters by the gradients in them."""
        for name, matrix in self.flat.items():
            gradient = self.named[name].grad
            matrix.grad = None if gradient is None else gradient.reshape(matrix.shape)
        for rule in self.rules:
            for group in rule.param_groups:
                group["lr"] = lr
            rule.step()

    def forget(self) -> None:
        """Leaves no gradient in any parameter."""
        for parameter in (*self.named.values(), *self.flat.values()):
            parameter.grad = None

    def moments(self) -> dict[str, Tensor]:
        """What the rules remember: `parameter/moment`, and a tensor."""
        return {
            f"{name}/{part}": value
            for name, moved in self.moved.items()
            for rule in self.rules
            for part, value in rule.state.get(moved, {}).items()
        }

    def restore(self, moments: Mapping[str, Tensor]) -> None:
        """Remembers these. Raises KeyError for a parameter that is none of the player's."""
        for full, value in moments.items():
            name, _, part = full.rpartition("/")
            moved = self.moved[name]
            self._rule(moved).state[moved][part] = value.to(moved.device, copy=True)

    def _rule(self, moved: Tensor) -> torch.optim.Optimizer:
        """The rule that moves this."""
        return next(
            rule for rule in self.rules for group in rule.param_groups if any(p is moved for p in group["params"])
        )


def matrices(player: nn.Module) -> dict[str, nn.Parameter]:
    """A player's inner matrices as (rows, columns), each one with its parameter in memory: a filter (K, C, h, w) is (K, C·h·w).

    Embeddings and the last matrix, which turn words and numbers into features and back, are none of them.
    """
    embedded = {id(part.weight) for part in player.modules() if isinstance(part, nn.Embedding)}
    named = {
        name: p for name, p in player.named_parameters() if p.ndim > 1 and p.is_contiguous() and id(p) not in embedded
    }
    return {name: nn.Parameter(p.detach().flatten(1)) for name, p in list(named.items())[:-1]}
