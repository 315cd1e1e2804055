"""Other tools' FID of two folders of pictures beside carrara's of the same two, each with the resizer that the tool has."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.fid.tools import INSTALLED, TOOLS, digest
from carrara import files
from carrara.errors import InputError
from carrara.evaluation.compare import compare
from carrara.evaluation.features import Features
from carrara.evaluation.pictures import grid, png_bytes
from carrara.evaluation.streaming import Pictures

LIKE = {"clean-fid": "inception", "torch-fidelity": "inception_tensorflow"}
"""The features that resize as a tool does: clean-fid by Pillow, torch-fidelity as TensorFlow 1 did."""

PAIRS = (("held-out", "training"), ("model", "training"))
Row = dict[str, Any]


def written(pictures: Pictures, folder: Path) -> Path:
    """The folder, with each picture in it as a PNG file, as `carrara sample` writes them."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(pictures[0 : len(pictures)].numpy()):
        path = folder / f"{number:05d}.png"
        if not path.is_file():
            files.write(path, png_bytes(grid(picture[None], scale=1)))
    return folder


def version(tool: str, installed: Path = INSTALLED) -> str:
    """The version of a tool. Raises InputError where it is not installed."""
    found = next(iter(importlib.metadata.distributions(name=tool, path=[str(installed)])), None)
    if found is None:
        raise InputError(
            f"{tool} is not in {installed}: `make bench-fid-peers` installs it there and runs this stage"
        )
    return found.version


def answer(tool: str, first: Path, second: Path, kept: Path) -> float:
    """What a tool says of two folders; kept in a file under their contents, and asked again only where that is missing."""
    path = kept / f"{tool}-{version(tool)}-{digest(first)}-{digest(second)}.json"
    if not path.is_file():
        command = [sys.executable, "-m", "benchmarks.fid.tools", tool, *map(str, (first, second, kept / tool, path))]
        subprocess.run(command, check=True)
    theirs: float = files.read_json(path)["theirs"]
    return theirs


def by_us(first: Path, second: Path, n: int, features: Features | str, kept: Path) -> tuple[float, str]:
    """What `carrara compare` says of the first n of one folder against the other, and by which resizer."""
    found = compare([first], n, second, features, out=kept)
    return found["things"][0]["figures"]["frechet"], found["resizer"]


def row(tool: str, of: str, names: Sequence[str], n: int, theirs: float, ours: float, resizer: str) -> Row:
    """A comparison as plain data; `relative` is the difference's share of theirs."""
    return {
        "tool": tool,
        "version": of,
        "resizer": resizer,
        "folders": list(names),
        "n": n,
        "theirs": theirs,
        "ours": ours,
        "difference": ours - theirs,
        "relative": (ours - theirs) / theirs if theirs else None,
    }


def rows(
    folders: Mapping[str, Path],
    n: int,
    kept: Path,
    like: Mapping[str, Features | str] = LIKE,
    ask: Callable[[str, Path, Path, Path], float] = answer,
    of: Callable[[str], str] = version,
) -> list[Row]:
    """Every tool on every pair of PAIRS whose folders are there, n pictures each."""
    found = []
    for names in PAIRS:
        if not set(names) <= folders.keys():
            continue
        first, second = (folders[name] for name in names)
        for tool in TOOLS:
            theirs = ask(tool, first, second, kept / "peers")
            found.append(row(tool, of(tool), names, n, theirs, *by_us(first, second, n, like[tool], kept / "ours")))
    return found


def merged(before: Sequence[Row], new: Sequence[Row]) -> list[Row]:
    """All rows, of each tool, folders and n the newest, in the order of PAIRS."""
    found = {(one["tool"], *one["folders"], one["n"]): one for one in (*before, *new)}
    return sorted(found.values(), key=lambda one: (PAIRS.index(tuple(one["folders"])), one["tool"], one["n"]))
