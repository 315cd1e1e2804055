"""A critic of pictures that are made from pictures: whether they pass for real ones, part by part.

What is lost on the way to a few numbers or words cannot be said exactly again, and an error in pixels makes a mean of all that
it may have been. The critic, a second player, learns to score parts of real pictures above 1 and of made ones below −1; who makes
them is moved to where the score rises, which is a picture, not a mean of pictures.

Source: Generative Adversarial Networks, Goodfellow et al., 2014; the hinge: Geometric GAN, Lim & Ye, 2017; parts, and beside an
error that keeps pictures themselves: Taming Transformers for High-Resolution Image Synthesis, Esser et al., 2021, section 3.1.
There the weight is the ratio of two gradients of a whole batch at the decoder's last layer (equation 7), here at each picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

AHEAD = 4096
"""For how many images the critic learns before anybody listens to it."""
SMALL = 1e-12
"""A slope that is not longer leads nowhere."""


class Adversary:
    """A critic with its time: it learns from image number `begins` on, and is listened to AHEAD images later."""

    def __init__(self, critic: nn.Module, weight: float, begins: int = 0) -> None:
        """`critic` gives scores (B, *) of pictures (B, C, H, W); `weight` is what `pushed` makes of it."""
        self.critic, self.weight, self.begins = critic, weight, begins

    def rate(self, start: int) -> float:
        """The critic's learning rate over the run's in the step that begins with image number `start`: 0 before its time."""
        return float(start >= self.begins)

    def listened(self, start: int) -> bool:
        """Whether in that step who makes pictures listens to it."""
        return start >= self.begins + AHEAD

    def missed(self, made: Tensor, x: Tensor, start: int) -> Tensor:
        """The critic's loss (B,): the mean hinge over the parts of real pictures x and of made ones; 0 before its time."""
        if start < self.begins:
            return 0 * next(self.critic.parameters()).flatten()[:1].expand(len(x))
        scores: Tensor = self.critic(torch.cat([x, shown(made.detach())])).float().flatten(1)
        real, false = scores.chunk(2)
        return (1 - real).relu().mean(1) + (1 + false).relu().mean(1)

    def pushed(self, missed: Callable[[Tensor], Tensor], made: Tensor) -> Tensor:
        """The losses missed(made) (B,), whose gradient to the pictures made (B, C, H, W) also leads to where the score rises.

        That part is `weight` times as long as the other, picture for picture. So the critic never drowns the other losses, however
        steep it is, and no picture's gradient depends on those beside it. The critic itself gets none.
        """
        y = made.detach().requires_grad_(made.requires_grad)
        lost = missed(y)
        if not made.requires_grad:
            return lost
        (down,) = torch.autograd.grad(lost.sum(), y)
        with frozen(self.critic):
            (up,) = torch.autograd.grad(self.score(y).sum(), y)
        slope = down - self.weight * length(down) / length(up).clamp(min=SMALL) * up
        moved: Tensor = ((made - made.detach()) * slope).flatten(1).sum(1)  # Of value 0; the slope is its gradient.
        return lost.detach() + moved

    def score(self, pictures: Tensor) -> Tensor:
        """How real the critic holds pictures as they are shown: the mean score of their parts, (B,) float32."""
        found: Tensor = self.critic(shown(pictures)).float().flatten(1).mean(1)
        return found


def shown(pictures: Tensor) -> Tensor:
    """Pictures from −1 to 1: what is less than black is shown as black."""
    return pictures.clamp(-1, 1)


def length(pictures: Tensor) -> Tensor:
    """Of each picture's numbers together, (B, 1, 1, 1)."""
    found: Tensor = pictures.float().flatten(1).norm(dim=1)[:, None, None, None]
    return found


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Within, no gradient is computed for the module's parameters."""
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)
