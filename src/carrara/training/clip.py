"""A CLIP as a trainable: two heads learn that a picture and its caption belong together, and no two others do.

The encoders below the heads are not trained, so what they make of the data is computed once and kept; a step of training is then
two small products, and a run takes a minute. What there is little of is data: a batch's features are blurred, some left out and
all shaken, so that no pair is known by a single number.

Source: Learning Transferable Visual Models From Natural Language Supervision, Radford et al., 2021; LiT: Zero-Shot Transfer with
Locked-image text Tuning, Zhai et al., 2022, for encoders that are locked; Dropout, Srivastava et al., 2014, sections 4 and 10, for
features left out and for Gaussian noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from carrara.clip import losses
from carrara.clip.encoders import encoded, kept
from carrara.clip.hubs import Hubs
from carrara.clip.model import ClipModel, build
from carrara.clip.retrieval import HELDOUT_PAIRS, figures, picked
from carrara.clip.sheets import PREVIEW, found_pictures
from carrara.clip.start import starts
from carrara.data import Dataset, Split
from carrara.data.batches import order
from carrara.errors import InputError, RecipeError
from carrara.evaluation.media import File, png
from carrara.networks.dual import DualEncoder
from carrara.recipe import Recipe
from carrara.rng import Streams
from carrara.training.computing import candidates
from carrara.training.settings import Training
from carrara.training.world import World

CLIP = "clip"
HUBS_PAIRS = 4096
"""Training pairs among which what is usual is measured, at most."""
START_PAIRS = 4096
"""Training pairs by which heads find where to begin, at most."""


class Known(NamedTuple):
    """What the encoders make of a split: features of pictures (N, …) and of captions (N, …), and which captions are the same."""

    pictures: Tensor
    texts: Tensor
    same: Tensor
    """(N,) int64: equal where the captions are."""


class Contrastive:
    """The heads of a ClipModel as a player."""

    sections: ClassVar[frozenset[str]] = frozenset({"data", "trainable", "training"})
    """Of a recipe, those that it is made from."""

    def __init__(
        self,
        recipe: Recipe,
        dataset: Dataset,
        settings: Training,
        seed: int,
        world: World | None = None,
        *,
        image: str = "efficientnet",
        text: str = "minilm",
        objective: Literal["contrastive", "sigmoid"] = "contrastive",
        dim: int = 256,
        temperature: float = 0.07,
        dropout: float = 0.7,
        noise: float = 0.5,
        neighbours: int = 10,
        ridge: float = 0.0,
    ) -> None:
        """`image`, `text`: the encoders' kinds in carrara.clip.PICTURES and TEXTS, or your own, "module:name". `objective`: whether
        each is chosen among all, or every pair told yes or no. `dim`: of the space. `temperature`: where it begins; it is learnt.
        `dropout`: the share of a picture's and of a caption's features that is left out in a step; `noise`: how much they are
        shaken, features being of deviation 1. `neighbours`: among how many training pairs it is measured what is usual, see
        carrara.clip.hubs; 0 where nothing is to be taken off for it. `ridge`: the heads begin at the directions in which pictures
        and captions agree, found with this ridge, see carrara.clip.start; 0: at random.

        Raises InputError for data that has no captions, RecipeError for what cannot be trained, MissingExtra for encoders that
        are not installed.
        """
        _check(
            dataset,
            settings,
            dim=dim,
            temperature=temperature,
            dropout=dropout,
            noise=noise,
            neighbours=neighbours,
            ridge=ridge,
        )
        self.dataset, self.settings, self.seed = dataset, settings, seed
        self.world = world or World()
        self.computing = candidates(settings)[0]
        self.dropout, self.noise = dropout, noise
        self.each = losses.sigmoid if objective == "sigmoid" else losses.contrastive
        self.model: ClipModel = build(recipe)
        self.train, self.heldout_pairs = self._known("train", dataset.train), self._known("heldout", dataset.heldout)
        self.heads.pictures.measure(self.train.pictures)
        self.heads.texts.measure(self.train.texts)
        if ridge:
            self._begin(dim, ridge)
        self.neighbours = neighbours
        self.model.hubs = self.hubs if neighbours else None
        self.players: dict[str, nn.Module] = {CLIP: self.heads}
        self.memory: nn.Module = nn.Module()
        names = {"image_encoder": self.model.pictures.name, "text_encoder": self.model.words.name}
        self.facts: Mapping[str, Any] = {**names, "heldout_pairs": min(HELDOUT_PAIRS, len(dataset.heldout))}

    def hubs(self) -> Hubs:
        """What is usual among training pairs, by the heads as they are."""
        rows = picked(len(self.dataset.train), HUBS_PAIRS)
        pictures = self.model.plain(self.heads.pictures, self.train.pictures[rows])
        return Hubs(pictures, self.model.plain(self.heads.texts, self.train.texts[rows]), self.neighbours)

    @property
    def heads(self) -> DualEncoder:
        """What is trained."""
        return self.model.heads

    def loss(self, player: str, start: int, count: int) -> Tensor:
        """How badly the run's images number start … start + count − 1 and their captions find each other, (count,).

        In training among the whole batch, wherever its other pairs are computed; else among themselves.
        """
        rows = order(len(self.dataset.train), self.seed, start, count)
        rng = Streams.of_run(self.seed, start, count)
        standard = self.heads.pictures.standard(self.train.pictures[rows])
        said = self.heads.texts.standard(self.train.texts[rows])
        standard, said = self.blurred(standard, rng), self.blurred(said, rng)
        device = self.heads.log_scale.device
        with self.computing.within(device):
            pictures, texts = self.heads.pictures(standard.to(device)), self.heads.texts(said.to(device))
        if not self.heads.training:
            return self._among(pictures, texts, rows, slice(0, count))
        first = start - start % self.settings.batch
        rows = order(len(self.dataset.train), self.seed, first, self.settings.batch)
        pictures, texts = self.world.gather_with_gradient(pictures), self.world.gather_with_gradient(texts)
        return self._among(pictures, texts, rows, slice(start - first, start - first + count))

    def rate(self, player: str, start: int) -> float:
        """1: the run's own."""
        return 1.0

    def heldout(self) -> dict[str, float]:
        """The loss among held-out pairs, and how well they are found, always the same pairs."""
        rows, similarity = self._heldout()
        known, same = self.heldout_pairs, no_contrast(self.heldout_pairs.same[rows])
        pictures = self.model.plain(self.heads.pictures, known.pictures[rows])
        texts = self.model.plain(self.heads.texts, known.texts[rows])
        with torch.no_grad():
            loss = self.each(self.heads.logits(pictures @ texts.T), same, slice(0, len(rows)))
        return {"heldout_loss": float(loss.mean()), **figures(similarity)}

    def preview(self) -> File:
        """Held-out captions, each with its own picture and those that are found for it."""
        rows, similarity = self._heldout()
        split = self.dataset.heldout
        captions = [(split.captions or ())[row] for row in rows]
        shown = range(min(PREVIEW, len(rows)))
        return png(found_pictures(np.array(split.pictures[rows]), captions, similarity, shown))

    def blurred(self, standard: Tensor, rng: Streams) -> Tensor:
        """Features (B, D) with some set to 0, the others enlarged, and noise over all: each row from its own stream."""
        left = rng.uniform(standard.shape[1:]) >= self.dropout
        shaken = standard + self.noise * rng.normal(standard.shape[1:])
        return torch.where(left, shaken / (1 - self.dropout), 0).float()

    def _begin(self, dim: int, ridge: float) -> None:
        """Puts both heads where they begin: in every process where the first has them, to the bit."""
        rows = picked(len(self.dataset.train), START_PAIRS)
        pictures, texts = self.heads.pictures, self.heads.texts
        given = pictures.standard(self.train.pictures[rows]), texts.standard(self.train.texts[rows])
        found = self.world.decided(lambda: starts(*given, dim, ridge))
        for head, weight in zip((pictures, texts), found, strict=True):
            head.begin(weight)

    def _among(self, pictures: Tensor, texts: Tensor, rows: np.ndarray, own: slice) -> Tensor:
        same = no_contrast(self.train.same[rows], torch.from_numpy(rows))
        return self.each(self.heads.logits(pictures @ texts.T), same.to(pictures.device), own)

    def _heldout(self) -> tuple[np.ndarray, Tensor]:
        """The held-out pairs that are looked at, and their similarity, pictures × captions."""
        rows, known = picked(len(self.dataset.heldout)), self.heldout_pairs
        pictures, texts = self.model.of_pictures(known.pictures[rows]), self.model.of_texts(known.texts[rows])
        return rows, pictures @ texts.T

    def _known(self, side: str, split: Split) -> Known:
        """The features of a split; where several processes train, the first computes them, and the others find them kept."""
        self.world.decided(lambda: self._features(side, split) and None)
        pictures, texts = self._features(side, split)
        numbers: dict[str, int] = {}
        same = [numbers.setdefault(caption, len(numbers)) for caption in split.captions or ()]
        return Known(pictures, texts, torch.tensor(same))

    def _features(self, side: str, split: Split) -> tuple[Tensor, Tensor]:
        pictures, texts, count = self.model.pictures, self.model.words, len(split)
        of = f"{side} of {self.dataset.fingerprint}"
        return (
            kept(pictures, f"{of}: pictures", lambda: encoded(_Rows(pictures, split), range(count), count)),
            kept(texts, f"{of}: captions", lambda: encoded(texts, split.captions, count)),
        )


