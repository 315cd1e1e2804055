"""Denoisers of tokens: a network's logits become a belief about x0, and a loss.

    MaskedDenoiser           a network that sees all of x_t; trained where tokens are hidden
    AutoregressiveDenoiser   a causal network, whose output at each position sees what comes before: one order of showing, exactly
    PlannedDenoiser          a network whose output at each position sees what shows in earlier rounds: one plan of showing, exactly

Both are called as every denoiser is, `denoiser(x_t, t, cond) -> Tokens`. The network gives logits for the K tokens that exist,
so the mask has no probability; and what shows is believed with probability 1, whatever the network says there (MDLM's SUBS).

Source: Simple and Effective Masked Diffusion Language Models (MDLM), Sahoo et al., 2024.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from carrara.beliefs import Tokens
from carrara.denoisers import Cond, Following, Network, Reading
from carrara.errors import InputError, RecipeError, nearest
from carrara.masking import InOrder, Masked
from carrara.planning import Planned
from carrara.processes import like
from carrara.rng import Streams
from carrara.schedules import Flow, Schedule

TokenWeight = Callable[[Masked, Tensor, Tensor, Tensor], Tensor]
"""(process, nats (B, L), hidden bool (B, L), t (B,)) -> losses (B,)."""


def nelbo(process: Masked, nats: Tensor, hidden: Tensor, t: Tensor) -> Tensor:
    """−alpha′ / (1 − alpha) · Σ of the nats that are hidden / L: its mean over t uniform in (0, 1] bounds −log p / L.

    Source: MDLM, Sahoo et al., 2024; Shi et al., 2024.
    """
    return (like(process.rate(t), nats) * nats * hidden).mean(1)


def mean(process: Masked, nats: Tensor, hidden: Tensor, t: Tensor) -> Tensor:
    """The mean of the nats that are hidden, 0 where none is: every hidden token counts alike within its sample.

    Source: MaskGIT, Chang et al., 2022.
    """
    return (nats * hidden).sum(1) / hidden.sum(1).clamp(min=1)


TOKEN_WEIGHTS: dict[str, TokenWeight] = {"nelbo": nelbo, "mean": mean}


class TokenDenoiser(nn.Module):
    """What denoisers of tokens share: a network, a process, and the belief that a network's logits are."""

    exact: ClassVar[bool] = False
    """Whether there is a formula for its likelihood; where there is none, there is a bound."""

    def __init__(self, network: nn.Module, process: Masked) -> None:
        super().__init__()
        self.network = network
        self.process = process
        self.backend: Network | None = None

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.parameters()).device

    def forward(self, x_t: Tensor, t: Tensor, cond: Cond | None = None) -> Tokens:
        """The belief about x0 given x_t int64 (B, L) at t, a scalar or (B,): sure of what shows, float32."""
        return Tokens.of(self.logits(x_t, t, cond)).told(x_t, self.process.hidden(x_t))

    def logits(self, x_t: Tensor, t: Tensor, cond: Cond | None) -> Tensor:
        """The network's output (B, L, K) at x_t. Raises InputError where it is not of the process's vocabulary."""
        level = self.process.level(t).to(dtype=torch.float32, device=x_t.device).expand(len(x_t))
        out = self._computes()(x_t, level, cond)
        wanted = (*x_t.shape, self.process.vocab)
        if out.shape != wanted:
            raise InputError(
                f"the network gives {tuple(out.shape)}, and a belief about {self.process.vocab} tokens at each position is "
                f"{wanted}; make the network with the codec's vocab"
            )
        return out

    def nats(self, x_t: Tensor, x0: Tensor, t: Tensor, cond: Cond | None) -> Tensor:
        """−log p(x0) of each position by itself at x_t, by the network, shown or not: (B, L) float32."""
        logits = self.logits(x_t, t, cond)
        return F.cross_entropy(logits.flatten(0, 1).float(), x0.flatten(), reduction="none").view_as(x0)

    def _remembering(self, name: str) -> Following | Reading | None:
        """What is asked for with a memory: the backend's, where it has that and no gradients are asked for; else the network's."""
        own: Following | Reading | None = getattr(self.network, name, None)
        quick = getattr(self._computes(), "remembering", None)
        return (own and quick and quick(name)) or own

    def _computes(self) -> Network:
        """The backend, where there is one and only values are asked for; in training and for gradients the network."""
        if self.backend is None or self.training or torch.is_grad_enabled():
            network: Network = self.network
            return network
        return self.backend


class MaskedDenoiser(TokenDenoiser):
    """A network that has learned to say what is hidden."""

    def __init__(self, network: nn.Module, process: Masked, weight: str = "nelbo") -> None:
        """`weight`: a name in TOKEN_WEIGHTS. Raises InputError for others, and for a causal network."""
        super().__init__(network, process)
        if weight not in TOKEN_WEIGHTS:
            raise InputError(f"there is no weight of tokens called {weight!r}: {nearest(weight, TOKEN_WEIGHTS)}")
        if getattr(network, "causal", False):
            raise InputError(
                "a masked denoiser looks to both sides, and this network is causal; choose causal: false, or an "
                "autoregressive denoiser"
            )
        if hasattr(network, "plan"):
            raise InputError(
                "masks go by chance here, and this network knows one plan; choose process planned, or network tokens"
            )
        self.weight = weight

    def loss(self, x0: Tensor, t: Tensor, cond: Cond | None, rng: Streams) -> Tensor:
        """The weighted −log p of what is hidden at times t (B,), in nats a token: (B,) float32."""
        x_t, hidden = self.process.corrupt(x0, t, rng)
        return TOKEN_WEIGHTS[self.weight](self.process, self.nats(x_t, x0, t, cond), hidden, t)


