"""What every codec is, and what some are beside."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

from torch import Tensor, nn


class Codec(Protocol):
    """Media to x0 and back. Media are uint8 pictures (B, C, H, W), or lists of B texts."""

    once: ClassVar[bool]
    """Whether x0 is worth keeping: a dataset is then encoded once, see carrara.codecs.encoded, and training reads what is kept."""

    def encode(self, media: Any) -> Tensor:
        """x0 (B, *shape). Raises InputError for media of another kind."""
        ...

    def decode(self, x0: Tensor) -> Any:
        """Media of x0, and of x_t where it can be looked at."""
        ...

    def together(self, parts: Iterable[Any]) -> Any:
        """Media that were decoded in parts, as one."""
        ...

    def shape(self, media_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of one x0, given that of one of the media; () are texts."""
        ...

    def told(self, media_shape: tuple[int, ...]) -> dict[str, Any]:
        """What a network is told of x0: channels and size, or vocab and length, and of a picture's words levels and grid."""
        ...

    def start(
        self, start: Any, mask: Tensor | None, media_shape: tuple[int, ...], count: int
    ) -> tuple[Tensor, Tensor | None]:
        """(x0, what of it is to be made, bool) of `count` samples that change what is given; None where all is to be made."""
        ...

    def identity(self) -> str:
        """A text that is equal for codecs that encode alike."""
        ...


@runtime_checkable
class Kept(Protocol):
    """A codec or a condition that was made from data or by a training: a model's folder has inside what it is made of."""

    def save(self, folder: Path) -> None:
        """Writes what it is made of into an empty folder, whose owner writes the files' hashes."""
        ...

    def restore(self, folder: Path) -> Self:
        """This codec, or condition, as it was saved there; whatever its options name is not looked for."""
        ...


@runtime_checkable
class Learning(Codec, Protocol):
    """A codec of which a part is trained with the denoiser, end to end: both have it, and it is one object."""

    def begin(self) -> Self:
        """This codec with that part, drawn from torch's generator where it has none yet."""
        ...

    def learnt(self) -> dict[str, nn.Module]:
        """That part, by the name of the parameter of the process's denoiser that takes it."""
        ...

    def vectors(self, kept: Tensor) -> Tensor:
        """x0 of what is kept of examples, which is what the denoiser's loss is given: that goes there by itself."""
        ...


def begun(codec: Codec) -> Codec:
    """The codec with what of it is trained, drawn from torch's generator where it learns and has none yet."""
    return codec.begin() if isinstance(codec, Learning) else codec


def learnt_of(codec: Codec) -> dict[str, nn.Module]:
    """What of the codec is trained with the denoiser, by the name of its parameter there; nothing of most codecs."""
    return codec.learnt() if isinstance(codec, Learning) else {}


def x0_of(codec: Codec, kept: Tensor) -> Tensor:
    """x0, which can be noised, of what a codec keeps of examples: they are one, but for a codec that learns."""
    return codec.vectors(kept) if isinstance(codec, Learning) else kept
