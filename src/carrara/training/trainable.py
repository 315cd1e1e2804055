"""What the training loop can train, and diffusion as one such thing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from carrara.codecs.encoded import fitted
from carrara.conditions.base import dropped
from carrara.conditions.base import examples as shown_as
from carrara.data import Dataset, Split
from carrara.data.batches import order
from carrara.evaluation import media
from carrara.evaluation.media import File
from carrara.model import Model, build
from carrara.recipe import Recipe
from carrara.rng import Streams
from carrara.sampling import moved
from carrara.times import TrainTimes, spread_uniforms
from carrara.training.computing import Computing, candidates
from carrara.training.examples import Examples, check_labelled, examples_of
from carrara.training.settings import Training
from carrara.training.world import World

HELDOUT_SEED = 0x5EED
HELDOUT_IMAGES = 512
PREVIEWED = 24
"""Samples of a preview."""


class Product(Protocol):
    """What a run makes: a Model, or whatever else is one folder."""

    facts: dict[str, Any]
    """What its card tells."""

    @property
    def parameters(self) -> int:
        """The number of parameters."""
        ...

    def save(self, folder: str | Path) -> None:
        """Writes the folder, whole or not at all."""
        ...


class Trainable(Protocol):
    """Anything the loop can train: one player or several (a GAN has two), each with its own loss."""

    computing: Computing
    """What the networks compute in."""

    facts: Mapping[str, Any]
    """What the model's card is to say beside what it says of every run."""

    @property
    def model(self) -> Product:
        """What is saved when the run is finished."""
        ...

    @property
    def players(self) -> Mapping[str, nn.Module]:
        """The modules that are trained, in the order of their turns."""
        ...

    @property
    def memory(self) -> nn.Module:
        """Buffers that training changes beside the players' parameters; they go into the checkpoint."""
        ...

    def loss(self, player: str, start: int, count: int) -> Tensor:
        """The losses (count,) of the images number start … start + count − 1 of the run."""
        ...

    def rate(self, player: str, start: int) -> float:
        """How many times the run's learning rate the player's is, in the step that begins with image number `start`."""
        ...

    def heldout(self) -> Mapping[str, float]:
        """Figures on held-out data, at fixed noise; `heldout_loss` among them."""
        ...

    def preview(self) -> File:
        """A file that shows what it can do now, at fixed noise: a picture, or texts."""
        ...


