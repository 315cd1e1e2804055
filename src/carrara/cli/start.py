"""What samples begin from: pictures and the mask of what is kept of them, read from files, or a text that goes on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from carrara.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from carrara.data.pictures import Fit
    from carrara.model import Model

SIDEWAYS = frozenset({5, 6, 7, 8})
"""EXIF orientations of a picture that is stored on its side."""
ORIENTATION = 0x0112
WHITE = 128
"""The grey level from which a mask is white."""

Size = tuple[int, int]


class Start(Protocol):
    """What samples begin from, read and checked."""

    @property
    def count(self) -> int:
        """How many there are, to be taken in turn."""
        ...

    def wishes(self, count: int) -> dict[str, Any]:
        """What `Model.sample` and `Model.film` are to be asked for, for the first `count` samples."""
        ...

    def names(self, count: int) -> list[str]:
        """What each sample begins from, in a word or as it is."""
        ...

    def origin(self) -> dict[str, Any]:
        """What is written down of it: start and mask."""
        ...

    def said(self) -> list[str]:
        """What was read and what was done to it, for people."""
        ...


@dataclass(frozen=True)
class Prompt:
    """A text that goes on, the same for all samples."""

    text: str
    kept: int
    """Its tokens, which are kept."""
    length: int
    """Those of a window."""

    @property
    def count(self) -> int:
        """1."""
        return 1

    def wishes(self, count: int) -> dict[str, Any]:
        """The text, for all."""
        return {"start": self.text}

    def names(self, count: int) -> list[str]:
        """The text, once for each."""
        return [self.text] * count

    def origin(self) -> dict[str, Any]:
        """The text; there is no mask but in it."""
        return {"start": self.text, "mask": None}

    def said(self) -> list[str]:
        """How much of a window is given."""
        return [f"start       {self.kept} of {self.length} tokens are given, {self.length - self.kept} are made"]


@dataclass(frozen=True)
class Shown:
    """Pictures taken in turn, and one mask for all."""

    path: Path
    mask_path: Path | None
    strength: float | None
    files: list[Path]
    pictures: Tensor
    """uint8 (K, C, H, W)."""
    made: Tensor | None
    """bool (H, W)."""
    sizes: list[Size]
    """Width and height of each file, upright."""
    anew: str = ""
    """What is to be said of the mask besides."""

    @property
    def count(self) -> int:
        """The pictures."""
        return len(self.files)

    def origin(self) -> dict[str, Any]:
        """Where they were read."""
        return {"start": str(self.path), "mask": self.mask_path and str(self.mask_path)}

    def wishes(self, count: int) -> dict[str, Any]:
        """What `Model.sample` and `Model.film` are to be asked for, for the first `count` samples."""
        import torch

        turns = self.pictures[torch.arange(count) % len(self.pictures)]
        return {"start": turns, "strength": self.strength, "mask": self.made}

    def names(self, count: int) -> list[str]:
        """The file that each sample begins from."""
        return [self.files[index % len(self.files)].name for index in range(count)]

    def said(self) -> list[str]:
        """What was read and what was done to it, for people."""
        side = self.pictures.shape[-1]
        changed = sum(size != (side, side) for size in self.sizes)
        resized = (
            f"the middle square of {changed} of them resized" if len(self.files) > 1 else "its middle square resized"
        )
        what = f"{len(self.files)} pictures in turn" if len(self.files) > 1 else "{}×{}".format(*self.sizes[0])
        lines = [f"start       {self.path}: {what}" + (f", {resized} to {side}×{side}" if changed else "")]
        if self.made is not None:
            share = 100 * float(self.made.float().mean())
            lines.append(
                f"mask        {self.mask_path}: {share:.0f} % of the pixels are made, the others kept{self.anew}"
            )
        return lines


def read_start(model: Model, start: str | None, strength: float | None, mask: Path | None) -> Start | None:
    """The Start that was given, None where none was asked for. Raises InputError for what cannot be used."""
    from carrara.evaluation import media

    read = {media.PICTURES: read_pictures, media.TEXTS: read_prompt}
    return read[media.made_by(model.shape)](model, start, strength, mask)


def read_prompt(model: Model, text: str | None, strength: float | None, mask: Path | None) -> Prompt | None:
    """A text to go on. Raises InputError where it leaves nothing to be made, or nothing to begin with."""
    if mask is not None:
        raise InputError(
            f"--mask {mask} is of pictures; in a text write ▁ for each token to be made, --start 'In the ▁▁▁'"
        )
    if strength is not None:
        raise InputError(f"--strength {strength} is of pictures; what is given of a text is kept: leave it out")
    if text is None:
        return None
    if not text:
        raise InputError("--start is empty; give a text that goes on, or leave --start out for texts from nothing")
    made = model.codec.start(text, None, model.shape, 1)[1]
    assert made is not None
    length, left = made.numel(), int(made.sum())
    if not left:
        raise InputError(
            f"--start fills the window of {length} tokens: there is nothing to be made; shorten it, or write ▁ for each token "
            "to be made"
        )
    return Prompt(text, length - left, length)


def read_pictures(model: Model, start: str | None, strength: float | None, mask: Path | None) -> Shown | None:
    """The pictures and the mask in these files. Raises InputError for what cannot be used."""
    if start is None:
        for option, given in (("--strength", strength), ("--mask", mask)):
            if given is not None:
                raise InputError(f"{option} {given} says how a start is changed; give the picture too, --start FILE")
        return None
    path = Path(start)
    fit, files = fit_of(model), files_of(path)
    read = [picture(file, fit, "--start") for file in files]
    import torch

    sizes = [size for _, size in read]
    made = None if mask is None else mask_of(mask, fit, sizes)
    media = torch.stack([media for media, _ in read])
    return Shown(
        path, mask, strength, files, media, made, sizes, "" if made is None else anew(model, media[:1], made)
    )


def anew(model: Model, picture: Tensor, made: Tensor) -> str:
    """What is to be added where the model's words, or places of latents, stand for more pixels than are to be made; else ""."""
    _, places = model.codec.start(picture, made, model.shape, 1)
    assert places is not None, "a codec that is given a mask says what is made"
    share = float(places.float().mean())
    if share <= float(made.float().mean()):
        return ""
    left = "so nothing is kept" if share == 1 else f"{100 * share:.0f} % of them"
    return f"; what stands for several pixels is made whole, {left}"


