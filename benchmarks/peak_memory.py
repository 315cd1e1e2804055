"""What sampling 64 pictures adds to a process at its peak: VmHWM after it less VmRSS once the model is there, MB.

What it takes to sample in a mode, such as weights in another precision or order, counts as added.

Each is measured in a process of its own, `python -m benchmarks.peak_memory WHO MODE`.
"""

from __future__ import annotations

import ctypes
import gc
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from carrara.errors import InputError

PICTURES = 64
STEPS = 2
"""Evaluations of each; more of them need no more memory."""


def added(who: str, mode: str) -> float | None:
    """MB that sampling adds, measured in a fresh process; None where this carrara has no such network or mode."""
    command = [sys.executable, "-m", "benchmarks.peak_memory", who, mode]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    value: float | None = found["added_mb"]
    return value


def main() -> None:
    """Measures one, and prints a line of JSON."""
    who, mode = sys.argv[1:]
    call = {"diffusers": theirs, "carrara": ours}[who](mode)
    if call is None:
        print(json.dumps({"added_mb": None}))
        return
    forget_peak()
    before = held_mb("VmRSS")
    try:
        call()
    except InputError:
        print(json.dumps({"added_mb": None}))
        return
    print(json.dumps({"added_mb": round(held_mb("VmHWM") - before, 1)}))


def forget_peak(clear: Path = Path("/proc/self/clear_refs")) -> None:
    """Sets the most that this process has held to what it holds now, and gives back what is free already."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    clear.write_text("5")


def held_mb(what: str, status: Path = Path("/proc/self/status")) -> float:
    """The memory this process holds (VmRSS), or the most it has held (VmHWM), in millions of bytes."""
    line = next(line for line in status.read_text().splitlines() if line.startswith(f"{what}:"))
    return int(line.split()[1]) * 1024 / 1e6


def theirs(mode: str) -> Callable[[], Any]:
    """diffusers' DDIMPipeline with its U-Net of 9.6 M parameters."""
    from benchmarks.rivals.of_diffusers import library, network

    pipeline = library().DDIMPipeline(unet=network(1, 0).eval(), scheduler=library().DDIMScheduler())
    pipeline.set_progress_bar_config(disable=True)

    def call() -> Any:
        with torch.autocast("cpu", torch.bfloat16, enabled=mode == "bf16"):
            return pipeline(batch_size=PICTURES, num_inference_steps=STEPS, output_type="np")

    return call


def ours(mode: str) -> Callable[[], Any] | None:
    """carrara's network of the same architecture; None where this carrara has none. Raises InputError, called, without the mode."""
    from benchmarks.lanes import OURS, prepare, present, recipe_of
    from carrara.model import build

    if "unet2d" not in present({}):
        return None
    recipe = recipe_of(OURS["unet2d"], condition={"kind": "none"}, sampling={"sampler": "ddim", "steps": STEPS})
    model = build(recipe, OURS["unet2d"].shape, ())

    def call() -> Any:
        prepare(model, mode)
        return model.sample(PICTURES)

    return call


if __name__ == "__main__":
    main()