class Diffusion:
    """A Model's denoiser as a trainable."""

    def __init__(
        self,
        model: Model,
        times: TrainTimes,
        dataset: Dataset,
        settings: Training,
        seed: int,
        world: World | None = None,
        examples: tuple[Examples, Examples] | None = None,
    ) -> None:
        """`examples`: the training and the held-out ones, where they have been made already."""
        self.model, self.times, self.dataset, self.settings, self.seed = model, times, dataset, settings, seed
        self.world = world or World()
        self.computing = candidates(settings)[0]
        self.train, self.unseen = examples or examples_of(dataset, model.codec)
        check_labelled(self.train, model.condition.told())
        self.players: dict[str, nn.Module] = {"denoiser": model.denoiser}
        self.memory: nn.Module = times
        self._shown: list[tuple[Tensor, Tensor]] = []
        self.facts: Mapping[str, Any] = {}

    def loss(self, player: str, start: int, count: int) -> Tensor:
        """Algorithm 1 of DDPM, for any process, prediction and weight: (count,) float32."""
        rng = Streams.of_run(self.seed, start, count)
        flips = rng.uniform().numpy() < 0.5 if self.dataset.flip else None
        batch = self.train.batch(order(len(self.train), self.seed, start, count), flips)
        cond = dropped(self.model.condition, self.model.condition.encode(batch), rng)
        u = spread_uniforms(self.settings.spread, rng, self.seed, start, self.settings.batch)
        t, factor = self.times.draw(u, self.model.denoiser.process.schedule)
        loss = self._loss(self.train, batch, t, cond, rng)
        if self.model.denoiser.training:
            self._learn(start, t, loss.detach().cpu())
        return loss * factor.to(loss)

    def rate(self, player: str, start: int) -> float:
        """1: the run's own."""
        return 1.0

    def heldout(self) -> dict[str, float]:
        """The mean loss on held-out examples, always the same, at the same times and noise."""
        count = min(HELDOUT_IMAGES, len(self.unseen))
        picked = order(len(self.unseen), HELDOUT_SEED, 0, count)
        u = torch.from_numpy((order(count, HELDOUT_SEED, 0, count) + 0.5) / count)
        t = self.times.fixed(u, self.model.denoiser.process.schedule)
        self.model.denoiser.eval()
        with torch.no_grad():
            losses = [self._heldout(picked, t, rows) for rows in _slices(count, 128)]
        self.model.denoiser.train()
        return {"heldout_loss": float(torch.cat(losses).mean())}

    def preview(self) -> File:
        """Samples of the network as it is."""
        return samples_of(self.model)

    def _learn(self, start: int, t: Tensor, loss: Tensor) -> None:
        """Shows the times the losses of a batch: all at once, so that its parts are drawn alike and learnt from like a whole."""
        batch = self.settings.batch
        first, count = self.world.share(start - start % batch, batch)
        self._shown = [*(self._shown if start > first else []), (t, loss)]
        times, losses = (torch.cat(parts) for parts in zip(*self._shown, strict=True))
        if len(times) == count:
            self.times.update(self.world.gather(times), self.world.gather(losses))

    def _heldout(self, picked: np.ndarray, t: Tensor, rows: slice) -> Tensor:
        batch = self.unseen.batch(picked[rows])
        rng = Streams.of_run(HELDOUT_SEED, rows.start, len(picked[rows]))
        return self._loss(self.unseen, batch, t[rows], self.model.condition.encode(batch), rng).cpu()

    def _loss(self, examples: Examples, batch: Mapping[str, Any], t: Tensor, cond: Any, rng: Streams) -> Tensor:
        device = self.model.denoiser.device
        x0 = examples.x0(batch, device)
        with self.computing.within(device):
            return self.model.denoiser.loss(x0, t, moved(cond, device), rng)


def trainable_of(recipe: Recipe, dataset: Dataset, settings: Training, world: World) -> Trainable:
    """The trainable of a recipe, untrained, with what it is made from."""
    given: dict[str, Any] = {"dataset": dataset, "settings": settings, "seed": recipe.seed, "world": world}
    if "network" in recipe.sections:
        condition = recipe.build("condition", classes=dataset.classes)
        if hasattr(condition, "fit"):
            condition = condition.fit(dataset)
        codec = fitted(recipe.build("codec"), dataset)
        # Before the network: one for windows that no text fills may not fit in memory.
        if world.size > 1:  # What the first process keeps, the others find.
            world.decided(lambda: examples_of(dataset, codec) and None)
        examples = examples_of(dataset, codec)
        model = build(recipe, dataset.shape, dataset.classes, codec, condition)
        given |= {"model": model, "times": recipe.build("train_times"), "examples": examples}
    trainable: Trainable = recipe.build("trainable", recipe=recipe, **given)
    return trainable


def samples_of(model: Model) -> File:
    """The first seeds' samples of a Model that is being trained."""
    made = model.sample(PREVIEWED, seed=0, times=model.sampling.untuned())
    model.denoiser.train()
    return media.of(made).preview(made, shown_as(model.condition, PREVIEWED).get("prompt", ()))


def data_std(codec: Any, split: Split, limit: int = 10_000) -> float:
    """The standard deviation of x0 over all numbers of up to `limit` training examples."""
    x0: Tensor = codec.encode(torch.from_numpy(np.array(split.pictures[:limit])))
    return float(x0.double().std())


def _slices(count: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]
