"""Distillation: a student that believes in pictures instead of means, so that a few evaluations are enough.

A denoiser believes in the mean of all pictures that x_t can come from, and must be asked again and again. The student is the same
network and is asked at a few times only; two things teach it to believe in one picture:

    pairs     at each of its times the end of the teacher's own probability-flow ODE, which is one picture for each x_t
    critic    its pictures are to pass for real ones. The critic, a second network that begins as the teacher, learns to score
              real pictures above the student's, both under a little of the same noise; the student's are moved to where the
              score rises

Beliefs are kept in bounds, as the student's sampling keeps them, before either sees them. A velocity's belief is
x_t − t · velocity: at t = 1 the network must copy the noise out of x_t exactly, and what it misses stays as a grain. Where black is
a bound, the student learns to believe in less than black, and the grain is cut off.

Sampling is then `consistency`: a belief, noise up to the next time, a belief.

Source: Knowledge Distillation in Iterative Generative Models, Luhman & Luhman, 2021, for the pairs; Generative Adversarial
Networks, Goodfellow et al., 2014, with the hinge of Geometric GAN, Lim & Ye, 2017; Diffusion-GAN, Wang et al., 2023, for the
noise in front of the critic; UFOGen, Xu et al., 2024, for a student and a critic that both begin as the diffusion model;
Consistency Models, Song et al., 2023, for the sampling.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from carrara.beliefs import Point
from carrara.conditions.base import dropped
from carrara.data import Dataset
from carrara.data.batches import batch as take
from carrara.data.batches import order
from carrara.denoisers import Cond, Denoiser, GaussianDenoiser
from carrara.editing import THRESHOLDS
from carrara.errors import InputError, RecipeError
from carrara.evaluation.media import File
from carrara.model import Model
from carrara.processes import Gaussian, like
from carrara.rng import Streams, derive
from carrara.samplers import adams
from carrara.sampling import moved
from carrara.schedules import HALF_PI
from carrara.times import TrainTimes, grid
from carrara.training.adversarial import frozen
from carrara.training.computing import candidates
from carrara.training.settings import Training
from carrara.training.teacher import load_teacher
from carrara.training.trainable import samples_of
from carrara.training.world import World

LOWEST, HIGHEST = 0.01, 0.4
"""The noise levels, as angles from 0 to 1, under which the critic sees pictures; low ones more often."""
CRITIC_AHEAD = 4096
"""For how many images the critic learns before the student listens to it."""
SMALL = 0.03
"""The error of a number, data being of size 1, below which an error counts as a square."""
HELDOUT_SEED = 0x5EED
HELDOUT_PAIRS = 128
STUDENT, CRITIC = "denoiser", "critic"
NOT_NEGATIVE = ("pairs", "pair_weight", "pair_images", "critic_weight")


class Taught:
    """What the teacher believes, guided if asked, at a time for each picture too."""

    def __init__(self, denoiser: Denoiser, scale: float, null: Any) -> None:
        """`null(count)` is the condition of nothing, None where there is none. Raises InputError for guidance without one."""
        if scale != 1 and null(1) is None:
            raise InputError(f"guidance_scale {scale:g} needs a conditional teacher; this one is unconditional")
        self.denoiser, self.scale, self.null, self.process = denoiser, scale, null, denoiser.process

    def __call__(self, x_t: Tensor, t: Tensor, cond: Cond | None = None) -> Point:
        strong = self.denoiser(x_t, t, cond)
        if self.scale == 1:
            return Point(strong.x0)
        weak = self.denoiser(x_t, t, self.null(len(x_t)))
        return Point(strong.x0 + (self.scale - 1) * (strong.x0 - weak.x0))


class Lesson(NamedTuple):
    """What the student is asked: x at the times t (B,), under a condition; the pictures x0 behind that, and the rest of each
    image's random stream.
    """

    x0: Tensor
    x: Tensor
    t: Tensor
    cond: Cond | None
    rng: Streams


class Pairs(nn.Module):
    """The ends (pairs, C, H, W) of the teacher's paths from what the run's first images became; they go into the checkpoint."""

    ends: Tensor

    def __init__(self, pairs: int, shape: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("ends", torch.zeros(pairs, *shape))


class Distillation:
    """A Model's denoiser as a student of another Model's, with a critic beside it."""

    def __init__(
        self,
        model: Model,
        times: TrainTimes,
        dataset: Dataset,
        settings: Training,
        seed: int,
        world: World | None = None,
        *,
        teacher: Path,
        teacher_sha256: str | None = None,
        evaluations: Sequence[int] = (1, 2, 4),
        first: float = 0.6,
        pairs: int = 6144,
        solver_steps: int = 8,
        pair_weight: float = 1.0,
        pair_images: int = 16_384,
        critic_weight: float = 0.1,
        critic_rate: float = 0.2,
        student_rate: float = 0.2,
        guidance_scale: float = 1.0,
    ) -> None:
        """`teacher`: its folder, and the hash that its weights must have. `times` are the teacher's; a student has its own:
        `evaluations` are the numbers of evaluations that it is to be sampled with, on the grid of the recipe's sampling, and
        `first` the share of images at t = 1. `pairs`: how many paths the teacher walks, those from t = 1 in `solver_steps`
        evaluations; `pair_images`: for how many images the pairs alone teach. `pair_weight` and `critic_weight`: how much
        either loss counts, 0 for not at all. `critic_rate`, and from then on `student_rate`: their learning rates over the
        run's. `guidance_scale`: with how much guidance the teacher is asked.

        Raises InputError for what cannot be taught.
        """
        _check(
            settings,
            evaluations=list(evaluations),
            first=first,
            pairs=pairs,
            solver_steps=solver_steps,
            pair_weight=pair_weight,
            pair_images=pair_images,
            critic_weight=critic_weight,
            critic_rate=critic_rate,
            student_rate=student_rate,
        )
        found = load_teacher(teacher, teacher_sha256, model)
        self.model, self.dataset, self.settings, self.seed = model, dataset, settings, seed
        self.world = world or World()
        self.computing = candidates(settings)[0]
        self.first, self.pair_weight, self.critic_weight = first, pair_weight, critic_weight
        self.process: Gaussian = model.denoiser.process
        self.teacher = Taught(found.denoiser, guidance_scale, model.condition.null)
        model.denoiser.load_state_dict(found.denoiser.state_dict())
        self.critic: GaussianDenoiser = copy.deepcopy(found.denoiser).requires_grad_(True)
        self.players: dict[str, nn.Module] = {CRITIC: self.critic} if critic_weight else {}
        self.players[STUDENT] = model.denoiser
        self.walked = pairs // settings.batch * settings.batch if pair_weight else 0
        self.alone = max(self.walked, pair_images) if self.walked else 0
        self.rates = {CRITIC: critic_rate, STUDENT: student_rate}
        self.pairs = Pairs(self.walked, model.codec.shape(model.shape))
        self.memory: nn.Module = nn.ModuleDict({"pairs": self.pairs})
        bounds = dict(model.sampling.threshold)
        self.bounded = partial(THRESHOLDS[bounds.pop("kind")], **bounds)
        self.path = grid("logistic", solver_steps, self.process.schedule)
        self.asked = student_times(model, evaluations)
        self.facts: Mapping[str, Any] = {"teacher": str(teacher), "teacher_weights_sha256": teacher_sha256}

    def loss(self, player: str, start: int, count: int) -> Tensor:
        """The critic's: how badly it tells the student's pictures from real ones. The student's: its pairs', less the critic's
        score.
        """
        with self.computing.within(self.device):
            if player == CRITIC:
                return self._critic_loss(start, count)
            return self._first_loss(start, count) if start < self.walked else self._student_loss(start, count)

    def rate(self, player: str, start: int) -> float:
        """The critic's; the student's is the run's while pairs alone teach."""
        return 1.0 if player == STUDENT and (start < self.alone or not self.critic_weight) else self.rates[player]

    def heldout(self) -> dict[str, float]:
        """The mean error of the student's first belief, against ends of the teacher's path that it is never shown."""
        count = min(HELDOUT_PAIRS, len(self.dataset.heldout))
        rows, rng = order(len(self.dataset.heldout), HELDOUT_SEED, 0, count), Streams.of_run(HELDOUT_SEED, 0, count)
        cond = moved(self.model.condition.encode(take(self.dataset.heldout, rows)), self.device)
        noise = self._noise(rng)
        lesson = Lesson(noise, noise, torch.ones(count, dtype=torch.float64), cond, rng)
        self.model.denoiser.eval()
        with torch.no_grad(), self.computing.within(self.device):
            error = rms(self.pictures(lesson) - self.ends(lesson))
        self.model.denoiser.train()
        return {"heldout_loss": float(error.mean())}

    def preview(self) -> File:
        """The student's samples."""
        return samples_of(self.model)

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.model.denoiser.device

    def lesson(self, numbers: Sequence[int]) -> Lesson:
        """What the student is asked about the run's images of these numbers: noise alone, or noised pictures."""
        rng = Streams([derive(self.seed, number) for number in numbers])
        rows = np.concatenate([order(len(self.dataset.train), self.seed, number, 1) for number in numbers])
        batch = take(self.dataset.train, rows, self._flips(rng))
        cond = moved(dropped(self.model.condition, self.model.condition.encode(batch), rng), self.device)
        x0 = self.model.codec.encode(batch["media"].to(self.device))
        t = self.asked[pick(rng.uniform(), self.first, len(self.asked))]
        noised, noise = self.process.corrupt(x0, t, rng)[0], self._noise(rng)
        return Lesson(x0, torch.where(like(t == 1, x0).bool(), noise, noised), t, cond, rng)

    def _flips(self, rng: Streams) -> np.ndarray | None:
        flips = rng.uniform().numpy() < 0.5
        return flips if self.dataset.flip else None

    def _noise(self, rng: Streams) -> Tensor:
        return self.process.prior(self.model.codec.shape(self.model.shape), rng).to(self.device)

    def pictures(self, lesson: Lesson) -> Tensor:
        """What the student believes in, in bounds."""
        return self.bounded(self.model.denoiser(lesson.x, lesson.t, lesson.cond).x0)

    def _critic_loss(self, start: int, count: int) -> Tensor:
        """The hinge (count,) of real pictures that are scored below 1 and the student's above −1; 0 while the critic rests."""
        if start < self.alone - CRITIC_AHEAD:
            return 0 * next(self.critic.parameters()).flatten()[:1].expand(count)
        lesson = self.lesson(range(start, start + count))
        with torch.no_grad():
            made = self.pictures(lesson)
        t = self._time_of_critic(lesson.rng)
        real_t, eps = self.process.corrupt(lesson.x0, t, lesson.rng)
        both = torch.cat([real_t, self.process.mix(made, eps, t)])
        twice = (
            None if lesson.cond is None else {name: torch.cat([value, value]) for name, value in lesson.cond.items()}
        )
        real, student = self.score(both, torch.cat([t, t]), twice).chunk(2)
        return (1 - real).relu() + (1 + student).relu()

    def score(self, x_t: Tensor, t: Tensor, cond: Cond | None) -> Tensor:
        """How real the critic holds what is behind x_t (B, *) at t (B,): the mean of its output, (B,) float32."""
        return self.critic.raw(x_t, t, cond).float().flatten(1).mean(1)

    def _time_of_critic(self, rng: Streams) -> Tensor:
        """The times (B,) at which the critic sees pictures."""
        level = LOWEST + (HIGHEST - LOWEST) * rng.uniform() ** 2
        return self.process.schedule.at_angle(HALF_PI * level).clamp(max=1)

    def _first_loss(self, start: int, count: int) -> Tensor:
        """The error (count,) at the run's first images, whose paths the teacher walks now."""
        lesson = self.lesson(range(start, start + count))
        ends = self.ends(lesson)
        if self.model.denoiser.training:
            first = start // self.settings.batch * self.settings.batch
            self.pairs.ends[first : first + self.settings.batch] = self.world.gather(ends)
        return self.pair_weight * rms(self.pictures(lesson) - ends)

    def _student_loss(self, start: int, count: int) -> Tensor:
        """For each image the error at one of the first, chosen by its own stream; once the critic teaches, for every second
        one, and for each how little its picture passes for a real one.
        """
        if not self.critic_weight or start < self.alone:
            return self.pair_weight * self._pair_loss(Streams.of_run(self.seed, start, count).uniform())
        lesson = self.lesson(range(start, start + count))
        loss = -self.critic_weight * self.passed(self.pictures(lesson), lesson)
        if self.walked:
            loss[::2] += 2 * self.pair_weight * self._pair_loss(lesson.rng.uniform()[::2])
        return loss

    def passed(self, x0: Tensor, lesson: Lesson) -> Tensor:
        """The critic's score (B,) of the student's pictures x0, with a gradient to them and none to the critic."""
        t, x = self._time_of_critic(lesson.rng), x0.detach().requires_grad_(x0.requires_grad)
        with frozen(self.critic):
            score = self.score(self.process.corrupt(x, t, lesson.rng)[0], t, lesson.cond)
            if not x.requires_grad:
                return score
            (slope,) = torch.autograd.grad(score.sum(), x)
        moved: Tensor = ((x0 - x0.detach()) * slope).flatten(1).sum(1)  # Of value 0; the slope is its gradient.
        return score.detach() + moved

    def _pair_loss(self, u: Tensor) -> Tensor:
        """The error (B,) at images whose paths were walked before, chosen by u (B,) in [0, 1)."""
        numbers = (u * self.walked).long()
        return rms(self.pictures(self.lesson(numbers.tolist())) - self.pairs.ends[numbers])

    @torch.no_grad()
    def ends(self, lesson: Lesson) -> Tensor:
        """Where the teacher's probability-flow ODE takes each x from its t, as far as the solver's steps tell, in bounds."""
        ends = torch.empty_like(lesson.x)
        for t in self.asked:
            rows = (lesson.t == t).nonzero().squeeze(1)
            if len(rows):
                cond = None if lesson.cond is None else {name: value[rows] for name, value in lesson.cond.items()}
                # A knot just below t would make a step of next to nothing, over which nothing can be extrapolated.
                path = torch.cat([t[None], self.path[self.path < 0.98 * t]])
                *_, last = adams(self.teacher, lesson.x[rows], path, cond)
                ends[rows] = last.x
        return self.bounded(ends)


