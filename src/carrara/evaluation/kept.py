"""What evaluations leave behind: figures.json in the run's folder, and the figures on the model's card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carrara import files
from carrara.errors import DamagedFile
from carrara.evaluation import told
from carrara.evaluation.metrics import of_samples
from carrara.evaluation.settings import plain
from carrara.evaluation.texts import told as texts_told

if TYPE_CHECKING:
    from carrara.model import Model

FIGURES = "figures.json"
KEY = ("weights_sha256", "n", "seed", "sampling", "features", "data_fingerprint", "backend", "reference_sha256")
"""What two evaluations must share to be one."""


def keep(folder: Path, figures: Mapping[str, Any]) -> Path:
    """Puts an evaluation into the folder's figures.json, a list with the newest last, and returns its path.

    One of the same samples and data is joined with it: figures measured again are replaced, others stay. All other
    evaluations stay as they are.
    """
    path = folder / FIGURES
    with files.in_turn(folder):
        known = evaluations(folder)
        same = [entry for entry in known if _key(entry) == _key(figures)]
        joined = {name: value for entry in same for name, value in entry.items()} | dict(figures)
        files.write_json(path, [*(entry for entry in known if entry not in same), joined])
    return path


def evaluations(folder: Path) -> list[dict[str, Any]]:
    """Those in the folder's figures.json, the newest last. Raises DamagedFile where they cannot be read."""
    path = folder / FIGURES
    try:
        known: list[dict[str, Any]] = files.read_json(path) if path.is_file() else []
    except DamagedFile as error:
        raise DamagedFile(
            f"{error}. Move it away, or put it back from a copy: new figures are added to it"
        ) from error
    return known


def note(model: Model, folder: Path, figures: Mapping[str, Any]) -> None:
    """Writes an evaluation's figures on the card of the model in `folder`, each with what it must be compared with.

    They take the place of those of another evaluation: a card speaks of one way of sampling. A likelihood needs no samples,
    and stays.
    """
    sampling, facts = figures["sampling"], {}
    if of_samples(figures):
        for name in (*told.NOTED, *texts_told.NOTED):
            model.facts.pop(name, None)
        facts["measured_with"] = (
            f"{sampling['sampler']}, {sampling['steps']} steps, guidance {sampling['guidance_scale']:g}"
            + (f", {figures['backend']}" if "backend" in figures else "")
        )
    model.facts.update(facts | told.card(figures) | texts_told.card(figures))
    model.save(folder)


def _key(entry: Mapping[str, Any]) -> list[Any]:
    return [plain(entry.get(name)) for name in KEY]
