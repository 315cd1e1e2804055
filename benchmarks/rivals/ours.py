"""carrara on the same terms: its real training step on a dataset in memory."""

from __future__ import annotations

from carrara.data import Dataset
from carrara.model import build
from carrara.recipe import Recipe
from carrara.training.learner import Learner
from carrara.training.trainable import Diffusion, data_std

PRECISIONS = ("float32", "bf16")
"""What carrara's training computes in, as `training.precision` names it."""


def learner(recipe: Recipe, dataset: Dataset, precision: str) -> Learner:
    """What `carrara train` trains with, without its run folder: learner.step(None) is one step."""
    recipe = recipe.measured(data_std(recipe.build("codec"), dataset.train))
    settings = recipe.build("training")
    model = build(recipe, dataset.shape, dataset.classes)
    trainable = Diffusion(model, recipe.build("train_times"), dataset, settings, recipe.seed)
    trainable.precision = precision
    return Learner(trainable, settings, recipe.seed)
