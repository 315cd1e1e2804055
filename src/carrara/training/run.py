"""A run: one folder, begun, interrupted, gone on with and finished by the same command."""

from __future__ import annotations

import math
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carrara import about, files
from carrara.data import Dataset
from carrara.data import load as load_data
from carrara.errors import InputError, Interrupted, NonFinite
from carrara.recipe import Recipe, check, parse, text_in
from carrara.training import averages, checkpoints
from carrara.training.beginning import begin
from carrara.training.budget import Asked, Pace, due
from carrara.training.computing import candidates, fastest, kept
from carrara.training.learner import Learner, Record
from carrara.training.metrics import Metrics
from carrara.training.signals import Ear, listening
from carrara.training.trainable import Product, Trainable, data_std, trainable_of
from carrara.training.world import World, join

RECIPE, FACTS, CHECKPOINTS, SAMPLES, MODEL = "recipe.yaml", "run.json", "checkpoints", "samples", "model"
BEST = "best"
"""The model folder of the least held-out loss so far, where that is what is to be saved."""
HELDOUT = "heldout_loss_ema"
LOG_STEPS = 16
FIRST = 12
"""The share of `checkpoint_s` after which there is a first checkpoint is one over this."""


@dataclass(frozen=True)
class Progress:
    """Where a run stands after a step."""

    record: Record
    budget: int | None
    """Images of the whole run; None while the rate is being measured."""
    images_per_s: float
    figures: Mapping[str, float]
    """The newest held-out figures."""


