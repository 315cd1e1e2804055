"""How words are said: Mask-Predict against a model of one order, at equal minutes, parameters and data: `make bench-phonemes`.

Both are trained as a user trains them and kept, then say every held-out word; what is timed is one batch after another, each way in
its turn.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import lengths
from benchmarks.result import report
from benchmarks.ways import Way, made
from carrara.data import Dataset
from carrara.errors import InputError
from carrara.evaluation.texts.edits import errors, token_accuracy
from carrara.model import Model
from carrara.training.run import dataset_of

RECIPES = {"masked": ["phonemes"], "ar": ["ar-phonemes"]}
WAYS = {
    "mask_predict_4": Way("masked", {"steps": 4}),
    "mask_predict_10": Way("masked", {"steps": 10}),
    "ar_greedy": Way("ar", {}),
}
"""Which model, and how it is sampled; all else is the recipe's."""
ROUNDS = 4
BATCH = 128
SOUND = re.compile("[ˈˌ]?(?:aʊ|aɪ|ɔɪ|eɪ|oʊ|tʃ|dʒ|.)")
"""One sound of the dictionary in IPA, its stress before it."""

NOTES = {
    "per_over_ar": "phoneme error rate of Mask-Predict in 10 rounds over that of the greedy autoregressive model",
    "speed_over_ar": "words a second of the same two, one over the other",
    "ways": "each way to sample: per (edits a sound, its stress included), per_without_stress, wer (share of words not right), "
    "token_accuracy (of the first pronunciation's characters and the end, at their places), words_per_s (median of the rounds, "
    "least, most)",
    "n": "held-out words",
    "batch": "words that are said at once",
    "rounds": "in which each way had its turn",
    **lengths.NOTES,
}


def main() -> None:
    """Trains what is not trained, says all held-out words, reports."""
    asked = arguments()
    models = lengths.trained(lengths.changed(RECIPES, asked.set), asked.minutes, asked.runs)
    check(models)
    dataset = dataset_of(models["masked"].recipe)
    found = said(models, dataset, asked.n)
    training = lengths.told(models, asked.runs)
    about = {"n": len(dataset.heldout.texts[: asked.n]), "batch": BATCH, "rounds": ROUNDS, "minutes": asked.minutes}
    report("phonemes", {**compared(found), "ways": found, **about, "training": training}, NOTES)


def arguments() -> argparse.Namespace:
    """What the command was asked."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=5.0, help="of training of each model")
    parser.add_argument("-n", type=int, help="held-out words; all, unless said")
    parser.add_argument("--runs", type=Path, default=Path("runs/phonemes-beside"), help="where the runs are kept")
    parser.add_argument("--set", action="append", default=[], help="a change of both recipes, as of carrara train")
    return parser.parse_args()


def check(models: Mapping[str, Model]) -> None:
    """Raises InputError where the models are not of one size, to a hundredth, and one data."""
    sizes = [model.parameters for model in models.values()]
    if max(sizes) > 1.01 * min(sizes) or len({model.facts["data_fingerprint"] for model in models.values()}) > 1:
        raise InputError(f"the models differ in their data or their parameters, {sizes}; give their recipes the same")


def said(models: Mapping[str, Model], dataset: Dataset, n: int | None) -> dict[str, dict[str, Any]]:
    """The figures of each way to say the first n held-out words."""
    assert dataset.heldout.sources is not None
    sources, right = dataset.heldout.sources[:n], dataset.heldout.texts[:n]
    found = made(
        models, WAYS, len(sources), ROUNDS, BATCH, lambda seeds: {"source": sources[seeds.start : seeds.stop]}
    )
    return {
        name: {**wrong(models[WAYS[name].model], each.samples, right), "words_per_s": each.per_s.as_dict()}
        for name, each in found.items()
    }


def wrong(model: Model, given: list[str], right: list[str]) -> dict[str, float]:
    """How wrong words are, in sounds, words and tokens."""
    codec: Any = model.codec
    exact = errors(*([sounds(text) for text in texts] for texts in (given, right)))
    plain = errors(*([sounds(text, unstressed) for text in texts] for texts in (given, right)))
    mine, theirs = (torch.from_numpy(np.concatenate([*codec.windows(texts)])).long() for texts in (given, right))
    return {
        "per": exact.symbol_error,
        "per_without_stress": plain.symbol_error,
        "wer": exact.text_error,
        "token_accuracy": token_accuracy(mine, theirs, codec.end),
    }


def unstressed(text: str) -> str:
    """IPA without its marks of stress."""
    return text.replace("ˈ", "").replace("ˌ", "")


def sounds(text: str, change: Callable[[str], str] = str) -> list[str]:
    """The sounds of a word in IPA: "tʃˈaɪm" is tʃ, ˈaɪ, m."""
    return SOUND.findall(change(text))


def compared(found: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Mask-Predict in 10 rounds beside the autoregressive model."""
    ours, theirs = found["mask_predict_10"], found["ar_greedy"]
    return {
        "per_over_ar": ours["per"] / theirs["per"],
        "speed_over_ar": ours["words_per_s"]["median"] / theirs["words_per_s"]["median"],
    }


if __name__ == "__main__":
    main()
