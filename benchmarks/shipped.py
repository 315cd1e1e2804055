"""Every recipe that no other benchmark trains, for a few minutes each, as a user would: `make bench-recipes`.

None is at its best after so short a time; what is shown is that each learns, and where it stands: pictures by their Fréchet
distance beside floor and ceiling, texts by a bound of the bits a character of held-out text takes beside what each token takes
alone, the autoencoder by what comes back.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.recipes import carrara
from benchmarks.result import report
from carrara import files

RUNS = Path("runs/shipped")


@dataclass(frozen=True)
class Pictures:
    """A model of pictures, and what it is trained and sampled with besides its recipe."""

    training: Sequence[str] = ()
    sampling: Sequence[str] = ()

    def figures(self, run: Path, n: int) -> dict[str, Any]:
        """The Fréchet distance of n samples."""
        words = ("-n", str(n), "--metrics", "frechet", "--backend", "torch-bf16", *self.sampling)
        found = evaluated(run, *words)
        distance = found["frechet"]
        facts = {key: distance[key] for key in ("floor", "ceiling", "n", "reference", "features")}
        how = {key: found["sampling"][key] for key in ("sampler", "steps", "guidance_scale")}
        return {"frechet": distance["value"], **facts, **how, "evaluations": found["evaluations_per_sample"]}


@dataclass(frozen=True)
class Texts:
    """A model of texts."""

    training: Sequence[str] = ()

    def figures(self, run: Path, n: int) -> dict[str, Any]:
        """The bound of the bits of n held-out windows."""
        found = evaluated(run, "-n", str(n), "--metrics", "bits")["bits"]
        return {key: found[key] for key in ("per_character", "standard_error", "unigram", "uniform", "n")}


@dataclass(frozen=True)
class Autoencoder:
    """An autoencoder, whose report has measured what comes back."""

    training: Sequence[str] = ()

    def figures(self, run: Path, n: int) -> dict[str, Any]:
        """What comes back of held-out pictures."""
        found = files.read_json(run / "figures.json")[-1]
        distance = found["reconstruction_frechet"]
        facts = {key: distance[key] for key in ("floor", "ceiling", "n", "reference", "features")}
        return {"psnr": found["psnr"], "ssim": found["ssim"], "frechet": distance["value"], **facts}


RECIPES: Mapping[str, Pictures | Texts | Autoencoder] = {
    "kl-fashion": Autoencoder(),
    "fashion-latent": Pictures(("--set", f"codec.model={RUNS / 'kl-fashion'}")),
    "fashion-dit": Pictures(),
    # Its previews, of 250 steps, would take most of the time.
    "ddpm-fashion": Pictures(("--set", "training.previews=1"), ("--steps", "50")),
    "iddpm-fashion": Pictures(),
    "gloss": Texts(),
    "chinese": Texts(),
}
NOTES = {
    **dict.fromkeys(
        RECIPES,
        "frechet of samples (of an autoencoder: of what comes back) beside floor and ceiling; or bits a character",
    ),
    "minutes": "of training of each, by the command line's own count",
}


def main() -> None:
    """Trains what is not trained, measures, reports."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=3.0, help="of training of each")
    parser.add_argument("-n", type=int, default=1000, help="samples of a model of pictures")
    parser.add_argument("--windows", type=int, default=200, help="held-out windows of a model of texts")
    asked = parser.parse_args()
    found = {}
    for name, kind in RECIPES.items():
        run = RUNS / name
        carrara("train", name, "--minutes", f"{asked.minutes:g}", "--out", str(run), *kind.training)
        n = asked.windows if isinstance(kind, Texts) else asked.n
        found[name] = {**trained(run), **kind.figures(run, n)}
    report("recipes", {**found, "minutes": asked.minutes}, NOTES)


def evaluated(run: Path, *words: str) -> dict[str, Any]:
    """The figures of one evaluation of a run."""
    carrara("evaluate", str(run), *words)
    newest: dict[str, Any] = files.read_json(run / "figures.json")[-1]
    return newest


def trained(run: Path) -> dict[str, Any]:
    """What a run's training was."""
    facts = files.read_json(run / "model" / "model.json")["facts"]
    return {key: facts[key] for key in ("training_images_seen", "training_seconds", "precision", "kernels")}


if __name__ == "__main__":
    main()