class Run:
    """A run folder and all that is needed to train in it."""

    def __init__(self, recipe: Recipe, folder: Path, asked: Asked, world: World | None = None) -> None:
        """Opens the folder, new or begun. Raises InputError where it cannot be this run's."""
        self.began = time.monotonic()
        self.world = world or join()
        self.folder = folder
        self.world.decided(lambda: _check_folder(folder, recipe, asked))
        self.asked = asked
        self.dataset = dataset_of(recipe)
        self.recipe = measured(recipe, self.dataset)
        self.settings = self.recipe.build("training")
        self.settings.check_shared(self.world.size)
        self.trainable: Trainable = trainable_of(self.recipe, self.dataset, self.settings, self.world)
        self.model: Product = self.trainable.model
        self.start = self._first_weights()
        self.learner = Learner(self.trainable, self.settings, recipe.seed, self.world)
        self.figures: dict[str, float] = {}
        self.best: dict[str, float] = {}
        """The figures whose held-out loss was least, by averaged weights, and the `images` seen then; empty before."""
        self.seconds = 0.0
        self._sum = {"loss": 0.0, "grad_norm": 0.0, "steps": 0}
        self.facts = self._begin(recipe)
        self.budget: int | None = self.facts["budget_images"]
        self._resume()

    @property
    def finished(self) -> bool:
        """Whether all images of the budget have been seen."""
        return self.budget is not None and self.learner.images >= self.budget

    def train(self) -> Iterator[Progress]:
        """Trains to the end of the budget, a Progress each step; then the model folder is written.

        Raises Interrupted after SIGINT or SIGTERM, NonFinite for NaN or infinity; both have saved the last good state, but where a
        step made weights that are no numbers: then the last checkpoint is that.
        """
        with ExitStack() as held, listening() as ear:
            self.world.decided(lambda: held.enter_context(files.locked(self.folder)))
            metrics = Metrics(self.folder, self.learner.images) if self.world.first else None
            try:
                yield from self._train(metrics, ear)
            finally:
                if metrics is not None:
                    metrics.close()
            self.finish()

    def _train(self, metrics: Metrics | None, ear: Ear) -> Iterator[Progress]:
        pace = Pace(self.settings.batch)
        begun = saved = time.monotonic()
        while not self.finished:
            try:
                record = self.learner.step(self.budget)
            except NonFinite:
                with suppress(NonFinite):
                    self.save()
                raise
            pace.tick()
            self._account(record, pace, metrics)
            measured, stop = self.world.any(self.budget is None and pace.measured(self.asked), ear.heard is not None)
            if self.budget is None and (measured or stop):
                self._settle(pace, metrics)
                saved = -math.inf
            self._keep_averages()
            if self._due(self.settings.previews):
                self._event(metrics)
                pace.skip()
            if stop or self._unsaved_too_long(begun, saved):
                self.save()
                saved = time.monotonic()
                pace.skip()
            yield Progress(record, self.budget, pace.rate, self.figures)
            if stop and not self.finished:
                raise Interrupted(
                    ear.heard or signal.SIGTERM,
                    f"Stopped after {self.learner.images} images, and saved in {self.folder}.",
                )
        self.save()

    def _unsaved_too_long(self, begun: float, saved: float) -> bool:
        """Whether a checkpoint is due, in a run that goes on since `begun` and was `saved` then."""
        now, most = time.monotonic(), float(self.settings.checkpoint_s)
        return now - saved > min(most, max(most / FIRST, (now - begun) / 2))

    def save(self) -> None:
        """Writes a checkpoint, if this is the process that writes.

        Raises NonFinite, and leaves the checkpoints that there are, where a weight is no number.
        """
        self.learner.check_weights()
        self.seconds, self.began = self.seconds + time.monotonic() - self.began, time.monotonic()
        if self.world.first:
            extra = {"seconds": self.seconds, "sum": self._sum, "figures": self.figures, "best": self.best}
            checkpoints.save(self.folder / CHECKPOINTS, self.learner, extra, self.settings.keep)

    def finish(self) -> None:
        """Writes the model folder, from the averaged weights: the last ones, or the best, as the recipe has it."""
        if not self.world.first:
            return
        if self.settings.saved == "best" and self.best.get("images", self.learner.images) < self.learner.images:
            files.copy_folder(self.folder / BEST, self.folder / MODEL)
            return
        with self.learner.averaged():
            self._save_model(self.folder / MODEL)

    def _save_model(self, folder: Path) -> None:
        """The model as it is now, with what its card says."""
        self.model.facts = self.card_facts()
        self.model.save(folder)

    def card_facts(self) -> dict[str, Any]:
        """What the model's card says of its making."""
        data = self.dataset
        return {
            "data": data.name,
            "data_source": data.source,
            "data_licence": data.licence,
            "data_fingerprint": data.fingerprint,
            "training_images_seen": self.learner.images,
            "training_seconds": round(self.seconds),
            **self.trainable.computing.as_dict(),
            **self.trainable.facts,
            **({"began_with": self.facts["start"]} if self.facts.get("start") else {}),
            **{key: self.facts[key] for key in ("date", "carrara", "commit", "torch", "processor", "threads")},
            **{key: round(value, 5) for key, value in self.figures.items()},
        }

    def _begin(self, recipe: Recipe) -> dict[str, Any]:
        """run.json, written when the run is new; checked against the data when it is not."""
        facts: dict[str, Any] = self.world.decided(lambda: self._facts(recipe))
        if facts["data"] != self.dataset.fingerprint:
            raise InputError(
                f"the data has changed since the run in {self.folder} began; choose another folder with --out"
            )
        if facts.get("codec") != identity(self.model):
            raise InputError(
                f"the codec that the recipe names is another than when the run in {self.folder} began; put its model back, "
                "or choose another folder with --out"
            )
        if self.start is not None and facts.get("start") != self.start:
            raise InputError(
                f"the model in {self.settings.start} has other weights than when the run in {self.folder} began with them; "
                "put those back, or choose another folder with --out"
            )
        self.trainable.computing = kept(facts)
        return facts

    def _first_weights(self) -> str | None:
        """The SHA-256 of the weights that the network begins with; None where none are given, or the run has gone on from them."""
        if self.settings.start is None or checkpoints.exist(self.folder / CHECKPOINTS):
            return None
        return begin(self.model, self.recipe.sections, self.settings.start)

    def _facts(self, recipe: Recipe) -> dict[str, Any]:
        """What run.json holds; it is made, with the recipe beside it, when the run is new."""
        path = self.folder / FACTS
        if path.is_file():
            kept: dict[str, Any] = files.read_json(path)
            return kept
        facts = {
            **about.surroundings(),
            "seed": recipe.seed,
            "asked": self.asked.as_dict(),
            "budget_images": self.asked.budget(self.settings.batch),
            **fastest(self.trainable, candidates(self.settings), self.settings.part).as_dict(),
            "data": self.dataset.fingerprint,
            "codec": identity(self.model),
            "start": self.start,
        }
        self._check_room()
        files.write(self.folder / RECIPE, recipe.to_yaml())
        files.write_json(path, facts)
        return facts

    def _check_room(self) -> None:
        """Raises InputError where the disk has no room for the checkpoints that stand there at once."""
        count = sum(p.numel() for named in self.learner.parameters.values() for p in named.values())
        # Weights, their average and two moments, float32.
        needed, free = 16 * count * (self.settings.keep + 1), shutil.disk_usage(self.folder).free
        if free < needed:
            raise InputError(
                f"the disk of {self.folder} has {free / 1e6:,.0f} MB left, and this run's checkpoints take some "
                f"{needed / 1e6:,.0f} MB; free some, choose another folder with --out, or a smaller training.keep"
            )

    def _resume(self) -> None:
        """Goes on from the newest whole checkpoint, if there is one."""
        extra = checkpoints.load(self.folder / CHECKPOINTS, self.learner)
        if extra is not None:
            self.seconds, self._sum, self.figures = extra["seconds"], extra["sum"], extra["figures"]
            self.best = extra.get("best", {})

    def _account(self, record: Record, pace: Pace, metrics: Metrics | None) -> None:
        """Means over LOG_STEPS steps go to the metrics."""
        self._sum["loss"] += record.loss
        self._sum["grad_norm"] += record.grad_norm
        self._sum["steps"] += 1
        if self._sum["steps"] < LOG_STEPS:
            return
        means = {key: self._sum[key] / LOG_STEPS for key in ("loss", "grad_norm")}
        if metrics is not None:
            seconds = self.seconds + time.monotonic() - self.began
            metrics.add(
                record.images,
                {**means, "lr": record.lr, "images_per_s": round(pace.rate, 1), "seconds": round(seconds, 2)},
            )
        self._sum = {"loss": 0.0, "grad_norm": 0.0, "steps": 0}

    def _settle(self, pace: Pace, metrics: Metrics | None) -> None:
        """Turns minutes into images, once and for all."""
        start = time.monotonic()
        self._event(metrics)
        event_s = time.monotonic() - start
        elapsed = self.seconds + time.monotonic() - self.began
        images = self.asked.images_left(elapsed, event_s * (self.settings.previews + 1), pace.rate)
        batch = self.settings.batch
        self.budget = int(self.world.told(self.learner.images + max(batch, round(images / batch) * batch)))
        self.facts["budget_images"] = self.budget
        if self.world.first:
            files.write_json(self.folder / FACTS, self.facts)
        pace.skip()

    def _due(self, times: int) -> bool:
        """Whether what is done so many times in the run is due; not before its length is known."""
        return (
            self.budget is not None
            and times > 0
            and due(self.learner.images, self.settings.batch, self.budget, times)
        )

    def _keep_averages(self) -> None:
        """A snapshot of the averages of chosen lengths, where there are any and one is due."""
        if self.settings.averages and self.world.first and self._due(self.settings.snapshots):
            averages.keep(self.folder, self.learner.images, self.learner.averages)

    def _event(self, metrics: Metrics | None) -> None:
        """Held-out figures and previews, with the weights as they are and averaged."""
        raw = self.trainable.heldout()
        self._preview("raw")
        with self.learner.averaged():
            averaged = self.trainable.heldout()
            self._preview("ema")
            self.figures = {**raw, **{f"{key}_ema": value for key, value in averaged.items()}}
            self._keep_best()
        if metrics is not None:
            metrics.add(self.learner.images, self.figures)

    def _keep_best(self) -> None:
        """Remembers these figures, and keeps the averaged weights if so asked, where no held-out loss was less."""
        loss = self.figures.get(HELDOUT, math.nan)
        if not loss < self.best.get(HELDOUT, math.inf):
            return
        self.best = {"images": self.learner.images, **self.figures}
        if self.settings.saved == "best" and self.world.first:
            self._save_model(self.folder / BEST)

    def _preview(self, which: str) -> None:
        if not self.world.first:
            return
        folder = self.folder / SAMPLES
        folder.mkdir(exist_ok=True)
        preview = self.trainable.preview()
        files.write(folder / f"{self.learner.images:012d}-{which}{preview.suffix}", preview.data)


