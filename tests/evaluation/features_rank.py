"""One of several processes that make features together. Arguments: cache, where to write, the case.

RANK, WORLD_SIZE and MASTER_* as torchrun sets them.
"""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from pooled import Pooled
from streams import Torn, pictures

from carrara import tensors
from carrara.errors import CarraraError
from carrara.evaluation import streaming
from carrara.evaluation.kernels import kid
from carrara.training.world import join


def main(cache: Path, out: Path, case: str) -> None:
    torch.set_num_threads(1)
    world, network, calls = join(), Pooled(), []
    streaming.PART = 16
    told = {}
    given = Torn(pictures(100), at=24) if case == "torn" else pictures(int(case))
    try:
        made = streaming.features_of(given, network, cache=cache, world=world, progress=lambda *c: calls.append(c))
        moments = streaming.moments_of(given, network, cache=cache, world=world)
        found = {"features": made, "mean": moments.mean, "cov": moments.cov}
        found["kid"] = torch.tensor(kid(made[:40], made[40:]).value, dtype=torch.float64)
        tensors.save(found, out / f"{world.rank}.safetensors")
    except CarraraError as error:
        told["error"] = f"{type(error).__name__}: {error}"
    (out / f"{world.rank}.json").write_text(json.dumps({**told, "seen": network.seen, "calls": calls}))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
