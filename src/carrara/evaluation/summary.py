"""The report of a run: what it was trained on, what it makes, how it got there, and how good it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from carrara import files
from carrara.data import Dataset
from carrara.evaluation import pictures, told
from carrara.evaluation.charts import loss_charts, read_metrics
from carrara.evaluation.kept import FIGURES
from carrara.evaluation.metrics import TEXT_METRICS, of_samples
from carrara.evaluation.report import (
    Block,
    Cell,
    Chart,
    Code,
    Figure,
    Figures,
    KeyValues,
    Picture,
    Report,
    Row,
    Section,
    Table,
    write,
)
from carrara.evaluation.texts import told as texts_told
from carrara.kinds import KINDS
from carrara.model import Model, kind_of, load
from carrara.plugins import imported
from carrara.rng import Streams
from carrara.training.run import RECIPE, dataset_of

REPORT, FILM = "report.html", "film.gif"
PER_CLASS = 8
FORWARD_TIMES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.85, 1.0)


def write_report(folder: Path) -> Path:
    """Writes report.html for a finished run, as its kind of model has it. Returns its path."""
    write_it: Callable[[Path], Path] = imported("report", KINDS[kind_of(folder)].report)
    return write_it(folder)


def of_diffusion(folder: Path) -> Path:
    """Writes report.html for a finished run of a diffusion model, from its model, data, metrics and figures, and film.gif.

    Returns the report.
    """
    model = load(folder)
    dataset = dataset_of(model.recipe)
    film = film_gif(model)
    (folder / FILM).write_bytes(film)
    sections = [samples_section(model), film_section(film), forward_section(model, dataset)]
    sections += [data_section(dataset), curves_section(folder), making_section(folder, model.facts)]
    lead = Figures(figures(model, evaluations(folder)))
    facts = model.facts
    subtitle = (
        f"{model.parameters / 1e6:.2f} million parameters, {facts.get('training_images_seen', 0):,} images seen "
        f"in {facts.get('training_seconds', 0) / 60:.1f} minutes; {facts.get('data', '')}"
    )
    return write(Report(model.recipe.name, subtitle, [s for s in sections if s.blocks], [lead]), folder / REPORT)


def evaluations(folder: Path) -> list[dict[str, Any]]:
    """What `carrara evaluate` has measured in this run, oldest first."""
    path = folder / FIGURES
    found: list[dict[str, Any]] = files.read_json(path) if path.is_file() else []
    return found


def figures(model: Model, measured: Sequence[Mapping[str, Any]]) -> list[Figure]:
    """The tiles at the top: the newest evaluation's figures, then those of training."""
    tiles = []
    if drawn := [entry for entry in measured if of_samples(entry)]:
        newest = drawn[-1]
        if frechet := newest.get("frechet"):
            tiles.append(
                Figure(
                    "Fréchet distance",
                    frechet["value"],
                    f"{told.chance(frechet)}, {frechet['features']}, {frechet['reference']}".removeprefix(", "),
                    n=frechet["n"],
                    floor=frechet["floor"],
                    ceiling=frechet["ceiling"],
                )
            )
        tiles += told.tiles(newest) + texts_told.tiles(newest)
        if read := newest.get("classes"):
            detail = f"read by a classifier that is right on {100 * read['accuracy']:.1f} % of held-out pictures"
            tiles.append(Figure("Class read as asked", 100 * read["rate"], detail, "%", n=read["n"]))
        if near := newest.get("neighbours"):
            tiles.append(Figure("Copies of training pictures", near["copies"], _nearness(near), n=near["n"]))
    if found := [entry["nll"] for entry in measured if "nll" in entry]:
        tiles.append(_likelihood(found[-1]))
    if known := [entry["bits"] for entry in measured if "bits" in entry]:
        tiles.append(texts_told.bits_tile(known[-1]))
    if "heldout_loss_ema" in model.facts:
        tiles.append(Figure("Held-out loss", model.facts["heldout_loss_ema"], "averaged weights, fixed noise"))
    return tiles


def samples_section(model: Model) -> Section:
    """Samples of the averaged weights: a row a class where there are classes."""
    settings = model.sampling
    how = f"sampler {settings.sampler}, {settings.steps} steps, {settings.evaluations() or 'varying'} evaluations"
    if not model.condition.null(1):
        sheet = pictures.grid(model.sample(48).numpy(), columns=12)
        return Section("Samples", f"Seeds 0 to 47; {how}.", [_png(sheet, "Samples of the model")])
    classes = model.classes[:20]
    labels = [name for name in classes for _ in range(PER_CLASS)]
    drawn = model.sample(len(labels), label=labels)
    sheet = pictures.labelled_grid(drawn.numpy(), row_labels=classes)
    words = f"A row a class, none of them chosen; seeds 0 to {len(labels) - 1}; {how}, guidance {settings.guidance_scale:g}."
    return Section("Samples", words, [_png(sheet, "Samples of the model, a row a class")])


