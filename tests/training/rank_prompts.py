"""One of several processes that train a model that is told texts together: trains, and writes down what it has learnt.

Arguments: the run's folder, where to write. RANK, WORLD_SIZE and MASTER_* as torchrun sets them.
"""

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from colours import trained
from small import state

from carrara import tensors

CHANGES = ["network.dropout=0", "training.checkpoint_s=3600", "training.clip=1000"]
IMAGES = 96

if __name__ == "__main__":
    torch.set_num_threads(1)
    run = trained(Path(sys.argv[1]), IMAGES, CHANGES)
    tensors.save(state(run), Path(sys.argv[2]) / f"{os.environ['RANK']}.safetensors")
    dist.destroy_process_group()
