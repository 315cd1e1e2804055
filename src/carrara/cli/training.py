"""How far a training run is: a moving bar, a plain line now and then, or JSON lines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from carrara.cli.voice import EVERY_S, Voice, animated, console

if TYPE_CHECKING:
    from carrara.training.run import Progress, Run

JSON_EVERY_S = 1.0
MEMORY = 0.95
"""How much of the shown loss is its past: the loss of one step is mostly noise."""

Show = Callable[["Progress"], None]


@dataclass
class Standing:
    """What is shown of a run, from its newest step."""

    loss: float | None = None
    images: int = 0
    budget: int | None = None
    images_per_s: float = 0.0
    lr: float = 0.0
    grad_norm: float = 0.0
    heldout: float | None = None
    noun: str = "images"
    """What is counted, for people."""

    def update(self, progress: Progress) -> None:
        """Takes in a step."""
        record = progress.record
        self.loss = record.loss if self.loss is None else MEMORY * self.loss + (1 - MEMORY) * record.loss
        self.images, self.lr, self.grad_norm = record.images, record.lr, record.grad_norm
        self.budget, self.images_per_s = progress.budget, progress.images_per_s
        self.heldout = progress.figures.get("heldout_loss_ema")

    @property
    def seconds_left(self) -> float | None:
        """Until the budget's end, at this rate; None while either is unknown."""
        if self.budget is None or not self.images_per_s:
            return None
        return (self.budget - self.images) / self.images_per_s

    def words(self) -> str:
        """Losses and rate, for people."""
        parts = [] if self.loss is None else [f"loss {self.loss:.4f}"]
        parts += [] if self.heldout is None else [f"held-out {self.heldout:.4f}"]
        parts += [f"{self.images_per_s:,.0f} {self.noun}/s"] if self.images_per_s else []
        return "  ".join(parts)

    def left(self) -> str:
        """The time left, for people."""
        seconds = self.seconds_left
        return "measuring the rate" if seconds is None else f"{duration(seconds)} left"

    def line(self) -> str:
        """All of it in a line."""
        of = "" if self.budget is None else f" of {self.budget:,}"
        return f"{self.images:,}{of} {self.noun}  {self.words()}  {self.left()}"

    def facts(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        return {
            "images": self.images,
            "budget_images": self.budget,
            "loss": self.loss,
            "heldout_loss_ema": self.heldout,
            "lr": self.lr,
            "grad_norm": self.grad_norm,
            "images_per_s": round(self.images_per_s, 1),
            "seconds_left": None if self.seconds_left is None else round(self.seconds_left, 1),
        }


def examples(run: Run) -> str:
    """What a run counts, as people call it: images, or windows of text."""
    from carrara.evaluation.media import made_by

    return made_by(run.dataset.shape).examples


@contextmanager
def display(run: Run, voice: Voice) -> Iterator[Show]:
    """Within, a function that shows each step's Progress in the voice's own way."""
    standing = Standing(images=run.learner.images, budget=run.budget, noun=examples(run))
    if not (voice.quiet or voice.json) and animated():
        with _bar(run.recipe.name, standing) as show:
            yield show
    else:
        yield _now_and_then(standing, voice)


def _now_and_then(standing: Standing, voice: Voice) -> Show:
    """A line every few seconds, one at the end, and in JSON one wherever the held-out figures are new."""
    every = JSON_EVERY_S if voice.json else EVERY_S
    last = time.monotonic()

    def show(progress: Progress) -> None:
        nonlocal last
        measured = standing.heldout
        standing.update(progress)
        news = standing.images == standing.budget or (voice.json and measured != standing.heldout)
        if news or time.monotonic() - last >= every:
            last = time.monotonic()
            voice.say(standing.line())
            voice.tell(event="progress", **standing.facts())

    return show


@contextmanager
def _bar(name: str, standing: Standing) -> Iterator[Show]:
    from rich import progress as rich

    columns = (
        rich.TextColumn("{task.description}", style="bold"),
        rich.BarColumn(bar_width=None),
        rich.TextColumn("{task.fields[of]}"),
        rich.TextColumn("{task.fields[words]}", style="cyan"),
        rich.TextColumn("{task.fields[left]}", style="green"),
    )
    screen = console()
    screen.width -= (
        3  # Room for the ^C that a terminal writes behind the bar; on a line of its own it would leave a second bar.
    )
    with rich.Progress(*columns, console=screen, expand=True) as bar:
        task = bar.add_task(name, total=standing.budget, completed=standing.images, **_fields(standing))

        def show(progress: Progress) -> None:
            standing.update(progress)
            bar.update(task, total=standing.budget, completed=standing.images, **_fields(standing))

        yield show


def _fields(standing: Standing) -> dict[str, Any]:
    budget = "" if standing.budget is None else f"{standing.budget:,}"
    of = f"{standing.images:,}".rjust(len(budget)) + (budget and f"/{budget}")
    return {"of": of, "words": standing.words(), "left": standing.left()}


def duration(seconds: float) -> str:
    """Seconds in words: 42 s, 3:07 or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if not (hours or minutes):
        return f"{rest} s"
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