def film_gif(model: Model, count: int = 8) -> bytes:
    """The denoising film of the first samples, as a GIF."""
    frames = list(model.film(range(count)))
    drawn = pictures.film([(x.numpy(), x0.numpy()) for _, x, x0 in frames], [t for t, _, _ in frames])
    return pictures.gif_bytes(drawn, duration_ms=max(80, 3000 // len(drawn)))


def film_section(film: bytes) -> Section:
    """The film, with what to look at."""
    words = "Left: x at time t. Right: the x0 that the network believes in at that moment."
    return Section("Denoising", words, [Picture(film, "The denoising film: x_t beside the predicted x0")])


def forward_section(model: Model, dataset: Dataset, rows: int = 4) -> Section:
    """The forward process at ten times."""
    media = torch.from_numpy(np.array(dataset.heldout.pictures[:rows]))
    x0, process = model.codec.encode(media), model.denoiser.process
    times = torch.tensor(FORWARD_TIMES, dtype=torch.float64)
    noisy = [model.codec.decode(process.shown(process.corrupt(x0, t, Streams(range(rows)))[0], t)) for t in times]
    tiles = torch.stack(noisy, dim=1).flatten(0, 1).numpy()
    sheet = pictures.labelled_grid(tiles, column_labels=[f"t = {t:g}" for t in FORWARD_TIMES])
    words = "Held-out pictures on their way to noise: x_t = alpha(t) x0 + sigma(t) eps, shown at the data's size."
    return Section("The forward process", words, [_png(sheet, "Pictures with growing noise at ten times")])


def data_section(dataset: Dataset) -> Section:
    """What the model was trained on."""
    columns = 12
    media = np.array(dataset.train.pictures[: 3 * columns])
    counts = [("training pictures", len(dataset.train)), ("held-out pictures", len(dataset.heldout))]
    items: list[tuple[str, Cell]] = [
        *counts,
        ("size", "×".join(map(str, dataset.shape))),
        ("licence", dataset.licence),
        ("source", dataset.source),
    ]
    items += [("fingerprint", dataset.fingerprint[:16]), *(("note", note) for note in dataset.notes)]
    return Section("Data", "", [_png(pictures.grid(media, columns=columns), "Training pictures"), KeyValues(items)])


def curves_section(folder: Path) -> Section:
    """Loss, learning rate, throughput and gradients against images seen."""
    charts = [Chart(svg) for svg in loss_charts(read_metrics(folder / "metrics.jsonl")).values()]
    blocks: list[Block] = [*charts[:1], Row(charts[1:])] if len(charts) > 1 else [*charts]
    return Section("Training", "", blocks)


def making_section(folder: Path, told: Mapping[str, Any]) -> Section:
    """All evaluations, the facts that the model's card tells, and the recipe."""
    facts: list[tuple[str, Cell]] = [(key.replace("_", " "), value) for key, value in told.items()]
    blocks: list[Block] = [KeyValues(facts), Code((folder / RECIPE).read_text(), "The recipe")]
    if measured := [entry for entry in evaluations(folder) if of_samples(entry)]:
        heads, pick = COMPARED[
            "text" if any(name in entry for entry in measured for name in TEXT_METRICS) else "picture"
        ]
        columns = ["date", "sampler", "steps", "n", *heads]
        blocks.insert(0, Table(columns, [[*_line(entry), *pick(entry)] for entry in measured], "Evaluations"))
    return Section("How it was made", "", blocks)


def _line(entry: Mapping[str, Any]) -> list[Any]:
    sampling = entry["sampling"]
    return [
        entry["date"][:16].replace("T", " "),
        sampling["sampler"],
        sampling["steps"],
        entry["n"],
    ]


def _distances(entry: Mapping[str, Any]) -> list[Any]:
    found = entry.get("frechet") or {}
    return [found.get(key) for key in ("value", "floor", "ceiling")]


COMPARED: dict[str, tuple[tuple[str, ...], Callable[[Mapping[str, Any]], list[Any]]]] = {
    "picture": (("Fréchet", "floor", "ceiling"), _distances),
    "text": (texts_told.COMPARED, texts_told.compared),
}
"""What the table of evaluations has of pictures and of texts: its columns, and an evaluation's cells."""


def _likelihood(found: Mapping[str, Any]) -> Figure:
    beside = [f"flow {found['flow']['value']:.3f}"]
    beside += [
        f"{words} {found[key]['value']:.3f}"
        for key, words in (("gaussian", "one Gaussian"), ("pixels", "each pixel alone"))
        if key in found
    ]
    error = found["bound"]["standard_error"]
    detail = f"variational bound ± {error:.3f}, held-out pictures; {', '.join(beside)}; trained with the weight {found['weight']!r}"
    return Figure("Negative log-likelihood", found["bound"]["value"], detail, "bits/dim", n=found["n"])


def _nearness(near: Mapping[str, Any]) -> str:
    return (
        f"nearest training picture: {near['median']:.1f} grey levels from a sample, "
        f"{near['heldout_median']:.1f} from a held-out picture (medians)"
    )


def _png(sheet: Any, alt: str) -> Picture:
    return Picture(pictures.png_bytes(sheet), alt)
