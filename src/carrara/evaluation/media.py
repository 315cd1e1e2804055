"""Media as people look at them: a tensor is pictures, a list is texts, and this is the one place that asks.

`of(media)` and `made_by(shape)` give a Medium, which knows how its media become files, blocks of a report and films.
Whoever shows media asks it, and need not know what they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image

from carrara.data import Dataset
from carrara.evaluation import pictures
from carrara.evaluation.report import Block, Picture, Report, render
from carrara.evaluation.writing import Film, Texts, listing, visible

Frames = Sequence[tuple[float, Any, Any]]
"""(t, x_t, the x0 believed in at t), the last two as media: what `Model.film` yields."""


@dataclass(frozen=True)
class File:
    """What a file holds, and how its name ends."""

    suffix: str
    data: bytes


class Medium(Protocol):
    """What is done with media of one kind where people look at them. `heads` say of each what it is: its seed, its class."""

    noun: str
    """One of them, in a word."""
    examples: str
    """What a network is trained on, in a word for several."""
    sheets: tuple[str, ...]
    """The endings of files that hold many."""
    usual: str | None
    """The ending of the file that samples are written to where nobody says which; None: they are printed."""
    films: str
    """The ending of a film's file."""
    shown: int
    """How many samples a report shows."""

    def sheet(self, media: Any, notes: Sequence[Mapping[str, Any]], suffix: str) -> bytes:
        """A file of all of them, with what there is to say of each, seed and label first."""
        ...

    def strip(self, media: Any, notes: Sequence[Mapping[str, Any]], suffix: str) -> bytes:
        """A file of all of them in a row, as they follow from one another, with what there is to say of those without a share."""
        ...

    def one(self, medium: Any) -> File:
        """A file of one of them."""
        ...

    def preview(self, media: Any, prompts: Sequence[str] = ()) -> File:
        """A file that shows the samples of the first seeds while a model is trained, each with its prompt where it has one."""
        ...

    def samples(
        self, media: Any, heads: Sequence[str], rows: Sequence[str] = (), prompts: Sequence[str] = ()
    ) -> Block:
        """Samples on a page; with `rows`, names of so many equal parts of them, with `prompts`, each with its own."""
        ...

    def way(self, stages: Sequence[Any], heads: Sequence[str]) -> Block:
        """The same media at several times on a page."""
        ...

    def data(self, dataset: Dataset) -> Block:
        """The first training examples on a page."""
        ...

    def film_of(self, frames: Frames, heads: Sequence[str]) -> tuple[File, Block]:
        """A film as a file of its own and on a page."""
        ...

    def glimpse(self, medium: Any) -> str | None:
        """One of them as lines of a terminal; None where it cannot be."""
        ...

    def printed(self, media: Any, notes: Sequence[Mapping[str, Any]]) -> str:
        """All of them as lines of a terminal."""
        ...

    def extent(self, dataset: Dataset) -> str:
        """How large a dataset's media are, in words."""
        ...

    def size(self, shape: Sequence[int], encoded: Sequence[int]) -> str:
        """How large one is, given its shape and that of its x0, in words."""
        ...


def png(image: Image.Image) -> File:
    """A picture as a file."""
    return File(".png", pictures.png_bytes(image))


def head(notes: Mapping[str, Any]) -> str:
    """What there is to say of a sample in a line: its seed, its label, its source or its prompt."""
    return ", ".join(
        [
            f"seed {notes['seed']}",
            *(str(notes[name]) for name in ("label", "source", "prompt") if notes.get(name) is not None),
        ]
    )


