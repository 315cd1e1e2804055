"""WordNet's definitions: 117659 short English texts, each with the words it defines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from carrara.data import packages
from carrara.data.cache import About, key, stamp
from carrara.data.dataset import Dataset
from carrara.data.text import rank, read_utf8
from carrara.data.text_cache import TextStaging, cached_texts
from carrara.errors import DataError

SYSTEM = Path("/usr/share/wordnet")
PACKAGE = "wordnet-base"
_FILES = ("data.noun", "data.verb", "data.adj", "data.adv")
_HELDOUT = 0.05
# WordNet's 45 lexicographer files, in their numbers' order: what a definition is of.
_CLASSES = (
    "adj.all", "adj.pert", "adv.all", "noun.Tops", "noun.act", "noun.animal", "noun.artifact", "noun.attribute",
    "noun.body", "noun.cognition", "noun.communication", "noun.event", "noun.feeling", "noun.food", "noun.group",
    "noun.location", "noun.motive", "noun.object", "noun.person", "noun.phenomenon", "noun.plant",
    "noun.possession", "noun.process", "noun.quantity", "noun.relation", "noun.shape", "noun.state",
    "noun.substance", "noun.time", "verb.body", "verb.change", "verb.cognition", "verb.communication",
    "verb.competition", "verb.consumption", "verb.contact", "verb.creation", "verb.emotion", "verb.motion",
    "verb.perception", "verb.possession", "verb.social", "verb.stative", "verb.weather", "adj.ppl",
)  # fmt: skip


def gloss(path: Path | None = None) -> Dataset:
    """Pairs: the text is a definition with its examples, the source is the words it defines, "thing, object".

    path: a folder with WordNet's data.noun, data.verb, data.adj and data.adv; by default where the Debian package puts them
    or where `make data` does. The classes are WordNet's 45 lexicographer files, such as noun.animal. About a twentieth is
    held out by a hash of the definition. Raises DataError when a file is missing or holds something else. Source: C.
    Fellbaum (ed.), WordNet: An Electronic Lexical Database, 1998.
    """
    folder = _folder(path)
    files = [_file(folder, name) for name in _FILES]

    def build(staging: TextStaging) -> None:
        for file in files:
            for text, label, source in _entries(file):
                staging.add(rank(text) < _HELDOUT, text, label, source)
        staging.finish(_about())

    name = key("gloss", {"folder": folder.resolve()}, map(stamp, files))
    return cached_texts(name, build, paired=True)


def fetched() -> Path:
    """Where `python -m carrara.data.fetch` puts the files."""
    return packages.fetched(SYSTEM)


def installed(places: Iterable[Path] | None = None) -> Path | None:
    """The first folder that holds all four files: the system's, else the cache's, else None."""
    return packages.installed(SYSTEM, _whole, places)


def _whole(folder: Path) -> bool:
    return all((folder / name).is_file() for name in _FILES)


def _folder(path: Path | None) -> Path:
    return packages.debian_folder(path, SYSTEM, _whole, PACKAGE, "WordNet", ", ".join(_FILES))


def _file(folder: Path, name: str) -> Path:
    if not (folder / name).is_file():
        raise DataError(f"{folder} has no {name}. Give `path:` a folder with all four: {', '.join(_FILES)}.")
    return folder / name


def _about() -> About:
    return About(
        name="gloss",
        options={"kind": "gloss"},
        classes=_CLASSES,
        licence="WordNet licence (free for any purpose, Copyright Princeton University)",
        source="WordNet 3.0, from the Debian package wordnet-base",
    )


def _entries(file: Path) -> Iterator[tuple[str, int, str]]:
    """(definition, class, words) of each line; the licence at the top is indented. Raises DataError on an odd line.

    A line is: offset, file number, part of speech, number of words (hexadecimal), each word with a number, …, "| text".
    """
    for number, line in enumerate(read_utf8(file).split("\n"), start=1):
        if not line or line.startswith("  "):
            continue
        try:
            head, _, text = line.partition("| ")
            fields = head.split()
            count = int(fields[3], 16)
            label = range(len(_CLASSES))[int(fields[1])]
            yield _said(text), label, ", ".join(map(_word, fields[4 : 4 + 2 * count : 2]))
        except (ValueError, IndexError) as error:
            raise DataError(
                f"{file} line {number} is no entry of WordNet 3.0: {line[:60]!r}. Fetch the file again."
            ) from error


def _said(text: str) -> str:
    if not text.strip():
        raise ValueError("no definition")
    return text.strip()


def _word(lemma: str) -> str:
    """A word as it is written: living_thing -> living thing; adjectives may carry their place, galore(ip)."""
    return lemma.partition("(")[0].replace("_", " ")
