"""One of several processes that train an autoencoder together: trains, and writes down what it has learnt.

Arguments: the run's folder, where to write. RANK, WORLD_SIZE and MASTER_* as torchrun sets them.
"""

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from small import state
from vq_words import trained

from carrara import tensors
from carrara.training import adversarial

CHANGES = ["training.checkpoint_s=3600", "training.clip=1000", "trainable.adversarial=0.5"]
IMAGES = 128
AHEAD = 32

if __name__ == "__main__":
    torch.set_num_threads(1)
    adversarial.AHEAD = AHEAD
    run = trained(Path(sys.argv[1]), IMAGES, CHANGES)
    tensors.save(state(run), Path(sys.argv[2]) / f"{os.environ['RANK']}.safetensors")
    dist.destroy_process_group()