def rms(error: Tensor) -> Tensor:
    """The root mean square of each sample's numbers, (B,), rounded off below SMALL, where the root has no slope."""
    root: Tensor = (error.square().flatten(1).mean(1) + SMALL**2).sqrt()
    return root - SMALL


def student_times(model: Model, evaluations: Sequence[int]) -> Tensor:
    """The times at which the student is asked when it is sampled with any of these numbers of evaluations, from 1 on down."""
    grids = [model.sampling.changed(steps=count).grid(model.denoiser.process.schedule)[:-1] for count in evaluations]
    return torch.tensor(sorted(set(torch.cat(grids).tolist()), reverse=True), dtype=torch.float64)


def pick(u: Tensor, first: float, count: int) -> Tensor:
    """Indices (B,) into `count` times from u (B,) in [0, 1): a share `first` is 0, the others are even."""
    others = 1 + ((u - first) / (1 - first) * (count - 1)).long() if first < 1 else torch.zeros_like(u).long()
    return torch.where(u < first, 0, others).clamp(max=count - 1)


def _check(settings: Training, **given: Any) -> None:
    """Raises RecipeError for options that teach nothing, and for batches in parts."""
    evaluations, first = given["evaluations"], given["first"]
    taught = given["pair_weight"] * given["pairs"] + given["critic_weight"] > 0
    rules = {
        "evaluations": (bool(evaluations) and min(evaluations) >= 1, "one or more numbers from 1 on"),
        "first": (0 < first <= 1, "above 0 and at most 1"),
        "solver_steps": (given["solver_steps"] >= 1, "at least 1"),
        **{name: (given[name] >= 0, "0 or more") for name in NOT_NEGATIVE},
        **{name: (given[name] > 0, "positive") for name in ("critic_rate", "student_rate")},
    }
    for name, (holds, rule) in rules.items():
        if not holds:
            raise RecipeError(f"trainable.{name} is {given[name]!r}; it must be {rule}")
    if settings.accumulate > 1:
        raise RecipeError(
            f"training.accumulate is {settings.accumulate}; a distillation computes each batch at once, so it must be 1. "
            "For less memory lower training.batch, or set training.checkpointing=true"
        )
    if not taught:
        raise RecipeError(
            "trainable has neither pairs nor a critic to teach: set pair_weight and pairs, or critic_weight, above 0"
        )