def fit_of(model: Model) -> Fit:
    """How files become this model's pictures. Raises InputError where they cannot."""
    from carrara.data.pictures import Fit

    channels, height, width = model.shape
    if height != width or channels not in (1, 3):
        raise InputError(
            f"--start reads files for models of square pictures in grey or colour, and this one's are {channels}×{height}×{width}; "
            "from Python, Model.sample(start=…) takes tensors of any shape"
        )
    return Fit(height, 1 if channels == 1 else 3, "center", upscale=True)


def files_of(path: Path) -> list[Path]:
    """The picture itself, or those of a folder by name. Raises InputError where there is none."""
    from carrara.data.pictures import EXTENSIONS

    if not path.is_dir():
        if not path.is_file():
            raise InputError(f"--start {path}: there is no such file or folder; give a picture, or a folder of some")
        return [path]
    found = [file for file in path.iterdir() if file.suffix.lower() in EXTENSIONS and file.is_file()]
    files = sorted(file for file in found if not file.name.startswith("."))
    if not files:
        raise InputError(f"--start {path} holds no picture; pictures end in {' '.join(sorted(EXTENSIONS))}")
    return files


def mask_of(path: Path, fit: Fit, sizes: list[Size]) -> Tensor:
    """bool (H, W), True where the mask is white. Raises InputError where it does not lie on the starts, or has no white."""
    from dataclasses import replace

    if not path.is_file():
        raise InputError(f"--mask {path}: there is no such file; give a picture, white where it is to be made")
    media, size = picture(path, replace(fit, channels=1), "--mask")
    if size != (fit.size, fit.size) and set(sizes) != {size}:
        fitting = dict.fromkeys((f"{fit.size}×{fit.size}", *("{}×{}".format(*size) for size in sizes[:1])))
        raise InputError(
            f"--mask {path} has {size[0]}×{size[1]} pixels; it must be as large as the start, {' or '.join(fitting)}"
        )
    made = media[0] >= WHITE
    if not bool(made.any()):
        raise InputError(f"--mask {path} has no white, and what is black is kept: there is nothing to be made")
    return made


def picture(path: Path, fit: Fit, option: str) -> tuple[Tensor, Size]:
    """(uint8 (C, H, W), the file's own width and height, upright). Raises InputError for what cannot be read."""
    import torch

    from carrara.data.pictures import Picture, decode, quiet

    with quiet():
        found = decode(path, fit)
        if not isinstance(found, Picture):
            reason = " ".join(str(getattr(found, "reason", "too small")).split())
            raise InputError(f"{option} {path} cannot be read as a picture ({reason}); give a PNG or JPEG file, say")
        return torch.from_numpy(found.media.copy()), upright_size(path)


def upright_size(path: Path) -> Size:
    """Width and height of a picture that can be read, as it is looked at."""
    from PIL import Image

    with Image.open(path) as image:
        try:
            turned = image.getexif().get(ORIENTATION) in SIDEWAYS
        except Exception:  # Broken EXIF in a sound picture says nothing of its orientation.
            turned = False
        width, height = image.size
        return (height, width) if turned else (width, height)
