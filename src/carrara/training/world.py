"""The processes that train together; one, unless started by torchrun."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from carrara.errors import InputError


@dataclass(frozen=True)
class World:
    """This process's place among all; its methods do nothing where there is but one."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def share(self, start: int, batch: int) -> tuple[int, int]:
        """(first image, count) of this process's part of the global batch that begins at `start`."""
        count = batch // self.size
        return start + self.rank * count, count

    def average_(self, tensors: Sequence[Tensor]) -> None:
        """Replaces each tensor by its mean over the processes."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.size
        for tensor, mean in zip(tensors, torch.split(flat, [t.numel() for t in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))

    def gather(self, values: Tensor) -> Tensor:
        """All processes' values (B / size,) in the order of their images: (B,)."""
        if self.size == 1:
            return values
        parts = [torch.empty_like(values) for _ in range(self.size)]
        dist.all_gather(parts, values.contiguous())
        return torch.cat(parts)

    def gather_with_gradient(self, values: Tensor) -> Tensor:
        """The same as `gather`; what any process makes of a value has its gradient in the process that the value is of."""
        if self.size == 1:
            return values
        gathered: Tensor = _Gather.apply(values, self)  # type: ignore[no-untyped-call]
        return gathered

    def told(self, value: Any) -> Any:
        """The first process's value, in all of them."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """For each flag, whether it is set in any process: so that all take the same turn."""
        if self.size == 1:
            return flags
        votes = torch.tensor(flags, dtype=torch.int64)
        dist.all_reduce(votes, op=dist.ReduceOp.MAX)
        return tuple(bool(vote) for vote in votes)

    def decided(self, decide: Callable[[], Any]) -> Any:
        """What `decide` returns in the first process, in all of them; an InputError that it raises there, likewise."""
        if self.size == 1:
            return decide()
        answer: tuple[Any, str | None] = (None, None)
        if self.first:
            try:
                answer = (decide(), None)
            except InputError as error:
                answer = (None, str(error))
        value, refusal = self.told(answer)
        if refusal is not None:
            raise InputError(refusal)
        return value


class _Gather(torch.autograd.Function):
    """World.gather, and backwards the sum of all processes' gradients to this process's own values."""

    @staticmethod
    def forward(context: Any, values: Tensor, world: World) -> Tensor:
        context.world, context.count = world, len(values)
        return world.gather(values)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return torch.split(total, context.count)[context.world.rank], None


def join() -> World:
    """The world this process belongs to: torchrun's, or itself alone."""
    if "WORLD_SIZE" not in os.environ or int(os.environ["WORLD_SIZE"]) == 1:
        return World()
    if not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    return World(dist.get_rank(), dist.get_world_size())