class _Pictures:
    """uint8 tensors (N, C, H, W): PNG sheets and GIFs."""

    noun, examples, films, shown = "picture", "images", ".gif", 48
    sheets: tuple[str, ...] = (".png",)
    usual: str | None = ".png"

    def sheet(self, media: Any, notes: Sequence[Mapping[str, Any]], suffix: str) -> bytes:
        if all("prompt" in note for note in notes):
            return pictures.png_bytes(pictures.captioned_grid(media.numpy(), [note["prompt"] for note in notes]))
        return pictures.png_bytes(pictures.grid(media.numpy()))

    def strip(self, media: Any, notes: Sequence[Mapping[str, Any]], suffix: str) -> bytes:
        ends = ["" if "share" in note else str(note.get("prompt") or f"seed {note['seed']}") for note in notes]
        return pictures.png_bytes(pictures.captioned_grid(media.numpy(), ends, columns=len(ends)))

    def one(self, medium: Any) -> File:
        return png(pictures.grid(medium[None].numpy(), scale=1))

    def preview(self, media: Any, prompts: Sequence[str] = ()) -> File:
        return png(
            pictures.captioned_grid(media.numpy(), prompts, columns=8)
            if prompts
            else pictures.grid(media.numpy(), columns=8)
        )

    def samples(
        self, media: Any, heads: Sequence[str], rows: Sequence[str] = (), prompts: Sequence[str] = ()
    ) -> Block:
        if prompts:
            return _picture(pictures.captioned_grid(media.numpy(), prompts, columns=8), "Samples under their prompts")
        if rows:
            sheet = pictures.labelled_grid(media.numpy(), row_labels=rows)
            return _picture(sheet, "Samples of the model, a row a class")
        return _picture(pictures.grid(media.numpy(), columns=12), "Samples of the model")

    def way(self, stages: Sequence[Any], heads: Sequence[str]) -> Block:
        tiles = torch.stack(list(stages), dim=1).flatten(0, 1).numpy()
        sheet = pictures.labelled_grid(tiles, column_labels=heads)
        return _picture(sheet, f"Pictures with growing noise at {len(heads)} times")

    def data(self, dataset: Dataset) -> Block:
        columns = 12
        media = np.array(dataset.train.pictures[: 3 * columns])
        return _picture(pictures.grid(media, columns=columns), "Training pictures")

    def film_of(self, frames: Frames, heads: Sequence[str]) -> tuple[File, Block]:
        drawn = pictures.film([(x.numpy(), x0.numpy()) for _, x, x0 in frames], [t for t, _, _ in frames])
        data = pictures.gif_bytes(drawn, duration_ms=max(80, 3000 // len(drawn)))
        return File(self.films, data), Picture(data, "The denoising film: x_t beside the predicted x0")

    def glimpse(self, medium: Any) -> str | None:
        return None

    def printed(self, media: Any, notes: Sequence[Mapping[str, Any]]) -> str:
        return ""

    def extent(self, dataset: Dataset) -> str:
        return "×".join(map(str, dataset.shape))

    def size(self, shape: Sequence[int], encoded: Sequence[int]) -> str:
        return "×".join(map(str, shape))


class _Texts:
    """Lists of texts: listings for people, JSON lines for programs, and films as pages."""

    noun, examples, films, shown = "text", "windows", ".html", 16
    sheets: tuple[str, ...] = (".txt", ".jsonl")
    usual: str | None = None

    def sheet(self, media: Any, notes: Sequence[Mapping[str, Any]], suffix: str) -> bytes:
        if suffix == ".txt":
            return self.printed(media, notes).encode()
        lines = [{**note, "text": text} for note, text in zip(notes, media, strict=True)]
        return "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines).encode()

    def strip(self, media: Any, notes: Sequence[Mapping[str, Any]], suffix: str) -> bytes:
        return self.sheet(media, notes, suffix)

    def one(self, medium: Any) -> File:
        return File(".txt", medium.encode())

    def preview(self, media: Any, prompts: Sequence[str] = ()) -> File:
        return File(".txt", listing(media, [head({"seed": seed}) for seed in range(len(media))]).encode())

    def samples(
        self, media: Any, heads: Sequence[str], rows: Sequence[str] = (), prompts: Sequence[str] = ()
    ) -> Block:
        return Texts(media, heads)

    def way(self, stages: Sequence[Any], heads: Sequence[str]) -> Block:
        return Texts([texts[0] for texts in stages], heads)

    def data(self, dataset: Dataset) -> Block:
        texts = dataset.train.texts[:12]
        return Texts(texts, [f"training text {number}" for number in range(1, len(texts) + 1)])

    def film_of(self, frames: Frames, heads: Sequence[str]) -> tuple[File, Block]:
        block = Film(frames, heads)
        page = render(Report("Step by step", "Texts as their tokens are shown, one after another.", lead=[block]))
        return File(self.films, page.encode()), block

    def glimpse(self, medium: Any) -> str | None:
        return visible(medium)

    def printed(self, media: Any, notes: Sequence[Mapping[str, Any]]) -> str:
        return listing(media, list(map(head, notes)))

    def extent(self, dataset: Dataset) -> str:
        return f"{dataset.train.texts.characters():,} characters to train on"

    def size(self, shape: Sequence[int], encoded: Sequence[int]) -> str:
        return f"{encoded[0]} tokens"


PICTURES: Medium = _Pictures()
TEXTS: Medium = _Texts()


def of(media: Any) -> Medium:
    """What these media are: tensors are pictures, lists are texts."""
    return PICTURES if isinstance(media, torch.Tensor) else TEXTS


def made_by(shape: Sequence[int]) -> Medium:
    """What a model or a dataset whose media have this shape makes or holds: texts have none."""
    return PICTURES if shape else TEXTS


def _picture(sheet: Image.Image, alt: str) -> Picture:
    return Picture(pictures.png_bytes(sheet), alt)
