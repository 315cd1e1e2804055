"""Studies: a question about sampling, answered with one model, many ways of sampling it, and the same measures of each.

    noise.py    one study: its cells, what is measured, what its page shows beside the common part
    steps.py    another: several samplers at several numbers of evaluations
    guidance.py another: quality against what is shown, as guidance grows
    size.py     another: a Fréchet distance against the number of samples
    study.py    Study and Cell: what a study is
    ground.py   what every cell is measured against, made once, and the measures
    run.py      the runner: samples and measures each cell, keeps each as soon as it is there
    page.py     the results as a self-contained page

A new study is one file like noise.py and one entry here.
"""

from __future__ import annotations

from carrara.evaluation.studies.guidance import GUIDANCE
from carrara.evaluation.studies.noise import NOISE
from carrara.evaluation.studies.size import SIZE
from carrara.evaluation.studies.steps import STEPS
from carrara.evaluation.studies.study import Cell, Study

STUDIES: dict[str, Study] = {study.name: study for study in (NOISE, STEPS, GUIDANCE, SIZE)}

__all__ = ["STUDIES", "Cell", "Study"]
