"""One of several processes that train together: opens a run, trains, and writes down what it has learnt.

Arguments: the run's folder, where to write, the recipe's changes. RANK, WORLD_SIZE and MASTER_* as torchrun sets them.
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from small import opened, state

from carrara import tensors
from carrara.errors import CarraraError, InputError


def watch(folder: Path) -> list[str]:
    """What this process changes in the folder, from now on."""
    found: list[str] = []
    verbs = {"os.mkdir", "os.rename", "os.remove", "os.rmdir"}

    def hook(event: str, given: tuple[object, ...]) -> None:
        writes = event in verbs or (
            event == "open" and isinstance(given[2], int) and given[2] & (os.O_WRONLY | os.O_RDWR)
        )
        if writes and isinstance(given[0], str | os.PathLike) and str(folder) in os.fspath(given[0]):
            found.append(f"{event} {given[0]}")

    sys.addaudithook(hook)
    return found


def main(folder: Path, out: Path, stop_after: int, changes: list[str]) -> None:
    torch.set_num_threads(1)
    rank, told = int(os.environ["RANK"]), {}
    changed = watch(folder)
    try:
        opened(folder.parent / "taken", 128, changes)
    except InputError as error:
        told["refused"] = str(error)
    run = opened(folder, 128, changes)
    try:
        for progress in run.train():
            if rank == 1 and progress.record.images == stop_after:
                os.kill(os.getpid(), signal.SIGTERM)
    except CarraraError as error:
        told["code"] = error.exit_code
    told["changed"] = changed
    tensors.save(state(run), out / f"{rank}.safetensors")
    (out / f"{rank}.json").write_text(json.dumps(told))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
