"""The report of a CLIP's run: what it finds among pictures and captions that it has never seen, and how it got there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from carrara.clip.encoders import encoded
from carrara.clip.model import ClipModel, load
from carrara.clip.retrieval import AT, figures, picked
from carrara.clip.sheets import FOUND, PREVIEW, found_pictures, nearest
from carrara.data import Dataset
from carrara.evaluation.charts import line_chart, read_metrics
from carrara.evaluation.pictures import png_bytes
from carrara.evaluation.report import Block, Chart, Figure, Figures, Picture, Report, Row, Section, Table, write
from carrara.evaluation.summary import REPORT, curves_section, data_section, making_section
from carrara.training.run import dataset_of

LEARNT = {
    "true above another's": "true_above_shuffled_ema",
    **{f"among the best {k}": f"text_to_image_at_{k}_ema" for k in reversed(AT)},
}


def write_report(folder: Path) -> Path:
    """Writes report.html for a finished run of a CLIP, from its model, data and metrics. Returns its path."""
    model = load(folder)
    dataset = dataset_of(model.recipe)
    rows, similarity = compared(model, dataset)
    captions = [(dataset.heldout.captions or ())[row] for row in rows]
    media = np.array(dataset.heldout.pictures[rows])
    sections = [pictures_section(media, captions, similarity), captions_section(captions, similarity)]
    sections += [retrieval_section(folder), curves_section(folder), data_section(dataset)]
    sections += [making_section(folder, model.facts)]
    facts = model.facts
    subtitle = (
        f"Pictures and texts in one space of {model.dim} dimensions: {model.parameters / 1e6:.2f} million trained parameters "
        f"over {model.pictures.name} and {model.words.name}; {facts.get('training_images_seen', 0):,} pairs seen in "
        f"{facts.get('training_seconds', 0)} s"
    )
    lead = Figures(tiles(figures(similarity), len(rows)))
    return write(Report(model.recipe.name, subtitle, [s for s in sections if s.blocks], [lead]), folder / REPORT)


def compared(model: ClipModel, dataset: Dataset) -> tuple[Sequence[int], Tensor]:
    """The held-out pairs that figures are of, and their similarity (N, N), pictures × captions."""
    rows, split = picked(len(dataset.heldout)), dataset.heldout
    media = torch.from_numpy(np.array(split.pictures[rows]))
    pictures = model.of_pictures(encoded(model.pictures, media, len(rows)))
    return rows.tolist(), pictures @ model.texts([(split.captions or ())[row] for row in rows]).T


def tiles(found: Mapping[str, float], count: int) -> list[Figure]:
    """The figures at the top, each with what chance gives."""
    told = "a picture fits its own caption better than another's"
    first = Figure("True above another's", 100 * found["true_above_shuffled"], told, "%", count, 100, 50)
    words = "of captions have their own picture among the best {}; of pictures {:.1f} % their own caption"
    return [
        first,
        *(
            Figure(
                f"Found among the best {k}",
                100 * found[f"text_to_image_at_{k}"],
                words.format(k, 100 * found[f"image_to_text_at_{k}"]),
                "%",
                count,
                100,
                100 * k / count,
            )
            for k in AT
        ),
    ]


def pictures_section(media: Any, captions: Sequence[str], similarity: Tensor) -> Section:
    """Held-out captions with the pictures that are found for them."""
    count = min(2 * PREVIEW, len(captions))
    halves = [range(start, min(start + PREVIEW, count)) for start in range(0, count, PREVIEW)]
    sheets = [png_bytes(found_pictures(media, captions, similarity, rows)) for rows in halves]
    alt = "Captions, each with its own picture and the five that are nearest to it"
    words = (
        f"Left the picture that a caption belongs to, right the {FOUND} of {len(captions)} held-out pictures that are nearest "
        "to it, the nearest first. None were chosen, and none were seen in training."
    )
    return Section("Pictures found for captions", words, [Row([Picture(sheet, alt) for sheet in sheets])])


def captions_section(captions: Sequence[str], similarity: Tensor) -> Section:
    """The other way: the captions nearest to each picture."""
    best = nearest(similarity, FOUND)[:PREVIEW]
    lines: list[list[Any]] = [
        [captions[row], "; ".join(captions[column] for column in found)] for row, found in enumerate(best)
    ]
    caption = f"The {FOUND} of {len(captions)} captions nearest to a picture"
    return Section("Captions found for pictures", "", [Table(["the picture's own", "found"], lines, caption)])


def retrieval_section(folder: Path) -> Section:
    """How well held-out pairs were found while it learnt."""
    metrics = read_metrics(folder / "metrics.jsonl")
    series = {words: metrics[name] for words, name in LEARNT.items() if name in metrics}
    if not series:
        return Section("Retrieval", "", [])
    blocks: list[Block] = [Chart(line_chart(series, "Held-out retrieval", "pairs seen", "share"))]
    words = "The loss of the held-out pairs is among all of them, that of training among a batch: only their courses compare."
    return Section("Retrieval", words, blocks)
