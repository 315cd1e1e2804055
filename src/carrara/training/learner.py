"""The one training loop: gradients, clipping, learning rate, the optimiser's step, the moving average of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from carrara.errors import NonFinite
from carrara.networks.recompute import recompute
from carrara.rng import derive
from carrara.training.averages import Averages
from carrara.training.optimisers import Optimiser
from carrara.training.settings import Training
from carrara.training.trainable import Trainable
from carrara.training.world import World


@dataclass(frozen=True)
class Record:
    """One step of training."""

    images: int
    """Images seen, this step's included."""
    loss: float
    """The mean loss of the step's batch, over all players."""
    grad_norm: float
    """The gradient's norm before clipping."""
    lr: float
    """The learning rate of the step."""


def learning_rate(settings: Training, images: int, budget: int | None) -> float:
    """The rate after `images` of `budget` images: linear warm-up, constant, then half a cosine down to 0.

    While the budget is not yet known (None) there is no cooling.
    """
    warm = min(1.0, (images + settings.batch) / settings.warmup_images) if settings.warmup_images else 1.0
    if budget is None or settings.cooldown == 0:
        return settings.lr * warm
    start = budget * (1 - settings.cooldown)
    cooled = max(0.0, (images - start) / (budget - start))
    return settings.lr * warm * 0.5 * (1 + math.cos(math.pi * min(1.0, cooled)))


class Learner:
    """The players with their optimisers and averages, and the count of images: everything a checkpoint must hold."""

    def __init__(self, trainable: Trainable, settings: Training, seed: int, world: World | None = None) -> None:
        self.trainable, self.settings, self.seed, self.world = trainable, settings, seed, world or World()
        self.images = 0
        for player in trainable.players.values():
            recompute(player, settings.checkpointing)
        self.parameters = {name: dict(player.named_parameters()) for name, player in trainable.players.items()}
        self.average = {
            name: {key: p.detach().clone() for key, p in named.items()} for name, named in self.parameters.items()
        }
        self.averages = Averages(settings.averages, self.parameters)
        self.optimisers = {name: Optimiser(player, settings) for name, player in trainable.players.items()}

    def train(self, budget: int | None) -> Iterator[Record]:
        """One Record a step until `budget` images are seen. Raises NonFinite, with nothing changed by the bad step."""
        while budget is None or self.images < budget:
            yield self.step(budget)

    def step(self, budget: int | None) -> Record:
        """One step of all players on the next global batch: their gradients in turn, then their steps, or none."""
        lr = learning_rate(self.settings, self.images, budget)
        before = {key: value.clone() for key, value in self.buffers().items()}
        try:
            turns = [self._turn(name, player) for name, player in self.trainable.players.items()]
        except NonFinite:
            self.put_buffers(before)
            self._forget()
            raise
        self._take(lr)
        self._forget()
        self.images += self.settings.batch
        self._follow()
        losses, norms = zip(*turns, strict=True)
        return Record(self.images, sum(losses), max(norms), lr)

    def buffers(self) -> dict[str, Tensor]:
        """What training changes beside the parameters, by name and in place: the players' buffers, the trainable's memory."""
        modules = {**self.trainable.players, "": self.trainable.memory}
        return {
            f"{name}/{key}": value
            for name, module in modules.items()
            for key, value in module.state_dict().items()
            if key not in self.parameters.get(name, ())
        }

    @torch.no_grad()
    def put_buffers(self, values: Mapping[str, Tensor]) -> None:
        """Gives every buffer its value."""
        for key, buffer in self.buffers().items():
            buffer.copy_(values[key])

    def _turn(self, name: str, player: nn.Module) -> tuple[float, float]:
        """A player's loss and the norm of its gradient, which is left in its parameters, clipped."""
        player.train()
        loss = self._accumulated(name)
        gradients = [p.grad for p in self.parameters[name].values() if p.grad is not None]
        self.world.average_([loss, *gradients])
        norm = nn.utils.get_total_norm(gradients)
        self._check(name, loss, norm)  # Before clipping, which would spread one gradient's NaN over all.
        nn.utils.clip_grads_with_norm_(self.parameters[name].values(), self.settings.clip, norm)
        return loss.item(), norm.item()

    def _take(self, lr: float) -> None:
        """Moves every player by the gradient in its parameters."""
        for name, optimiser in self.optimisers.items():
            optimiser.step(lr * self.trainable.rate(name, self.images))

    def _forget(self) -> None:
        """Leaves no gradient in any parameter."""
        for optimiser in self.optimisers.values():
            optimiser.forget()

    def _accumulated(self, name: str) -> Tensor:
        """The mean loss of this process's share of the batch, whose gradient is left in the parameters, part after part."""
        start, count = self.world.share(self.images, self.settings.batch)
        parts, losses = self.settings.accumulate, []
        for first in range(0, count, count // parts):
            with seeded(derive(self.seed, self.world.rank, self.images + first)):
                loss = self.trainable.loss(name, start + first, count // parts).mean() / parts
            torch.autograd.backward(loss)
            losses.append(loss.detach())
        return torch.stack(losses).sum()

    def _check(self, name: str, loss: Tensor, norm: Tensor) -> None:
        """Raises NonFinite naming the step and the tensor; the weights are still those of the last good step."""
        if bool(torch.isfinite(norm)) and bool(torch.isfinite(loss)):
            return
        where = "the loss"
        if bool(torch.isfinite(loss)):
            where = next(
                (f"the gradient of {key}" for key, p in self.parameters[name].items() if _bad(p.grad)),
                "the gradient's norm",
            )
        raise NonFinite(
            f"{where} became NaN or infinite in the step after {self.images} images; that step was not taken. {self._advice()}"
        )

    def check_weights(self) -> None:
        """Raises NonFinite naming the first weights that are no numbers: a step too long may have made infinity of a gradient."""
        for named in self.parameters.values():
            for key, p in named.items():
                if _bad(p):
                    raise NonFinite(f"{key} is NaN or infinite after {self.images} images. {self._advice()}")

    def _advice(self) -> str:
        """What to do about it: in another run, for one run has one recipe."""
        wide = "" if self.trainable.computing.precision == "float32" else ", or with training.precision=float32"
        return f"Begin another run (--out) with a lower training.lr, here {self.settings.lr:g}{wide}."

    def _follow(self) -> None:
        """The averages follow the weights: half-life min(ema_images, ema_ramp · images seen)."""
        half_life = min(self.settings.ema_images, self.settings.ema_ramp * self.images)
        weight = 1 - 0.5 ** (self.settings.batch / half_life)
        for name, named in self.parameters.items():
            average = list(self.average[name].values())
            torch._foreach_lerp_(average, [p.detach() for p in named.values()], weight)
        self.averages.follow(self.parameters, self.images - self.settings.batch, self.images)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within, the players hold their averages; after it, their own weights again."""
        own = {name: {key: p.detach().clone() for key, p in named.items()} for name, named in self.parameters.items()}
        self._put(self.average)
        try:
            yield
        finally:
            self._put(own)

    @torch.no_grad()
    def _put(self, values: Mapping[str, Mapping[str, Tensor]]) -> None:
        for name, named in self.parameters.items():
            for key, parameter in named.items():
                parameter.copy_(values[name][key])


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within, torch's own generators (dropout's) start from this seed; after it they go on as before."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def _bad(tensor: Tensor | None) -> bool:
    return tensor is not None and not bool(torch.isfinite(tensor).all())
