"""The numbers of a training run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from carrara.averaging import LONGEST
from carrara.errors import InputError, RecipeError


@dataclass(frozen=True)
class Training:
    """How a trainable is trained. Everything that is a length is counted in images, so it does not depend on the batch."""

    batch: int = 64
    """Images a step, over all processes together."""
    accumulate: int = 1
    """Parts that each process computes its share of a batch in, one after the other: the same gradient, to rounding, in less
    memory. Dropout draws anew for each part."""
    checkpointing: bool = False
    """Whether the networks' blocks keep only what they are given and are computed again in backward: the same gradients in
    less memory, for about a third more time. (Not the run's checkpoints, which are always written.)"""
    lr: float = 1e-3
    """The learning rate at its height."""
    warmup_images: int = 5_000
    """Images over which the learning rate rises from 0."""
    cooldown: float = 0.5
    """The last share of the run over which it falls to 0, as a half cosine."""
    optimiser: Literal["adamw", "muon"] = "adamw"
    """What moves the weights; muon: the inner matrices by Muon, the rest by AdamW."""
    betas: tuple[float, float] = (0.9, 0.99)
    """AdamW's."""
    weight_decay: float = 0.0
    """AdamW's."""
    clip: float = 1.0
    """Gradients are scaled down to this norm where theirs is larger."""
    ema_images: float = 20_000
    """The half-life of the moving average of the weights."""
    ema_ramp: float = 0.05
    """The half-life is at most this share of the images seen so far, so that the average forgets its beginning."""
    averages: tuple[float, ...] = ()
    """Lengths, shares of the run, of more averages, of which snapshots are kept: of two, such as 0.05 and 0.1, `carrara average`
    makes one of any length once the run is finished."""
    snapshots: int = 16
    """Snapshots of those averages."""
    spread: Literal["independent", "stratified"] = "stratified"
    """How the times of a batch are drawn."""
    precision: Literal["auto", "bf16", "float32"] = "auto"
    """What the network computes in; auto measures at the start and keeps the fastest for the whole run."""
    kernels: Literal["auto", "native", "torch"] = "auto"
    """Whose kernels compute it on a CPU, carrara's own or torch's; auto as for the precision, and measured with it."""
    previews: int = 8
    """Sample pictures taken on the way."""
    checkpoint_s: float = 60.0
    """Seconds between checkpoints, at most: the first comes after a twelfth, and so many that half of a run is never unsaved."""
    keep: int = 2
    """Checkpoints kept: the newest."""
    saved: Literal["last", "best"] = "last"
    """Which averaged weights the model is: those at the end, or those of the preview whose held-out loss was least."""
    start: str | None = None
    """The folder of a run or a model whose weights this one begins with; null: with weights drawn from the seed."""
    images: int | None = None
    """How long a run is where nobody says another length, in images; null: as the command has it, in minutes."""

    @property
    def part(self) -> int:
        """The images that are computed at once, where one process trains."""
        return self.batch // self.accumulate

    def check_shared(self, processes: int) -> None:
        """Raises InputError where a batch cannot be shared evenly by so many processes, each in its parts."""
        if self.batch % (processes * self.accumulate):
            parts = f", in {self.accumulate} parts each" if self.accumulate > 1 else ""
            raise InputError(f"training.batch {self.batch} cannot be shared by {processes} processes{parts}")

    def __post_init__(self) -> None:
        for name, holds, rule in (
            ("batch", self.batch >= 1, "at least 1"),
            ("accumulate", self.accumulate >= 1, "at least 1"),
            (
                "accumulate",
                self.batch % max(1, self.accumulate) == 0,
                f"a number that divides training.batch, {self.batch}",
            ),
            ("lr", self.lr > 0, "positive"),
            ("warmup_images", self.warmup_images >= 0, "0 or more"),
            ("cooldown", 0 <= self.cooldown <= 1, "between 0 and 1"),
            ("clip", self.clip > 0, "positive"),
            ("ema_images", self.ema_images > 0, "positive"),
            ("ema_ramp", 0 < self.ema_ramp <= 1, "above 0 and at most 1"),
            (
                "averages",
                all(0 < length <= LONGEST for length in self.averages)
                and len(set(self.averages)) == len(self.averages),
                f"different lengths above 0 and at most {LONGEST:g}",
            ),
            ("snapshots", self.snapshots >= 1, "at least 1"),
            ("previews", self.previews >= 0, "0 or more"),
            (
                "previews",
                self.previews >= 1 or self.saved == "last",
                "at least 1 where training.saved is best: held-out data is looked at with each",
            ),
            ("keep", self.keep >= 1, "at least 1"),
            ("images", self.images is None or self.images >= 1, "at least 1, or null"),
            ("checkpoint_s", self.checkpoint_s >= 0, "0 or more"),
        ):
            if not holds:
                raise RecipeError(f"training.{name} is {getattr(self, name)!r}; it must be {rule}")
