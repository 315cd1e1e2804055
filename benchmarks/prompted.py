"""What a model of pictures makes of captions: how far from real pictures, and how often a picture fits its own caption best.

Captions are those of held-out pictures, or of training ones, each asked for once. A CLIP judges: of each picture it is asked
whether its own caption is nearer than another picture's, by a fixed derangement. Where nothing is known that is so for half of
them, and real pictures under their own captions are not always right either: both stand beside the figure.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from carrara import tensors
from carrara.data import Dataset, Split
from carrara.evaluation.cache import kept
from carrara.evaluation.captions import Captioned, ClipScore, clip_score
from carrara.evaluation.clip import Clip
from carrara.evaluation.features import Features
from carrara.evaluation.inputs import gathered, shuffled
from carrara.evaluation.measure import Yardstick, yardstick
from carrara.evaluation.prompts import prompted
from carrara.evaluation.studies import STUDIES
from carrara.evaluation.studies.run import planned, sample, samples_of
from carrara.model import Model

CHANCE = 0.5
"""The share of pictures that fit their own caption better than another's where nothing is known."""
NOTES = {
    "seen_clip_rank": "share of samples for training captions that fit their own better, to the CLIP, than another's of them",
    "heldout_clip_rank": "the same for captions of held-out pictures, which no training has seen",
    "seen_clip_rank_real": "the same of the real pictures of those training captions, which the CLIP has seen too",
    "heldout_clip_rank_real": "the same of the held-out pictures under their own captions: what a perfect model would come to",
    "clip_rank_chance": "the same where the picture has nothing to do with the caption",
    "fid": "Fréchet distance of the samples for held-out captions to the training pictures",
    "fid_seen": "the same of the samples for training captions",
    "floor": "the same of as many held-out pictures",
    "ceiling": "the same of as many pictures of uniform noise",
    "n": "captions asked for on each side, a sample each, and real pictures behind floor and ranks",
    "reference": "what the pictures are compared with",
    "features": "the network whose features the distance compares",
    "guidance_scale": "of the samples behind fid and the ranks, the recipe's own",
    "guidance": "samples for held-out captions by guidance: fid, clip_rank, and clip_score, 2.5 · max(cos, 0) in the mean",
    "clip": "the judge",
    "clip_sha256": "its weights; it has seen training captions with their pictures, no held-out ones, and reads with MiniLM",
}


def parser(doc: str | None, minutes: float, runs: str) -> argparse.ArgumentParser:
    """What every benchmark of captions can be asked."""
    made = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    made.add_argument("--minutes", type=float, default=minutes, help="of training, each")
    made.add_argument("-n", type=int, help="captions of each side; by default all held-out ones")
    made.add_argument("--features", default="inception", help="whose features the Fréchet distance compares")
    made.add_argument("--runs", type=Path, default=Path(runs), help="where everything is kept")
    made.add_argument(
        "--clip", type=Path, default=Path("runs/clip-emoji"), help="the judge's run, made where it is not"
    )
    return made


@dataclass(frozen=True)
class Asked:
    """Captions to ask for, and the pictures that they were written for."""

    captions: list[str]
    labels: list[int]
    real: Tensor
    """uint8 (n, C, H, W)"""

    @classmethod
    def of(cls, split: Split, n: int) -> Asked:
        """The first n of a split in a fixed shuffled order; of held-out pictures those that evaluations ask for."""
        rows, captions = shuffled(len(split), n), split.captions or ()
        return cls([captions[row] for row in rows], split.labels[rows].tolist(), gathered(split.pictures, rows))

    def wishes(self, model: Model) -> dict[str, Any]:
        """What the model is asked for: the captions, or where it knows only classes those of their pictures."""
        return {"prompt": self.captions} if prompted(model) else {"label": self.labels}


@dataclass(frozen=True, eq=False)
class Judges:
    """Who measures: the Fréchet distance at one n, and a CLIP."""

    dataset: Dataset
    measure: Yardstick
    clip: Clip

    @classmethod
    def of(cls, dataset: Dataset, n: int, features: Features | str, clip: Clip) -> Judges:
        """Those for n pictures."""
        return cls(dataset, yardstick(dataset, n, features), clip)

    def rank(self, pictures: Tensor, asked: Asked) -> ClipScore:
        """How the CLIP likes pictures (n, C, H, W) under the captions."""
        return clip_score(Captioned.of(pictures, asked.captions, self.clip))

    def figures(self, pictures: Tensor, asked: Asked, folder: Path) -> dict[str, Any]:
        """fid, clip_rank and clip_score of these pictures; kept in `folder`, for looking at them takes longest."""
        key = {
            "what": "fid, rank and score",
            "pictures": tensors.sha256({"pictures": pictures}),
            "captions": "\n".join(asked.captions),
            **{name: str(value) for name, value in self.scale().items()},
        }
        found = kept(key, folder, lambda: {"found": torch.tensor(self._looked(pictures, asked), dtype=torch.float64)})
        return dict(zip(("fid", "clip_rank", "clip_score"), found["found"].tolist(), strict=True))

    def _looked(self, pictures: Tensor, asked: Asked) -> tuple[float, float, float]:
        found = self.rank(pictures, asked)
        rank = math.nan if found.above_floor is None else found.above_floor
        return self.measure.measure(pictures).value, rank, found.value

    def scale(self) -> dict[str, Any]:
        """What the figures are read against."""
        measure = self.measure
        return {
            "floor": measure.floor,
            "ceiling": measure.ceiling,
            "n": measure.n,
            "reference": measure.reference,
            "features": measure.features.name,
            "clip": self.clip.name,
            "clip_sha256": self.clip.sha256,
        }


def drawn(model: Model, asked: Asked, judges: Judges, scales: Sequence[float], folder: Path) -> dict[float, Tensor]:
    """The model's samples for the captions at each scale, seeds from 0 on, kept in `folder` by the study of guidance."""
    n, features = len(asked.captions), judges.measure.features
    plan = planned(
        STUDIES["guidance"], model, judges.dataset, folder, n, scales, features, 0, 64, **asked.wishes(model)
    )
    sample(plan, lambda stage, done, total: None)
    return {cell.x: samples_of(plan, sampling)["samples"] for cell, sampling in plan.cells}


def curve(model: Model, asked: Asked, judges: Judges, scales: Sequence[float], folder: Path) -> list[dict[str, Any]]:
    """The figures at each scale, the least first."""
    made = drawn(model, asked, judges, scales, folder)
    return [{"guidance": scale, **judges.figures(pictures, asked, folder)} for scale, pictures in made.items()]


def figures(model: Model, judges: Judges, scales: Sequence[float], folder: Path) -> dict[str, Any]:
    """All that is to be said of a model that is asked in words: its ranks and distances, seen and held out, and its curve."""
    n, own = judges.measure.n, model.sampling.guidance_scale
    sides = {"seen": Asked.of(judges.dataset.train, n), "heldout": Asked.of(judges.dataset.heldout, n)}
    found = {name: curve(model, asked, judges, [own], folder)[0] for name, asked in sides.items()}
    real = {name: judges.rank(asked.real, asked).above_floor for name, asked in sides.items()}
    return {
        **{f"{name}_clip_rank": found[name]["clip_rank"] for name in sides},
        **{f"{name}_clip_rank_real": real[name] for name in sides},
        "clip_rank_chance": CHANCE,
        "fid": found["heldout"]["fid"],
        "fid_seen": found["seen"]["fid"],
        **judges.scale(),
        "guidance_scale": own,
        "guidance": curve(model, sides["heldout"], judges, scales, folder),
    }
