"""torch's layers with torch's parameters, computed by the operations in ops.py."""

from __future__ import annotations

from torch import Tensor, nn

from carrara.networks import ops


class Conv3x3(nn.Conv2d):
    """A 3×3 convolution that keeps the side: (B, inputs, H, W) -> (B, outputs, H, W)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1)

    def forward(self, x: Tensor, more: Tensor | None = None) -> Tensor:
        """The convolution, + `more` (B, outputs, H, W) where given."""
        return ops.conv3x3(x, self.weight, self.bias, more)


class Conv1x1(nn.Conv2d):
    """A mixture of each pixel's channels: (B, inputs, H, W) -> (B, outputs, H, W)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return ops.conv1x1(x, self.weight, self.bias)


class GroupNorm(nn.GroupNorm):
    """GroupNorm of (B, C, H, W), then · (1 + scale) + shift where given, each (B, C), then SiLU where asked."""

    def forward(
        self, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None, silu: bool = False
    ) -> Tensor:
        return ops.group_norm(x, self.num_groups, self.weight, self.bias, scale, shift, silu, self.eps)
