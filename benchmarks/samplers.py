"""Our samplers beside the peers' at equal evaluations of the denoiser: `make bench-samplers`.

Without noise: the root mean square error at the end of the path, against the ODE solved to eleven digits. Each side has the same
grids to choose from, and each picks the best of all its candidates for each budget (what a user who tries everything gets); beside
that, one choice for all problems, and our grids tuned on points of their own.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks import peers
from benchmarks.candidates import OUR_GRIDS, PEER_GRIDS, end, ours, settings, steps_within
from benchmarks.noisy import noisy
from benchmarks.problems import POINTS, SETS, Problem, further_problems, main_problems
from benchmarks.result import report
from benchmarks.step_cost import step_us
from carrara.samplers import SAMPLERS
from carrara.tuning import tune_among

BUDGETS = (5, 10, 18, 40)
SHOWN = 5
TUNED = ("adams 3 x0 angle", "adams 4 x0 angle", "adams 3 eps angle", "unipc 3", "lms 4")
"""The samplers for which a grid is tuned; which of them is judged, the held-out tuning points decide."""
TUNING_POINTS, TUNING_SEED = 256, 1000

Grids = Mapping[str, Callable[[int], Tensor]]

Errors = dict[int, dict[str, list[float]]]
"""budget -> candidate -> its error on each set of points."""

NOTES = {
    "mixture2d": "ratio_n: our best root mean square error / the peers' best, at n evaluations, 64 points; tuned_: with a tuned "
    "grid; _sets: the median over 5 sets of points; _mixtures: over 3 more mixtures; _unhelped: without those of the peers' that "
    "give NaN at sigma = 0, which we end with the belief before it",
    "mixture16d": "the same in 16 dimensions",
    "fixed": "one sampler and grid of ours for all problems and budgets / one of the peers'",
    "fixed_each": "the same, chosen anew for each budget",
    "noisy": "samplers that add noise: sliced Wasserstein distance to exact samples of the plane's mixture",
    "step_us": "microseconds of a step apart from the network, x of shape (1, 3, 32, 32): ours, diffusers', ratio",
    "n": "points behind each error; sets of so many; candidates of each side (samplers × grids)",
    "seconds": "seconds of this benchmark",
}


def judged(problem: Problem, side: Mapping[str, peers.Peer], grids: Grids) -> Errors:
    """The errors of every candidate of one side at every budget."""
    errors: Errors = {budget: {} for budget in BUDGETS}
    for budget in BUDGETS:
        for name, peer in side.items():
            for grid, make in grids.items():
                sigmas = make(steps_within(budget, peer.evaluations))
                found = problem.errors(peer.walk(problem.denoise, problem.x, sigmas))
                errors[budget][f"{name}, {grid}"] = found
    return errors


def ranked(errors: Mapping[str, list[float]], k: int = 0) -> list[tuple[str, float]]:
    """The candidates by their error on set k, best first."""
    return sorted(((name, found[k]) for name, found in errors.items()), key=lambda item: item[1])


def ratio(mine: Mapping[str, list[float]], theirs: Mapping[str, list[float]], k: int = 0) -> float:
    """Our best on set k over theirs."""
    return ranked(mine, k)[0][1] / ranked(theirs, k)[0][1]


def tuned(problem: Problem, budget: int) -> tuple[str, list[float]]:
    """(sampler, its errors on each set) with a grid tuned on other points than those it is judged by."""
    chosen = {label: settings()[label] for label in TUNED}
    walks = {label: partial(SAMPLERS[name].walk, **options) for label, (name, options) in chosen.items()}
    label, found = tune_among(problem.denoiser, problem.starts(TUNING_SEED, TUNING_POINTS), budget, walks)
    name, options = chosen[label]
    return label, problem.errors(end(problem, name, options, problem.x, found.times))


def of_problem(problem: Problem, mine: Errors, theirs: Errors, others: list[tuple[Errors, Errors]]) -> dict[str, Any]:
    """The figures named after one problem; `others` are its like, with other parameters."""
    figures: dict[str, Any] = {}
    for n in BUDGETS:
        a, b = mine[n], theirs[n]
        best = [ranked(b, k)[0][1] for k in range(SETS)]
        label, with_grid = tuned(problem, n)
        sets = [ratio(a, b, k) for k in range(SETS)]
        figures |= {
            f"ratio_{n}": rounded(ratio(a, b)),
            f"tuned_ratio_{n}": rounded(with_grid[0] / best[0]),
            f"ratio_{n}_unhelped": rounded(ratio(a, {name: e for name, e in b.items() if peers.HELPED not in name})),
            f"ratio_{n}_sets": rounded(statistics.median(sets)),
            f"tuned_ratio_{n}_sets": rounded(statistics.median(e / p for e, p in zip(with_grid, best, strict=True))),
            f"ratio_{n}_mixtures": rounded(statistics.median(ratio(x[n], y[n]) for x, y in others)),
            f"tuned_{n}": [label, rounded(with_grid[0])],
            f"ours_{n}": shown(a),
            f"peers_{n}": shown(b),
            f"each_{n}": by_sampler(a),
        }
    return figures


def shown(errors: Mapping[str, list[float]]) -> list[list[Any]]:
    """The best few, as [name, error]; those that come to the same within a millionth are one."""
    few: list[list[Any]] = []
    for name, error in ranked(errors):
        if math.isfinite(error) and not (few and math.isclose(error, few[-1][1], rel_tol=1e-6)):
            few.append([name, error])
    return [[name, rounded(error)] for name, error in few[:SHOWN]]


def by_sampler(errors: Mapping[str, list[float]]) -> dict[str, float]:
    """The best error of each of our samplers, over its options and grids."""
    best: dict[str, float] = {}
    for name, error in ranked(errors):
        best.setdefault(name.partition(",")[0].partition(" ")[0], rounded(error))
    return best


def rounded(value: float) -> float:
    return float(f"{value:.4g}")


def geometric(values: list[float]) -> float:
    """The geometric mean; infinite where one is."""
    return (
        math.exp(statistics.fmean(math.log(value) for value in values))
        if all(map(math.isfinite, values))
        else math.inf
    )


def mean_error(sides: list[Errors], name: str, budgets: tuple[int, ...]) -> float:
    """The geometric mean of a candidate's error over problems, sets and budgets."""
    return geometric([error for side in sides for n in budgets for error in side[n][name]])


