"""A student against its teacher: the Fréchet distance at 1, 2 and 4 evaluations, `make bench-distill`.

The reference is the teacher sampled DDPM's way, ancestral in 1000 steps; samples are kept by the hundred, as in
benchmarks.steps, so the command can be stopped and goes on where it was. No guidance anywhere.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import carrara
from benchmarks.recipes import carrara as command
from benchmarks.result import report
from benchmarks.steps import DDPM, LOGISTIC, samples
from carrara.evaluation.measure import Yardstick, yardstick
from carrara.model import Model
from carrara.training.run import dataset_of

TEACHER = Path("runs/fashion")
STUDENT = Path("runs/distill")
IMAGES = 48_000
BACKEND = "torch-bf16"
"""Of all samples: a thousand evaluations for each of a thousand pictures take a quarter of an hour in it."""
STUDENTS: dict[str, dict[str, Any]] = {f"student_{count}": {"steps": count} for count in (1, 2, 4)}
"""The student's own sampling, in so many evaluations."""
TEACHERS: dict[str, dict[str, Any]] = {
    "teacher_ddpm_1000": DDPM,
    **{
        f"teacher_adams_logistic_{count}": {"sampler": "adams", "steps": count, "times": LOGISTIC}
        for count in (8, 4, 2)
    },
    **{
        f"teacher_euler_logistic_{count}": {"sampler": "euler", "steps": count, "times": LOGISTIC}
        for count in (8, 4, 2, 1)
    },
}
"""The teacher at many evaluations and at few; at one, every sampler without noise takes Euler's step."""

NOTES = {
    "ratio_1": "the student's distance at 1 evaluation over the teacher's at 1000",
    "ratio_2": "the same at 2 evaluations",
    "ratio_4": "the same at 4 evaluations",
    "frechet": "Fréchet distance of each way to sample",
    "floor": "the same for held-out pictures",
    "ceiling": "the same for uniform noise",
    "n": "pictures behind each distance",
    "training_seconds": "of the student, from its teacher to its model",
}


def main() -> None:
    """Trains the student where it is not trained, samples what is missing, measures everything, reports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=1000, help="samples of each way, a multiple of 100")
    n = parser.parse_args().n
    command("train", "distill", "--teacher", str(TEACHER), "--images", str(IMAGES), "--out", str(STUDENT))
    teacher, student = (carrara.load(path, backend=BACKEND) for path in (TEACHER, STUDENT))
    measure = yardstick(dataset_of(teacher.recipe), n)
    found = {**distances(student, STUDENTS, measure), **distances(teacher, TEACHERS, measure)}
    ratios = {f"ratio_{count}": found[f"student_{count}"] / found["teacher_ddpm_1000"] for count in (1, 2, 4)}
    scale = {"floor": measure.floor, "ceiling": measure.ceiling, "n": n, "reference": measure.reference}
    training = {
        "training_seconds": student.facts["training_seconds"],
        "images": student.facts["training_images_seen"],
    }
    report("distill", {**ratios, "frechet": found, **scale, **training}, NOTES)


def distances(model: Model, ways: dict[str, dict[str, Any]], measure: Yardstick) -> dict[str, float]:
    """The Fréchet distance of each way to sample the model, said as it is known."""
    found = {}
    for name, way in ways.items():
        found[name] = measure.measure(samples(model, name.removeprefix("teacher_"), way, measure.n)).value
        print(f"{name:24s} {found[name]:8.2f}", flush=True)
    return found


if __name__ == "__main__":
    main()