class OneOrderDenoiser(TokenDenoiser):
    """A network that knows one order in which tokens show, and says of each what it is given those that show before it.

    So there is a formula for its likelihood, p(x0) = Π p(x_i | what shows before i), and one evaluation gives all of its factors.
    """

    exact = True

    def logits(self, x_t: Tensor, t: Tensor, cond: Cond | None) -> Tensor:
        """The network's output (B, L, K), which is told level 0 at every time: it reads tokens that show."""
        return super().logits(x_t, torch.zeros((), dtype=torch.float64), cond)

    def loss(self, x0: Tensor, t: Tensor, cond: Cond | None, rng: Streams) -> Tensor:
        """−log p(x0) / L in nats a token, exactly: (B,) float32. Nothing is drawn, and t is not looked at."""
        return self.nats(x0, x0, t, cond).mean(1)


class AutoregressiveDenoiser(OneOrderDenoiser):
    """A causal network, which says of each token what it is given those before: p(x0) = Π p(x_i | x_<i).

    It is masked diffusion with one order of showing, from left to right: so `left_to_right` draws from it exactly. Other samplers
    show it tokens in an order that it was not trained for; where its process is `InOrder`, as a recipe's is, they are refused.
    """

    def __init__(self, network: nn.Module, process: Masked) -> None:
        """Raises InputError where the network says of itself that it is not causal, or that it goes by a plan."""
        super().__init__(network, process)
        if hasattr(network, "plan"):
            raise InputError(
                "an autoregressive denoiser shows tokens in their order, and this network knows a plan; choose process planned, or "
                "network tokens with causal: true"
            )
        if not getattr(network, "causal", True):
            raise InputError(
                "an autoregressive denoiser needs a network whose outputs see only what comes before; choose causal: true"
            )

    @property
    def following(self) -> Following | None:
        """The network's `following`, where it has one; see `carrara.denoisers.Following`."""
        return self._remembering("following")


class PlannedDenoiser(OneOrderDenoiser):
    """A network that says of each token what it is given those of earlier rounds: p(x0) = Π p(x_i | earlier rounds).

    It is masked diffusion with one plan of showing, several tokens at a time: so `planned` draws from it exactly, in as many
    evaluations as there are rounds. That tokens of one round know nothing of each other is then not the sampler's error but the
    model's. `ancestral` and `cached` do too where no step shows more than a round; other samplers do not walk it.
    """

    process: Planned

    def __init__(self, network: nn.Module, process: Planned) -> None:
        """Raises InputError where the network has no plan, or another than the process."""
        super().__init__(network, process)
        plan = getattr(network, "plan", None)
        if plan != process.round.tolist():
            raise InputError(
                f"the network's plan is {plan}, and the process's is {process.round.tolist()}; make both with the same"
            )

    @property
    def reading(self) -> Reading | None:
        """The network's `reading`, where it has one; see `carrara.denoisers.Reading`."""
        return self._remembering("reading")


def masked(
    network: nn.Module, schedule: Schedule, vocab: int | None, loss: Literal["nelbo", "mean"] = "nelbo"
) -> MaskedDenoiser:
    """The denoiser of a recipe whose process is masked. `loss`: with the bound's weight, or MaskGIT's mean over what is hidden.

    Raises RecipeError where the codec gives no tokens.
    """
    return MaskedDenoiser(network, Masked(schedule, _vocab(vocab)), loss)


def autoregressive(network: nn.Module, vocab: int | None) -> AutoregressiveDenoiser:
    """The denoiser of a recipe whose tokens are shown in their order. Raises RecipeError where the codec gives none."""
    return AutoregressiveDenoiser(network, InOrder(Flow(), _vocab(vocab)))


def planned(network: nn.Module, vocab: int | None) -> PlannedDenoiser:
    """The denoiser of a recipe whose tokens are shown in the network's rounds.

    Raises RecipeError where the codec gives no tokens, and for a network that has no plan.
    """
    plan = getattr(network, "plan", None)
    if plan is None:
        raise RecipeError(
            f"a planned process shows tokens by the plan of its network, and {type(network).__name__} has none; "
            "choose network rounds"
        )
    return PlannedDenoiser(network, Planned(plan, _vocab(vocab)))


def _vocab(vocab: int | None) -> int:
    if vocab is None:
        raise RecipeError(
            "masked, planned and autoregressive processes are of tokens, and the recipe's codec gives none; choose codec vq for "
            "pictures, bytes, bpe or characters for texts, or process gaussian"
        )
    return vocab
