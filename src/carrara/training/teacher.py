"""The teacher of a distillation: what a student's recipe takes from it, and whether it can teach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from carrara import files, tensors
from carrara.errors import InputError, RecipeError
from carrara.kinds import DIFFUSION, check_kind
from carrara.model import DESCRIPTION, WEIGHTS, Model, load, model_folder
from carrara.recipe import Recipe, changed, check, parse, text_of

TAUGHT = ("data", "codec", "condition", "network", "schedule", "prediction", "weight", "variance", "train_times")
"""The sections of a recipe in which a student is what its teacher is."""

KIND = "distill"


def read(source: str | Path, changes: Sequence[str] = (), teacher: Path | None = None) -> Recipe:
    """The recipe as carrara.recipe.read gives it; that of a distillation has its teacher's sections and weights' hash in it.

    `teacher`: the folder of a run or of a model, in place of the recipe's own. Raises InputError where there is no teacher, or
    where one is given to a recipe that needs none; RecipeError where a change is made to what the teacher decides.
    """
    content = changed(parse(text_of(source), str(source)), changes)
    options = content.get("trainable")
    if not isinstance(options, dict) or options.get("kind") != KIND:
        if teacher is not None:
            raise InputError(
                f"the recipe {source} has no teacher; --teacher goes with a recipe of trainable.kind {KIND!r}, such as distill"
            )
        return check(content)
    for change in changes:
        section = change.partition("=")[0].partition(".")[0]
        if section in TAUGHT:
            raise RecipeError(f"--set {change}: a student's {section} is its teacher's; leave it out")
    folder = teacher or options.get("teacher")
    if not isinstance(folder, str | Path):
        raise InputError("a distillation needs a teacher: --teacher FOLDER, the folder of a finished run")
    return check(taught(content, Path(folder)))


def taught(content: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The content with what the teacher in this folder decides put in, and which teacher that is."""
    try:
        place = model_folder(folder)
    except InputError as error:
        raise InputError(
            f"there is no teacher in {folder}: {'it holds no finished model' if folder.is_dir() else 'no such folder'}. "
            "Train one first, e.g. carrara train fashion, and give its folder with --teacher"
        ) from error
    about = files.read_json(place / DESCRIPTION)
    check_kind(about, place, DIFFUSION)
    sections = about["recipe"]
    if sections.get("trainable", {}).get("kind") == KIND:
        raise InputError(
            f"the model in {folder} is itself a student: it believes in pictures, not in means of them, and has no path to walk. "
            f"Give its own teacher, {sections['trainable']['teacher']}"
        )
    which = {"teacher": str(folder), "teacher_sha256": tensors.sha256(tensors.load(place / WEIGHTS))}
    decided = {name: sections[name] for name in TAUGHT if name in sections}
    return {**content, **decided, "trainable": {**content["trainable"], **which}}


def load_teacher(folder: Path, sha256: str | None, student: Model) -> Model:
    """The teacher, frozen. Raises InputError where its weights are not those that were meant, or it is no such student's."""
    teacher = load(folder)
    found = tensors.sha256(teacher.denoiser.network.state_dict())
    if sha256 is not None and found != sha256:
        raise InputError(
            f"the teacher in {folder} has other weights ({found[:12]}…) than the run began with ({sha256[:12]}…); "
            "put those back, or choose another folder with --out"
        )
    for section in TAUGHT[1:]:
        theirs, ours = (dict(model.recipe.sections[section]) for model in (teacher, student))
        if theirs != ours:
            raise InputError(
                f"the student's {section} is {ours} and its teacher's is {theirs}; they must be the same"
            )
    if (teacher.shape, teacher.classes) != (student.shape, student.classes):
        raise InputError(
            f"the teacher in {folder} makes pictures {teacher.shape} of {len(teacher.classes)} classes, and the data has "
            f"{student.shape} and {len(student.classes)}; give the data that it was trained on"
        )
    teacher.denoiser.requires_grad_(False)
    return teacher
