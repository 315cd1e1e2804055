"""The report of an autoencoder's run: what it leaves of pictures that it has never seen, and how it got there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from carrara import files
from carrara.data import Dataset
from carrara.errors import MissingExtra
from carrara.evaluation.charts import line_chart, read_metrics
from carrara.evaluation.features import Features
from carrara.evaluation.kept import FIGURES
from carrara.evaluation.measure import frechet, heldout
from carrara.evaluation.pictures import png_bytes
from carrara.evaluation.report import Block, Chart, Figure, Figures, Picture, Report, Row, Section, write
from carrara.evaluation.summary import REPORT, curves_section, data_section, evaluations, making_section
from carrara.training.run import dataset_of
from carrara.vq.figures import fidelity
from carrara.vq.model import VqModel, load
from carrara.vq.sheets import above_each_other

PICTURES = 1000
"""Held-out pictures that are measured, at most."""
SHOWN, COLUMNS = 48, 12
FEATURES = "efficientnet"
CURVES = (
    ("Peak signal to noise", "dB", {"of what is left": "psnr_ema"}),
    ("Perplexity of words", "words", {"of words": "perplexity_ema"}),
    ("Error of a number", "from −1 to 1", {"error": "heldout_error_ema"}),
    ("Distance to a network of pictures", "distance", {"distance": "heldout_perceptual_ema"}),
    ("What the critic holds of pictures", "score", {"real": "score_real", "made": "score_made"}),
)
"""Of each: title, unit, and in metrics.jsonl the figures by their names in the chart."""


def write_report(folder: Path) -> Path:
    """Writes report.html for a finished run of an autoencoder, and measures it where that was not done. Returns its path."""
    model = load(folder)
    dataset = dataset_of(model.recipe)
    found = measured_once(folder, model, dataset)
    sections = [pictures_section(model, dataset), learning_section(folder), curves_section(folder)]
    sections += [data_section(dataset), making_section(folder, model.facts)]
    facts = model.facts
    subtitle = (
        f"{'×'.join(map(str, model.shape))} numbers as {'×'.join(map(str, model.grid))} words out of {model.vocab:,}: "
        f"{model.parameters / 1e6:.2f} million parameters, {facts.get('training_images_seen', 0):,} images seen in "
        f"{facts.get('training_seconds', 0) / 60:.1f} minutes; {facts.get('data', '')}"
    )
    lead = Figures(tiles(found, model))
    return write(Report(model.recipe.name, subtitle, [s for s in sections if s.blocks], [lead]), folder / REPORT)


def measured_once(folder: Path, model: VqModel, dataset: Dataset) -> dict[str, Any]:
    """What `measured` finds; it is kept in the folder's figures.json, and found there the next time."""
    which = {"weights_sha256": model.sha256, "data_fingerprint": dataset.fingerprint}
    for entry in evaluations(folder):
        if which.items() <= entry.items():
            return entry
    found = {**which, **measured(model, dataset, features=FEATURES)}
    files.write_json(folder / FIGURES, [*evaluations(folder), found])
    return found


def measured(
    model: VqModel, dataset: Dataset, n: int = PICTURES, features: Features | str = FEATURES
) -> dict[str, Any]:
    """Figures of up to n held-out pictures once they were ids: mse, psnr, used, perplexity; as `reconstruction_frechet` a Fréchet.

    Its floor is the distance of the same pictures as they are. It is left out where its features are not installed.
    """
    n = min(n, len(dataset.heldout))
    media: Tensor = heldout(dataset, n)[:n]
    ids = model.encode(media)
    again = model.decode(ids)
    found: dict[str, Any] = {"n": n, **fidelity(media, again, ids, model.vocab)}
    try:
        return {**found, "reconstruction_frechet": frechet(again, dataset, features).as_dict()}
    except MissingExtra:
        return found


def tiles(found: Mapping[str, Any], model: VqModel) -> list[Figure]:
    """The figures at the top."""
    n = found["n"]
    shown = [
        Figure("Peak signal to noise", found["psnr"], "of held-out pictures and what is left of them", "dB", n=n),
        Figure(
            "Perplexity of words",
            found["perplexity"],
            f"as many as equally frequent ones; {100 * found['used']:.0f} % of the vocabulary occurs",
            n=n,
            floor=1,
            ceiling=model.vocab,
        ),
    ]
    if distance := found.get("reconstruction_frechet"):
        by = f"{distance['features']}, {distance['reference']}"
        detail = f"of what is left of held-out pictures; floor: the pictures themselves; {by}"
        scale = {key: distance[key] for key in ("n", "floor", "ceiling")}
        shown.insert(0, Figure("Fréchet distance", distance["value"], detail, **scale))
    return shown


def pictures_section(model: VqModel, dataset: Dataset) -> Section:
    """Held-out pictures above what is left of them."""
    count = min(SHOWN, len(dataset.heldout))
    media: Tensor = heldout(dataset, count)[:count]
    sheet = above_each_other(media.numpy(), model.decode(model.encode(media)).numpy(), COLUMNS)
    words = "Held-out pictures, and below each what it is once it was words. None were chosen, and none were seen in training."
    return Section("Reconstructions", words, [Picture(png_bytes(sheet), "Pictures above their reconstructions")])


def learning_section(folder: Path) -> Section:
    """How like the held-out pictures became, and how many words were in use, while it learnt; the parts of its loss, too."""
    metrics = read_metrics(folder / "metrics.jsonl")
    charts: list[Block] = []
    for title, unit, names in CURVES:
        series = {name: metrics[key] for name, key in names.items() if key in metrics}
        charts += [Chart(line_chart(series, title, "images seen", unit))] if series else []
    return Section("Held-out pictures", "", [Row(charts[i : i + 2]) for i in range(0, len(charts), 2)])
