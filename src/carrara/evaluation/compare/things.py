"""What can be compared, each recognised by what it is.

a run or model folder     sampled
a folder of pictures      its first n in the order of their names
a statistics file         a mean and a covariance (`.npz` with mu and sigma): a Fréchet distance, and nothing else
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from PIL import Image

from carrara import files
from carrara.data.pictures import quiet
from carrara.data.scan import Found, survey
from carrara.errors import InputError
from carrara.evaluation.folder import PictureFolder, picture_folder
from carrara.evaluation.inputs import Progress
from carrara.evaluation.statistics_file import Statistics, read_statistics
from carrara.model import DESCRIPTION, load
from carrara.training.run import RECIPE

if TYPE_CHECKING:
    from carrara.model import Model

Shape = tuple[int, ...]
ALLOWED = "a run or model folder, a folder of pictures, or an .npz file of statistics (mu and sigma)"
GREY = frozenset({"1", "L", "LA", "La", "I", "F"})
"""Pillow's modes without colours; so are those of 16 bits, I;16 and its kin."""


@dataclass(frozen=True, eq=False)
class Sampled:
    """A model, to be sampled."""

    kind: ClassVar[str] = "model"
    name: str
    model: Model

    @property
    def shape(self) -> Shape:
        """Of one picture, (C, H, W)."""
        return tuple(self.model.shape)


@dataclass(frozen=True, eq=False)
class Pictured:
    """A folder of pictures."""

    kind: ClassVar[str] = "pictures"
    name: str
    pictures: PictureFolder

    @property
    def shape(self) -> Shape:
        """Of one picture, (C, H, W)."""
        return self.pictures.shape


@dataclass(frozen=True, eq=False)
class Summarised:
    """A statistics file."""

    kind: ClassVar[str] = "statistics"
    name: str
    statistics: Statistics


Thing = Sampled | Pictured | Summarised


def recognised(paths: Sequence[str | Path], size: int | None = None, progress: Progress | None = None) -> list[Thing]:
    """The things at these paths, in their order; `size` is what pictures of folders are brought to, squares of it.

    Progress counts the files of a folder. Raises InputError for no path, one that is given twice, and what is none of these.
    """
    names = [str(Path(path)) for path in paths]
    if not names:
        raise InputError(f"there is nothing to compare; give one thing or more: {ALLOWED}")
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{name} is named {names.count(name)} times, and would be beside itself; name it once")
    return [_thing(name, size, progress) for name in names]


def _thing(name: str, size: int | None, progress: Progress | None) -> Thing:
    path = Path(name).expanduser()
    if path.suffix.lower() == ".npz" and path.is_file():
        return Summarised(name, read_statistics(path))
    if not path.is_dir():
        what = "is a file of another kind" if path.exists() else "does not exist"
        raise InputError(f"{name} {what}; what can be compared is {ALLOWED}")
    if of_model(path):
        return Sampled(name, load(path))
    return Pictured(name, pictures_of(path, size, progress))


def of_model(path: Path) -> bool:
    """Whether a folder is a run's or a model's. Raises InputError for a run without a finished model."""
    if any((files.present(folder) / DESCRIPTION).is_file() for folder in (path, path / "model")):
        return True
    if (path / RECIPE).is_file():
        raise InputError(f"{path} is a run whose model is not finished; the command that began it goes on with it")
    return False


def pictures_of(path: Path, size: int | None, progress: Progress | None = None) -> PictureFolder:
    """The pictures of a folder, grey where all of them are stored so. Raises DataError for those that cannot be used."""
    return picture_folder(path, size=size, channels=channels(survey(path).files), progress=progress)


def channels(found: Iterable[Found]) -> Literal[1, 3]:
    """1 where no picture that can be opened is stored in colour, else 3."""
    with quiet():
        return 3 if any(_coloured(file.path) for file in found) else 1


def _coloured(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            return image.mode not in GREY and not image.mode.startswith("I;16")
    # Decoders raise nearly anything on damaged files; they are named and counted when they are read.
    except Exception:
        return False


def check_shapes(things: Iterable[Thing], shape: Shape | None, reference: str) -> None:
    """Raises InputError unless all pictures have the reference's shape, or where it has none, that of the first of them."""
    for thing in things:
        if isinstance(thing, Summarised):
            continue
        if shape is None:
            shape, reference = thing.shape, thing.name
        if thing.shape != shape:
            raise InputError(
                f"{thing.name} has pictures of {words(thing.shape)}, and {reference} has {words(shape)}: "
                f"{_advice(thing, shape)}"
            )


def words(shape: Shape) -> str:
    """32×32 in colour (3×32×32)."""
    colours = {1: "in grey ", 3: "in colour "}.get(shape[0], "")
    return f"{shape[2]}×{shape[1]} {colours}({'×'.join(map(str, shape))})"


def _advice(thing: Sampled | Pictured, shape: Shape) -> str:
    if thing.shape[0] != shape[0]:
        return "grey pictures and colour ones are not compared; store all of them in one way, or choose another reference"
    if isinstance(thing, Pictured) and shape[1] == shape[2]:
        return f"bring the pictures to that size with --size {shape[1]}"
    return "compare models of one size, and give a reference of theirs with --reference"