class _Rows:
    """An encoder of pictures as one of their numbers in a split, so that no more are read than are encoded at a time."""

    def __init__(self, encoder: Any, split: Split) -> None:
        self.encoder, self.split = encoder, split
        self.name, self.dim, self.sha256 = encoder.name, encoder.dim, encoder.sha256

    def __call__(self, rows: range, /) -> Tensor:
        found: Tensor = self.encoder(torch.from_numpy(np.array(self.split.pictures[rows.start : rows.stop])))
        return found


def no_contrast(*names: Tensor) -> Tensor:
    """bool (B, B), True off the diagonal where two pairs have one of these names (B,) in common."""
    same = torch.stack([name[:, None] == name[None] for name in names]).any(0)
    return same & ~torch.eye(len(same), dtype=torch.bool)


def _check(dataset: Dataset, settings: Training, **given: Any) -> None:
    """Raises InputError for data or settings of which no CLIP can be trained."""
    if dataset.train.captions is None or dataset.heldout.captions is None:
        raise InputError(
            f"a CLIP learns from captions, and the data {dataset.name} has none; give data of kind emoji, or a folder "
            "with a metadata file"
        )
    bare = sum(not caption.strip() for caption in (*dataset.train.captions, *dataset.heldout.captions))
    if bare:
        raise InputError(
            f"{bare} pictures of the data {dataset.name} have no caption; give each one in the metadata file, or leave them out"
        )
    if len(dataset.heldout) < 2:
        raise InputError(
            f"the data {dataset.name} holds out one pair, which has nothing to be confused with; give more"
        )
    rules = {
        "trainable.dim": (given["dim"] >= 2, "at least 2"),
        "trainable.temperature": (given["temperature"] > 0, "positive"),
        "trainable.dropout": (0 <= given["dropout"] < 1, "at least 0 and below 1"),
        "trainable.noise": (given["noise"] >= 0, "0 or more"),
        "trainable.ridge": (given["ridge"] >= 0, "0 or more"),
        "trainable.neighbours": (
            0 <= given["neighbours"] <= min(HUBS_PAIRS, len(dataset.train)),
            f"from 0 to the {min(HUBS_PAIRS, len(dataset.train))} training pairs that are looked at",
        ),
        "training.batch": (settings.batch >= 2, "2 or more, as a pair is told from the batch's others"),
        "training.accumulate": (
            settings.accumulate == 1,
            "1: a batch's pairs are told from one another, all at once",
        ),
    }
    for name, (holds, rule) in rules.items():
        value = given.get(name.partition(".")[2], getattr(settings, name.partition(".")[2], None))
        if not holds:
            raise RecipeError(f"{name} is {value!r}; it must be {rule}")
