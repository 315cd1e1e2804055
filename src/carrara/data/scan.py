"""What lies in a folder of pictures: the files in a fixed order, their classes and their side of the split."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from carrara.data.pictures import EXTENSIONS
from carrara.errors import DataError

METADATA = ("metadata.jsonl", "metadata.csv")
_SPLITS = frozenset(["train", "training", "test", "testing", "val", "valid", "validation", "eval", "heldout"])


@dataclass(frozen=True)
class Found:
    """One picture file; `name` is its path inside the folder with / between parts, in Unicode's composed form."""

    path: Path
    name: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Scan:
    """The picture files of a folder, sorted by name, and how many others of each extension were passed over."""

    root: Path
    files: tuple[Found, ...]
    ignored: Counter[str]


def scan(root: Path) -> Scan:
    """Every picture below `root`, hidden files and folders left out. Raises DataError when there are not two."""
    found = survey(root)
    if len(found.files) == 1:
        raise DataError(f"{root} holds one picture; two are the least: one to train on, one held out. Add some.")
    return found


def survey(root: Path) -> Scan:
    """As `scan`, but one picture is enough. Raises DataError where there is none."""
    if not root.is_dir():
        state = "is a file, not a folder" if root.exists() else "does not exist"
        raise DataError(f"the folder {root} {state}. Give `path:` a folder of pictures.")
    ignored: Counter[str] = Counter()
    files = []
    for path in walk(root):
        if path.suffix.lower() in EXTENSIONS:
            files.append(_found(root, path))
        elif path.name not in METADATA or path.parent != root:
            ignored[path.suffix.lower() or path.name] += 1
    if not files:
        others = f" (what is there: {listing(ignored)})" if ignored else ""
        raise DataError(f"{root} holds no picture{others}. Pictures end in: {' '.join(sorted(EXTENSIONS))}.")
    return Scan(root, tuple(sorted(files, key=lambda found: found.name)), ignored)


def walk(root: Path) -> Iterator[Path]:
    seen: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True, onerror=_unreadable):
        real = os.path.realpath(folder)
        # A link to a folder above would otherwise be walked for ever.
        folders[:] = [] if real in seen else [name for name in folders if not name.startswith(".")]
        if real not in seen:
            seen.add(real)
            yield from (path for name in names if not name.startswith(".") and _is_file(path := Path(folder, name)))


def _unreadable(error: OSError) -> None:
    raise DataError(
        f"the folder {error.filename} cannot be read: {error.strerror}. Allow reading it or move it away."
    )


def _is_file(path: Path) -> bool:
    # A broken link counts as a file, to be named as damaged later; a pipe or a device would be waited on for ever.
    return path.is_file() or (path.is_symlink() and not path.exists())


def _found(root: Path, path: Path) -> Found:
    name = unicodedata.normalize("NFC", path.relative_to(root).as_posix())
    try:
        state = path.stat()
    except OSError:
        return Found(path, name, -1, -1)
    return Found(path, name, state.st_size, state.st_mtime_ns)


def listing(extensions: Counter[str]) -> str:
    """'12 .heic, 3 .txt', the most frequent first, no more than five of them."""
    ranked = sorted(extensions.items(), key=lambda item: (-item[1], item[0]))
    words = [f"{count} {extension}" for extension, count in ranked[:5]]
    return ", ".join([*words, "..."] if len(ranked) > 5 else words)


def labelled(found: Scan) -> tuple[tuple[str, ...], list[int]]:
    """The class names, sorted, and each file's label: its top-level subfolder. No subfolders: no classes, labels 0.

    Raises DataError when pictures lie both beside and inside subfolders, or the subfolders are named like splits.
    """
    tops = [name.split("/")[0] if "/" in name else None for name in (file.name for file in found.files)]
    classes = tuple(sorted({top for top in tops if top is not None}))
    if not classes:
        return (), [0] * len(tops)
    loose = [file.name for file, top in zip(found.files, tops, strict=True) if top is None]
    if loose:
        raise DataError(
            f"{found.root} has pictures of its own (such as {loose[0]}, {len(loose)} in all) beside its class folders "
            f"{', '.join(classes[:5])}. Move them into a class folder, or put all pictures into one."
        )
    if {name.casefold() for name in classes} <= _SPLITS:
        raise DataError(
            f"the subfolders of {found.root} are named like splits ({', '.join(classes)}), but subfolders are classes. "
            f"Give `path: {found.root / classes[-1]}` or another of them; the held-out split is made from it."
        )
    index = {name: label for label, name in enumerate(classes)}
    return classes, [index[top] for top in tops if top is not None]


def sides(names: Sequence[str], heldout: float) -> list[bool]:
    """Which files are held out: those whose name's hash is below the share, at least one and at most all but one.

    A file's side depends on its own name alone, so adding files moves no other; only where that would leave a side
    empty does the file with the lowest (or highest) hash change over.
    """
    ranks = [_rank(name) for name in names]
    chosen = [rank < heldout for rank in ranks]
    if not any(chosen):
        chosen[ranks.index(min(ranks))] = True
    if all(chosen):
        chosen[ranks.index(max(ranks))] = False
    return chosen


def _rank(name: str) -> float:
    # A file name need not be valid Unicode; Python keeps the odd bytes as surrogates.
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def stamps(files: Iterable[Found]) -> Iterator[tuple[str, int, int]]:
    """(name, bytes, time of change) of each file, for the cache's key."""
    return ((file.name, file.size, file.mtime_ns) for file in files)
