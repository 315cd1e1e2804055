"""`carrara sample --source`: texts made from others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]

PAIRS = [
    "data={kind: texts, path: pairs.jsonl, key: said, source: word}",
    "codec={kind: characters, length: 4, layout: rows, least: 1}",
    "condition.codec={kind: characters, length: 3, least: 1}",
    "network.width=16", "network.depth=1", "network.head_width=8",
    "training.batch=8", "training.warmup_images=0", "training.previews=1", "training.precision=float32", "training.kernels=native",
]  # fmt: skip


@pytest.fixture
def spoken(carrara: Run, here: Path) -> str:
    """A model of small letters and their capitals."""
    words = ["ab", "ba", "aab", "abb", "a", "b", "bab", "aba"]
    lines = [json.dumps({"word": word, "said": word.upper()}) for word in words * 200]
    (here / "pairs.jsonl").write_text("\n".join(lines))
    done = carrara("train", "phonemes", "--images", 16, "--out", "run", *(f"--set={change}" for change in PAIRS))
    assert done.code == 0, done.err
    return "run"


def test_each_sample_is_of_its_source(carrara: Run, here: Path, spoken: str) -> None:
    done = carrara(
        "sample", spoken, "--source", "ab", "--source", "b", "-n", 3, "--out", "made.jsonl", "--html", "film.html"
    )
    assert done.code == 0, done.err
    made = [json.loads(line) for line in (here / "made.jsonl").read_text().splitlines()]
    assert [line["source"] for line in made] == ["ab", "b", "ab"] and (here / "film.html").is_file()
    printed = carrara("sample", spoken, "--source", "ab", "--source", "b").out
    assert "seed 0, ab" in printed and "seed 1, b" in printed and "seeds       0 to 1\n" in printed
    assert "seed 0, " in carrara("sample", spoken, "-n", 1).out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--source", "ac"], "the source 'ac': the character 'c' (U+0063) at position 1"),
        (["--source", "abab"], "the source 'abab' comes to 4 tokens, and this model reads 3"),
        (
            ["--source", "a", "--source", "b", "-n", 1],
            "2 sources were given for 1 samples; give -n 2 or fewer sources",
        ),
    ],
)
def test_what_it_does_not_read_is_refused(carrara: Run, spoken: str, options: list[Any], words: str) -> None:
    done = carrara("sample", spoken, *options)
    assert done.code == 2 and words in done.err


def test_a_model_without_sources_says_so(carrara: Run, model: Path) -> None:
    done = carrara("sample", model, "--source", "ab")
    assert done.code == 2 and "it does not know source" in done.err
