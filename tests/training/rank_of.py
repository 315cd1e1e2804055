"""One of several processes that train a small run together: trains, and writes down what it has learnt.

Arguments: the module whose `trained` it is, the run's folder, where to write, images, the recipe's changes. RANK, WORLD_SIZE and
MASTER_* as torchrun sets them.
"""

import importlib
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from small import state

from carrara import tensors

if __name__ == "__main__":
    torch.set_num_threads(1)
    module, folder, out, images, *changes = sys.argv[1:]
    run = importlib.import_module(module).trained(Path(folder), int(images), changes)
    tensors.save(state(run), Path(out) / f"{os.environ['RANK']}.safetensors")
    dist.destroy_process_group()