def fixed(mine: list[Errors], theirs: list[Errors], budgets: tuple[int, ...]) -> dict[str, Any]:
    """Each side's one choice by the mean over all problems and these budgets, and the ratios of the two.

    The last problem's candidates, for the main ones have twins besides.
    """
    names = [min(side[-1][budgets[0]], key=partial(mean_error, side, budgets=budgets)) for side in (mine, theirs)]
    ratios = {
        f"ratio_{n}": rounded(mean_error(mine, names[0], (n,)) / mean_error(theirs, names[1], (n,))) for n in budgets
    }
    return {"ours": names[0], "peer": names[1], **ratios}


def show(figures: Mapping[str, Any]) -> None:
    """The best of each side, one table a problem."""
    for name in ("mixture2d", "mixture16d"):
        table = Table(title=f"{name}: root mean square error, {POINTS} points")
        for column in ("evaluations", "ours", "", "the peers'", "", "ratio"):
            table.add_column(column)
        for n in BUDGETS:
            of = figures[name]
            for row, (a, b) in enumerate(zip(of[f"ours_{n}"], of[f"peers_{n}"], strict=False)):
                first = (str(n), str(of[f"ratio_{n}"])) if row == 0 else ("", "")
                table.add_row(first[0], a[0], f"{a[1]:.4g}", b[0], f"{b[1]:.4g}", first[1])
            table.add_row(
                "", f"tuned: {of[f'tuned_{n}'][0]}", f"{of[f'tuned_{n}'][1]:.4g}", "", "", str(of[f"tuned_ratio_{n}"])
            )
        Console(width=150).print(table)


def main() -> None:
    """Judges everything, prints the tables and writes the result."""
    torch.set_num_threads(1)
    begun = time.monotonic()
    theirs, with_twins = peers.deterministic(), peers.deterministic(twins=True)
    figures: dict[str, Any] = {}
    all_mine: list[Errors] = []
    all_theirs: list[Errors] = []
    for problem in main_problems():
        family = [problem, *further_problems(problem.name)]
        pairs = [
            (judged(p, ours(p), OUR_GRIDS), judged(p, with_twins if p is problem else theirs, PEER_GRIDS))
            for p in family
        ]
        figures[problem.name] = of_problem(problem, *pairs[0], pairs[1:])
        all_mine += [pair[0] for pair in pairs]
        all_theirs += [pair[1] for pair in pairs]
    figures["fixed"] = fixed(all_mine, all_theirs, BUDGETS)
    figures["fixed_each"] = {str(n): fixed(all_mine, all_theirs, (n,)) for n in BUDGETS}
    show(figures)
    figures |= {"noisy": noisy(), "step_us": step_us()}
    sizes = {"points": POINTS, "sets": SETS, "ours": len(all_mine[0][5]), "peers": len(all_theirs[0][5])}
    figures |= {"n": sizes, "k_diffusion": peers.k_sampling() is not None}
    report("samplers", {**figures, "seconds": round(time.monotonic() - begun, 1)}, NOTES)


if __name__ == "__main__":
    main()
