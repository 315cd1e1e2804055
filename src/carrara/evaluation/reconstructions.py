"""The report of an autoencoder's run: what it leaves of pictures that it has never seen, and how it got there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from carrara import files
from carrara.autoencoders import AutoencoderModel
from carrara.data import Dataset
from carrara.errors import MissingExtra
from carrara.evaluation.charts import line_chart, read_metrics
from carrara.evaluation.features import Features
from carrara.evaluation.kept import FIGURES
from carrara.evaluation.measure import frechet, heldout
from carrara.evaluation.pictures import png_bytes
from carrara.evaluation.report import Block, Chart, Figure, Figures, Picture, Report, Row, Section, write
from carrara.evaluation.sheets import above_each_other
from carrara.evaluation.summary import REPORT, curves_section, data_section, evaluations, making_section
from carrara.training.run import dataset_of

PICTURES = 1000
"""Held-out pictures that are measured, at most."""
SHOWN, COLUMNS = 48, 12
FEATURES: Features | str = "efficientnet"

Curves = tuple[tuple[str, str, Mapping[str, str]], ...]
"""Of each: title, unit, and in metrics.jsonl the figures by their names in the chart."""
CURVES: Curves = (
    ("Peak signal to noise", "dB", {"of what is left": "psnr_ema"}),
    ("Structural similarity", "at most 1", {"of what is left": "ssim_ema"}),
    ("Error of a number", "from −1 to 1", {"error": "heldout_error_ema"}),
    ("Distance to a network of pictures", "distance", {"distance": "heldout_perceptual_ema"}),
    ("What the critic holds of pictures", "score", {"real": "score_real", "made": "score_made"}),
)


@dataclass(frozen=True)
class Middle:
    """What the report of one kind of autoencoder says of what stands in its middle."""

    size: Callable[[Any], str]
    """Of a model: what a picture becomes, in words."""
    tiles: Callable[[Mapping[str, Any], Any], list[Figure]]
    """Of what was measured and a model: figures at the top."""
    name: str
    """What pictures have been, in a word."""
    curves: Curves = field(default=())


def write_report(folder: Path, model: AutoencoderModel[Any], middle: Middle) -> Path:
    """Writes report.html for a finished run of an autoencoder, and measures it where that was not done. Returns its path."""
    dataset = dataset_of(model.recipe)
    found = measured_once(folder, model, dataset)
    learning = learning_section(folder, middle.curves)
    sections = [pictures_section(model, dataset, middle.name), learning, curves_section(folder)]
    sections += [data_section(dataset), making_section(folder, model.facts)]
    facts = model.facts
    subtitle = (
        f"{'×'.join(map(str, model.shape))} numbers as {middle.size(model)}: "
        f"{model.parameters / 1e6:.2f} million parameters, {facts.get('training_images_seen', 0):,} images seen in "
        f"{facts.get('training_seconds', 0) / 60:.1f} minutes; {facts.get('data', '')}"
    )
    lead = Figures(tiles(found, model, middle))
    return write(Report(model.recipe.name, subtitle, [s for s in sections if s.blocks], [lead]), folder / REPORT)


def measured_once(folder: Path, model: AutoencoderModel[Any], dataset: Dataset) -> dict[str, Any]:
    """What `measured` finds; it is kept in the folder's figures.json, and found there the next time."""
    which = {"weights_sha256": model.sha256, "data_fingerprint": dataset.fingerprint}
    for entry in evaluations(folder):
        if which.items() <= entry.items():
            return entry
    found = {**which, **measured(model, dataset)}
    files.write_json(folder / FIGURES, [*evaluations(folder), found])
    return found


def measured(
    model: AutoencoderModel[Any], dataset: Dataset, n: int = PICTURES, features: Features | str | None = None
) -> dict[str, Any]:
    """Figures of up to n held-out pictures once they went through it: mse, psnr, ssim, what there is to say of its middle, and
    as `reconstruction_frechet` a Fréchet by these features, FEATURES where none are named.

    Its floor is the distance of the same pictures as they are. It is left out where its features are not installed.
    """
    n = min(n, len(dataset.heldout))
    media: Tensor = heldout(dataset, n)[:n]
    found: dict[str, Any] = {"n": n, **model.figures(media)}
    try:
        return {
            **found,
            "reconstruction_frechet": frechet(model.again(media), dataset, features or FEATURES).as_dict(),
        }
    except MissingExtra:
        return found


def tiles(found: Mapping[str, Any], model: AutoencoderModel[Any], middle: Middle) -> list[Figure]:
    """The figures at the top."""
    n = found["n"]
    shown = [
        Figure("Peak signal to noise", found["psnr"], "of held-out pictures and what is left of them", "dB", n=n),
        *middle.tiles(found, model),
    ]
    if "ssim" in found:
        shown.insert(
            1, Figure("Structural similarity", found["ssim"], "of the same; 1 for equal ones", n=n, ceiling=1)
        )
    if distance := found.get("reconstruction_frechet"):
        by = f"{distance['features']}, {distance['reference']}"
        detail = f"of what is left of held-out pictures; floor: the pictures themselves; {by}"
        scale = {key: distance[key] for key in ("n", "floor", "ceiling")}
        shown.insert(0, Figure("Fréchet distance", distance["value"], detail, **scale))
    return shown


def pictures_section(model: AutoencoderModel[Any], dataset: Dataset, name: str) -> Section:
    """Held-out pictures above what is left of them."""
    count = min(SHOWN, len(dataset.heldout))
    media: Tensor = heldout(dataset, count)[:count]
    sheet = above_each_other(media.numpy(), model.again(media).numpy(), COLUMNS)
    words = f"Held-out pictures, and below each what it is once it was {name}. None were chosen, and none were seen in training."
    return Section("Reconstructions", words, [Picture(png_bytes(sheet), "Pictures above their reconstructions")])


def learning_section(folder: Path, more: Curves = ()) -> Section:
    """How like the held-out pictures became while it learnt, and what became of the middle; the parts of its loss, too."""
    metrics = read_metrics(folder / "metrics.jsonl")
    charts: list[Block] = []
    for title, unit, names in (*CURVES, *more):
        series = {name: metrics[key] for name, key in names.items() if key in metrics}
        charts += [Chart(line_chart(series, title, "images seen", unit))] if series else []
    return Section("Held-out pictures", "", [Row(charts[i : i + 2]) for i in range(0, len(charts), 2)])
