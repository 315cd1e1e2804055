"""How many bits the model of runs/fashion needs for held-out pictures: `make bench-likelihood [N=200]`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.result import report
from carrara.cli.voice import Voice
from carrara.evaluation.nll import Nll, nll
from carrara.model import load
from carrara.training.run import dataset_of

PICTURES = 200
NOTES = {
    "bound": "variational bound, bits for each number of a picture, no guidance, true labels",
    "bound_l_t": "its first term: what the prior does not know",
    "bound_diffusion": "its sum over all steps, in continuous time",
    "bound_l_0": "its last term: from the first noise level to the picture",
    "flow": "probability-flow ODE from the same first noise level, by the same decoder",
    "flow_grid_error": "how far twice the steps move its mean",
    "flow_uniform": "the ODE on uniformly dequantised pictures",
    "gaussian": "one Gaussian: mean and covariance of the training pictures",
    "pixels": "each pixel alone: a histogram over the training pictures, plus one",
    "uniform": "nothing known",
    "n": "held-out pictures, the same for all",
    "weight": "what the model was trained with; the bound's own is vlb",
    "seconds": "for all of it, the plain models included",
}
NAMES = {
    "bound": "bound",
    "prior": "bound_l_t",
    "diffusion": "bound_diffusion",
    "reconstruction": "bound_l_0",
    "flow": "flow",
    "flow_uniform": "flow_uniform",
    "gaussian": "gaussian",
    "pixels": "pixels",
}


def flat(found: Nll) -> dict[str, Any]:
    """The figures with their standard errors, on one level."""
    plain = found.as_dict()
    figures: dict[str, Any] = {}
    for key, name in NAMES.items():
        if key in plain:
            figures[name] = plain[key]["value"]
            figures[f"{name}_se"] = plain[key]["standard_error"]
    others = {name: plain[name] for name in ("flow_grid_error", "uniform", "n", "weight", "effort")}
    return {**figures, **others}


def main(n: int = PICTURES) -> None:
    """Measures n pictures."""
    model = load(Path("runs/fashion"))
    dataset = dataset_of(model.recipe)
    start = time.monotonic()
    with Voice().counting() as progress:
        found = nll(model, dataset, n, progress=progress)
    errors = {f"{name}_se": "its standard error" for name in NAMES.values()}
    report("likelihood", {**flat(found), "seconds": round(time.monotonic() - start, 1)}, NOTES | errors)


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:2]))
