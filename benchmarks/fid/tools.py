"""Other tools' FID of two folders of pictures, each by the function its own documentation names, in a process of its own.

`python -m benchmarks.fid.tools TOOL FOLDER FOLDER KEPT ANSWER` writes {theirs, version, seconds} into the file ANSWER. Features are
kept in the folder KEPT: by torch-fidelity's own cache, and for clean-fid, which has none, around the network it is given.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.fid.stand_in import standing_in
from benchmarks.fid.weights import for_clean_fid, for_torch_fidelity
from carrara import files
from carrara.evaluation import cache

INSTALLED = Path(sys.prefix) / "fid-peers"
"""Where the Makefile installs them, out of everybody else's sight: torchmetrics imports torch-fidelity wherever it finds it, which
imports torchvision."""

BATCH = 32


@dataclass(frozen=True)
class Remembering:
    """A network whose features of a batch are kept in a folder."""

    network: Callable[[Tensor], Tensor]
    folder: Path

    def __call__(self, batch: Tensor) -> Tensor:
        """The network's features (B, dim) of a batch, made once."""
        pixels = hashlib.sha256(batch.contiguous().numpy().tobytes()).hexdigest()
        key = {"what": "clean-fid", "pixels": pixels, "shape": str(tuple(batch.shape))}
        return cache.kept(key, self.folder, lambda: {"features": self.network(batch)})["features"]


def clean_fid(first: Path, second: Path, kept: Path) -> float:
    """clean-fid's FID, mode "clean"."""
    fid: Any = importlib.import_module("cleanfid.fid")
    inception: Any = importlib.import_module("cleanfid.inception_torchscript")
    network = inception.InceptionV3W(str(for_clean_fid(kept.parent / "weights")), download=False).eval()
    found = fid.compute_fid(
        str(first),
        str(second),
        mode="clean",
        num_workers=0,
        batch_size=BATCH,
        device=torch.device("cpu"),
        custom_feat_extractor=Remembering(network, kept),
    )
    return float(found)


def torch_fidelity(first: Path, second: Path, kept: Path) -> float:
    """torch-fidelity's FID."""
    tool: Any = importlib.import_module("torch_fidelity")
    found = tool.calculate_metrics(
        input1=str(first),
        input2=str(second),
        cuda=False,
        fid=True,
        batch_size=BATCH,
        save_cpu_ram=True,
        feature_extractor_weights_path=str(for_torch_fidelity(kept.parent / "weights")),
        cache_root=str(kept / tool.__version__),
        input1_cache_name=digest(first),
        input2_cache_name=digest(second),
    )
    return float(found[tool.KEY_METRIC_FID])


def digest(folder: Path) -> str:
    """The first 16 letters of the SHA-256 of all names and bytes in a folder."""
    found = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        found.update(path.name.encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:16]


TOOLS: dict[str, Callable[[Path, Path, Path], float]] = {"clean-fid": clean_fid, "torch-fidelity": torch_fidelity}


def main(tool: str, first: str, second: str, kept: str, answer: str) -> None:
    """Asks a tool, and writes what it says."""
    sys.path.append(str(INSTALLED))
    start = time.monotonic()
    with standing_in():
        theirs = TOOLS[tool](Path(first), Path(second), Path(kept))
    seconds = round(time.monotonic() - start, 1)
    files.write_json(Path(answer), {"theirs": theirs, "version": metadata.version(tool), "seconds": seconds})


if __name__ == "__main__":
    main(*sys.argv[1:])