def dataset_of(recipe: Recipe) -> Dataset:
    """The dataset that a recipe names."""
    options = dict(recipe.sections["data"])
    return load_data(options.pop("kind"), **options)


def measured(recipe: Recipe, dataset: Dataset) -> Recipe:
    """The recipe with what it asks to be measured on the data put in."""
    if "codec" not in recipe.sections or recipe.measured(1.0) == recipe:
        return recipe
    return recipe.measured(data_std(recipe.build("codec"), dataset.train))


def identity(model: Product) -> str | None:
    """The SHA-256 of what the model's codec was trained to be; None where nothing of it was."""
    return getattr(getattr(model, "codec", None), "sha256", None)


def _check_folder(folder: Path, recipe: Recipe, asked: Asked) -> None:
    """Makes the folder, or checks that the run in it is this one. Raises InputError."""
    files.writable_folder(folder)
    if not (folder / RECIPE).is_file():
        others = [p.name for p in folder.iterdir() if not p.name.startswith(".")]
        if others:
            raise InputError(
                f"{folder} exists and is not a run (it holds {others[0]}); choose another folder with --out"
            )
        return
    begun = check(parse(text_in(folder / RECIPE), str(folder / RECIPE)))
    if difference := first_difference(begun.as_dict(), recipe.as_dict()):
        raise InputError(f"{folder} holds a run of another recipe ({difference}); choose another folder with --out")
    if (folder / FACTS).is_file():
        asked.check_same(files.read_json(folder / FACTS)["asked"], folder)


def first_difference(old: Any, new: Any, path: str = "") -> str:
    """The first place where two recipes differ, in words; empty where they are the same."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(k for k in new if k not in old)]:
            if words := first_difference(old.get(key), new.get(key), f"{path}.{key}".lstrip(".")):
                return words
        return ""
    return "" if old == new else f"{path} was {old!r} and is now {new!r}"
