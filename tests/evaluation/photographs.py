"""Real pictures for tests: patches of the two photographs that come with scikit-learn."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_sample_images
from torch import Tensor


def photographs(n: int, size: int, seed: int = 0) -> Tensor:
    """uint8 patches (n, 3, size, size), size ≤ 427."""
    rng = np.random.default_rng(seed)
    images = load_sample_images().images
    patches = []
    for index in range(n):
        image = images[index % len(images)]
        top, left = (rng.integers(0, side - size + 1) for side in image.shape[:2])
        patches.append(image[top : top + size, left : left + size])
    return torch.from_numpy(np.stack(patches)).permute(0, 3, 1, 2).contiguous()
