"""carrara on the same terms: its real training step on a dataset in memory."""

from __future__ import annotations

from carrara.data import Dataset
from carrara.recipe import Recipe
from carrara.training.computing import KERNELS, PRECISIONS, Computing
from carrara.training.learner import Learner
from carrara.training.run import measured
from carrara.training.trainable import trainable_of
from carrara.training.world import World

WAYS = {
    precision + ("" if kernels == "native" else f" {kernels}"): Computing(precision, kernels)
    for kernels in KERNELS
    for precision in PRECISIONS
}
"""What carrara's training computes in: float32 and bf16 by its own kernels, and by torch's."""


def recipe_of(data: str) -> str:
    """The name of our class-conditional recipe for a dataset, which its peers are: of emoji the dataset's own is text-to-image."""
    return {"emoji": "emoji-classes"}.get(data, data)


def learner(recipe: Recipe, dataset: Dataset, computing: Computing) -> Learner:
    """What `carrara train` trains with, without its run folder: learner.step(None) is one step."""
    recipe = measured(recipe, dataset)
    settings = recipe.build("training")
    trainable = trainable_of(recipe, dataset, settings, World())
    trainable.computing = computing
    return Learner(trainable, settings, recipe.seed)
