"""The report of a run: what it was trained on, what it makes, how it got there, and how good it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from carrara import files
from carrara.codecs.base import x0_of
from carrara.conditions.base import examples
from carrara.data import Dataset
from carrara.evaluation import media, told
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
from carrara.processes import NUMBERS, ORDERED, PLANNED, TOKENS
from carrara.rng import Streams
from carrara.tokens import AutoregressiveDenoiser
from carrara.training.examples import examples_of
from carrara.training.run import RECIPE, SAMPLES, dataset_of

REPORT, FILM = "report.html", "film"
PER_CLASS = 8
HIDDEN = "Something held out on its way to the mask: at t each token still shows with the probability alpha(t)."
FORWARD_TIMES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.85, 1.0)
FORWARD = {
    NUMBERS: "Held-out pictures on their way to noise: x_t = alpha(t) x0 + sigma(t) eps, shown at the data's size.",
    TOKENS: HIDDEN,
    ORDERED: HIDDEN,
    PLANNED: "Something held out on its way to the mask: at t a share alpha(t) of the plan's rounds still shows, the first ones.",
}
"""What is to be seen of a process."""


def write_report(folder: Path) -> Path:
    """Writes report.html for a finished run, as its kind of model has it. Returns its path."""
    write_it: Callable[[Path], Path] = imported("report", KINDS[kind_of(folder)].report)
    return write_it(folder)


def of_diffusion(folder: Path) -> Path:
    """Writes report.html for a finished run of a diffusion model, from its model, data, metrics and figures, and the film
    beside it.

    Returns the report's path.
    """
    model = load(folder)
    dataset = dataset_of(model.recipe)
    sections = [samples_section(model), film_section(folder, model), forward_section(model, dataset)]
    sections += [data_section(dataset), curves_section(folder), previews_section(folder)]
    sections += [making_section(folder, model.facts)]
    lead = Figures(figures(model, evaluations(folder)))
    facts = model.facts
    subtitle = (
        f"{model.parameters / 1e6:.2f} million parameters, {facts.get('training_images_seen', 0):,} "
        f"{media.made_by(model.shape).examples} seen "
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
    settings, medium = model.sampling, media.made_by(model.shape)
    how = f"sampler {settings.sampler}, {settings.steps} steps, {settings.evaluations() or 'varying'} evaluations"
    if "label" not in (model.condition.null(1) or {}):
        drawn, asked = model.sample(medium.shown), examples(model.condition, medium.shown)
        notes = [{name: texts[seed] for name, texts in asked.items()} for seed in range(medium.shown)]
        heads = [media.head({"seed": seed, **note}) for seed, note in enumerate(notes)]
        prompts = asked.get("prompt", ())
        guided = (
            f", guidance {settings.guidance_scale:g}; the prompts are captions of held-out pictures"
            if prompts
            else ""
        )
        words = (
            f"Seeds 0 to {medium.shown - 1}, a {medium.noun}'s is its place, counted from 0 in rows; {how}{guided}."
        )
        return Section("Samples", words, [medium.samples(drawn, heads, prompts=prompts)])
    classes = model.classes[:20]
    labels = [name for name in classes for _ in range(PER_CLASS)]
    heads = [media.head({"seed": seed, "label": label}) for seed, label in enumerate(labels)]
    shown = medium.samples(model.sample(len(labels), label=labels), heads, classes)
    seeds = f"seeds 0 to {len(labels) - 1} in their order"
    words = f"A row a class, none of them chosen; {seeds}; {how}, guidance {settings.guidance_scale:g}."
    return Section("Samples", words, [shown])


def film_section(folder: Path, model: Model, count: int = 8) -> Section:
    """The denoising film of the first samples, with what to look at; it is written into the folder too."""
    medium = media.made_by(model.shape)
    file, block = medium.film_of(list(model.film(range(count))), [f"seed {seed}" for seed in range(count)])
    files.write(folder / f"{FILM}{file.suffix}", file.data)
    words = "Left: x at time t. Right: the x0 that the network believes in at that moment."
    return Section("Denoising", words, [block])


def forward_section(model: Model, dataset: Dataset, rows: int = 4) -> Section:
    """The forward process at ten times; none of a model that learns from what is whole."""
    if isinstance(model.denoiser, AutoregressiveDenoiser):
        return Section("The forward process")
    process, decode = model.denoiser.process, model.codec.decode
    x0 = heldout_x0(model, dataset, rows)
    times = torch.tensor(FORWARD_TIMES, dtype=torch.float64)
    noisy = [decode(process.shown(process.corrupt(x0, t, Streams(range(len(x0))))[0], t)) for t in times]
    block = media.made_by(model.shape).way(noisy, [f"t = {t:g}" for t in FORWARD_TIMES])
    return Section("The forward process", FORWARD[process.made_of], [block])


def heldout_x0(model: Model, dataset: Dataset, rows: int) -> Tensor:
    """x0 of the first held-out examples, `rows` or as many as there are."""
    unseen = examples_of(dataset, model.codec)[1]
    kept = unseen.x0(unseen.batch(np.arange(min(rows, len(unseen)))), torch.device("cpu"))
    return x0_of(model.codec, kept)


def previews_section(folder: Path) -> Section:
    """Texts that were sampled on the way, of the averaged weights, each folded; none where previews are pictures."""
    found = sorted((folder / SAMPLES).glob("*-ema.txt"))
    blocks = [Code(path.read_text(), f"after {int(path.name.partition('-')[0]):,} windows") for path in found]
    words = "The same seeds with the weights as they were averaged until then."
    return Section("Samples on the way", words, blocks)


def data_section(dataset: Dataset) -> Section:
    """What the model was trained on."""
    medium = media.made_by(dataset.shape)
    items: list[tuple[str, Cell]] = [
        (f"training {medium.noun}s", len(dataset.train)),
        (f"held-out {medium.noun}s", len(dataset.heldout)),
        ("size", medium.extent(dataset)),
        ("licence", dataset.licence),
        ("source", dataset.source),
    ]
    items += [("fingerprint", dataset.fingerprint[:16]), *(("note", note) for note in dataset.notes)]
    return Section("Data", "", [medium.data(dataset), KeyValues(items)])


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
