"""What does guidance buy, and what does it cost? One sampler, several strengths: pictures' quality against what they show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from carrara.errors import InputError
from carrara.evaluation.studies.study import Cell, Study

if TYPE_CHECKING:
    from carrara.evaluation.report import Section
    from carrara.model import Model

LINE = "guided"

QUESTION = """\
Classifier-free guidance moves the belief away from what the network believes without its condition: belief = weak + scale · \
(strong − weak), and scale 1 is none. More of it shows what was asked for more plainly, and shows less of everything else: \
pictures become alike.

So two figures are drawn against each other, a point for each scale: how many samples are read as what was asked for, and how \
far all of them together lie from real pictures. The lower right is where one would like to be. Recall, and the distance between \
pictures of one class, tell what was lost on the way."""

CURVE = "Each point is a scale, in their order from the one end of the line to the other."


def cells(model: Model, values: Sequence[float]) -> list[Cell]:
    """The model's own way of sampling at every scale."""
    if model.condition.null(1) is None:
        raise InputError("the study 'guidance' needs a model with a condition, such as labels; this one has none")
    if not values or len(set(values)) < len(values) or min(values) < 0:
        raise InputError(f"the study needs different scales of 0 or more, at least one; got {list(values)}")
    return [Cell(LINE, scale, {"guidance_scale": scale}) for scale in sorted(values)]


def sections(result: Mapping[str, Any]) -> list[Section]:
    """Fréchet distance against the share read as asked, as Imagen's paper shows FID against CLIP score (Saharia et al., 2022)."""
    from carrara.evaluation.charts import line_chart
    from carrara.evaluation.report import Chart, Row, Section

    shown = [cell for cell in result["cells"] if cell["read"] is not None]
    if not shown:
        return []
    lines = {"scale " + " … ".join(f"{shown[i]['x']:g}" for i in (0, -1)): points(shown)}
    real = {"held out": ([result["heldout"]["read"]], [result["heldout"]["frechet"]])}
    chart = line_chart(lines | real, "Quality against what is shown", "share read as asked", "Fréchet distance")
    return [Section("The bargain", CURVE, [Row([Chart(chart)])])]


def points(shown: Sequence[Mapping[str, Any]]) -> tuple[list[float], list[float]]:
    """The share read as asked, and the Fréchet distance, of each cell."""
    return [cell["read"] for cell in shown], [cell["frechet"] for cell in shown]


GUIDANCE = Study(
    name="guidance",
    title="What guidance buys",
    question=QUESTION,
    axis="scale",
    values=(1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 8.0),
    sets=("guidance_scale",),
    cells=cells,
    measures=("frechet", "read", "precision", "recall", "coverage", "apart_in_class"),
    sections=sections,
)
