"""Masked diffusion and Diffusion-LM of verses beside the autoregressive model, at equal data and minutes: `make bench-verse`.

All see the same windows of the same text. How well they know held-out text is told in bits a character, of diffusion a
bound; how well they write, by an outside judge, the entropy of the words and what is repeated, beside held-out text and the same
with its words shuffled; and how fast, in turns, at several numbers of steps. `--set` changes all recipes alike.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import lengths
from benchmarks.result import report
from benchmarks.ways import Made, Way, made
from carrara.data import Dataset
from carrara.evaluation.texts.beside import SETS, Beside
from carrara.evaluation.texts.bits import bits
from carrara.evaluation.texts.judges import judge_of
from carrara.model import Model
from carrara.training.run import dataset_of

RECIPES = {"masked": ["verse"], "ar": ["ar-verse"], "embedded": ["diffusion-lm-verse"]}
ALWAYS = ("masked", "ar")
STEPS = (8, 16, 32, 64)
ROUNDS = 4
BATCH = 64
MEASURES = ("perplexity", "unknown", "entropy", "distinct_2", "repeated")
WAYS = {
    **{f"masked, {steps} steps": Way("masked", {"steps": steps}) for steps in STEPS},
    "autoregressive": Way("ar", {}),
    "diffusion-lm, 64 steps": Way("embedded", {"steps": 64}),
}

NOTES = {
    "bound_over_ar": "bits a character of held-out text: masked diffusion's bound over the autoregressive model's exact value",
    "diffusion_lm_over_ar": "the same of Gaussian diffusion in an embedding space",
    "bits": "bits a character of each, with the standard error of another choice of windows, and what is known without a model",
    "windows": "held-out windows behind the bits",
    "ways": "each way to write: characters_per_s (median of the rounds, least, most), and of its texts the judge's perplexity and "
    "share of unknown words, entropy in bits a word, distinct pairs, repeated 4-grams",
    "heldout": "the same of held-out text, the floor",
    "shuffled": "the same of held-out text with its words shuffled",
    "n": "texts of each way",
    "judge": "whose perplexity it is",
    "batch": "texts that are written at once",
    "rounds": "in which each way had its turn",
    **lengths.NOTES,
}


def main() -> None:
    """Trains what is not trained, measures, reports."""
    asked = arguments()
    recipes = {name: RECIPES[name] for name in RECIPES if name in {*ALWAYS, *asked.only}}
    models = lengths.trained(lengths.changed(recipes, asked.set), asked.minutes, asked.runs)
    dataset = dataset_of(models["masked"].recipe)
    known = {name: bits(model, dataset, asked.windows).as_dict() for name, model in models.items()}
    ways = {name: way for name, way in WAYS.items() if way.model in models}
    written = made(models, ways, asked.n, ROUNDS, BATCH)
    report("verse", {**knowing(known), **writing(models, dataset, written), **about(models, asked)}, NOTES)


def arguments() -> argparse.Namespace:
    """What the command was asked."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument(
        "--only",
        nargs="*",
        choices=RECIPES,
        default=list(RECIPES),
        help="compared; masked and ar always are",
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="of training, each")
    parser.add_argument("--windows", type=int, default=1000, help="held-out windows behind the bits")
    parser.add_argument("-n", type=int, default=256, help="texts of each way to sample")
    parser.add_argument("--set", action="append", default=[], help="a change of all recipes, as of carrara train")
    parser.add_argument("--runs", type=Path, default=Path("runs/verse-beside"), help="where the runs are kept")
    return parser.parse_args()


def knowing(known: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """How well the models know held-out text."""
    ours, theirs = known["masked"], known["ar"]
    alone = {name: ours[name] for name in ("unigram", "uniform")}
    third = known.get("embedded")
    fields = ("per_character", "standard_error", "estimate_error", "exact")
    return {
        "bound_over_ar": ours["per_character"] / theirs["per_character"],
        "diffusion_lm_over_ar": third and third["per_character"] / theirs["per_character"],
        "bits": {name: {field: each[field] for field in fields} for name, each in known.items()} | alone,
        "windows": ours["n"],
    }


def writing(models: Mapping[str, Model], dataset: Dataset, written: Mapping[str, Made]) -> dict[str, Any]:
    """How well and how fast each way writes; held-out and shuffled text are those beside the last."""
    judge = judge_of(None)
    found: dict[str, Any] = {}
    for name, (texts, per_s) in written.items():
        way = WAYS[name]
        looked = Beside.of(texts, models[way.model], dataset, judge).figures(MEASURES)
        characters = sum(map(len, texts)) / len(texts)
        speed = {"characters_per_s": per_s.scaled(characters).as_dict()}
        found[name] = {**speed, **looked[SETS[0]]}
    return {"ways": found, **{name: looked[name] for name in SETS[1:]}, "judge": judge.name}


def about(models: Mapping[str, Model], asked: argparse.Namespace) -> dict[str, Any]:
    """What the figures are of."""
    training = lengths.told(models, asked.runs)
    return {"n": asked.n, "batch": BATCH, "rounds": ROUNDS, "minutes": asked.minutes, "training": training}


if __name__ == "__main__":
    main()
