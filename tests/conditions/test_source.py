"""A source as a condition: what can be asked for, what is kept, and runs of pairs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import carrara
from carrara.conditions.base import dropped
from carrara.conditions.source import SourceCondition
from carrara.data import Dataset, Split
from carrara.data.documents import Documents
from carrara.errors import DamagedFile, InputError, RecipeError
from carrara.recipe import check
from carrara.rng import Streams
from carrara.training.budget import Asked
from carrara.training.run import Run

WORDS = ("ab", "ba", "abba", "baab", "bb", "aa", "aba", "bab")


def split(sources: tuple[str, ...]) -> Split:
    said = [word.upper()[::-1] for word in sources]
    return Split(Documents.of(said), np.zeros(len(said), np.int64), sources=Documents.of(sources))


def pairs() -> Dataset:
    """Spellings of two letters, which are said backwards."""
    return Dataset("pairs", (), split(WORDS * 8), split(("abab", "bba")), "f" * 64, "none", "made here")


def letters() -> Dataset:
    """Small letters, and the same in capitals."""
    return Dataset("letters", (), split(tuple("abcd") * 8), split(tuple("ab")), "e" * 64, "none", "made here")


def plain() -> Dataset:
    texts = Split(Documents.of(["A", "B"]), np.zeros(2, np.int64))
    return Dataset("plain", (), texts, texts, "d" * 64, "none", "made here")


def condition(dropout: float = 0.0, **codec: Any) -> SourceCondition:
    return SourceCondition({"kind": "characters", "length": 4, **codec}, dropout).fit(pairs())


def test_a_source_is_its_codecs_tokens_filled_up_with_its_end() -> None:
    made = condition()
    assert made.told() == {"source_vocab": 4, "source_length": 4}
    found = made.ask(2, source=["ab", "bbba"])["source"]
    assert found.tolist() == [[0, 1, 3, 3], [1, 1, 1, 0]] and found.dtype == torch.int64
    assert made.ask(2, source="b")["source"].tolist() == [[1, 3, 3, 3]] * 2
    assert made.null(2)["source"].tolist() == [[4] * 4] * 2


def test_where_nobody_asks_the_examples_are_taken_in_turn() -> None:
    made = condition()
    assert made.examples == ("abab", "bba")
    assert torch.equal(made.ask(3)["source"], made.ask(3, source=["abab", "bba", "abab"])["source"])
    unmade = SourceCondition({"kind": "bytes", "length": 2})
    assert torch.equal(unmade.ask(1)["source"], unmade.null(1)["source"])


def test_examples_are_sources_that_can_be_asked_for() -> None:
    held_out = tuple(word for number in range(40) for word in ("abababab", "axb", "ab" if number % 2 else "bbba"))
    data = Dataset("pairs", (), split(WORDS * 8), split(held_out), "c" * 64, "none", "made here")
    made = SourceCondition({"kind": "characters", "length": 4}).fit(data)
    assert len(made.examples) == 24 and set(made.examples) == {"ab", "bbba"}
    assert len(made.ask(24)["source"]) == 24
    too_long = Dataset("pairs", (), split(WORDS * 8), split(("ababab",) * 3), "b" * 64, "none", "made here")
    nothing = SourceCondition({"kind": "characters", "length": 4}).fit(too_long)
    assert nothing.examples == () and torch.equal(nothing.ask(1)["source"], nothing.null(1)["source"])


def test_data_is_encoded_with_what_is_unknown_and_cut_where_it_is_too_long() -> None:
    assert condition().encode({"source": ["axb", "aabba"]})["source"].tolist() == [[0, 2, 1, 3], [0, 0, 1, 1]]


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        ({"source": "axb"}, r"the source 'axb': the character 'x' \(U\+0078\) at position 1"),
        ({"source": ["a", "ababa"]}, "the source 'ababa' comes to 5 tokens, and this model reads 4; shorten it"),
        ({"source": ["a"]}, "1 sources were given for 2 samples; give one, or one for each"),
        ({"source": [1, 2]}, "a source is a text, and 1 is a int"),
        ({"label": 1}, "this model is asked for by source; it does not know label"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(wishes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        condition().ask(2, **wishes)


@pytest.mark.parametrize(
    ("codec", "words"),
    [
        ({"kind": "characters", "lenght": 4}, r"condition\.codec\.lenght is an unknown key: did you mean 'length'"),
        ({"kind": "characters", "length": "4"}, r"condition\.codec\.length is '4'"),
        ({"kind": "charcters"}, r"condition\.codec\.kind: .*did you mean 'characters'"),
        ({"length": 4}, r"condition\.codec needs a kind: bpe, bytes, characters"),
        ({"kind": "pixels"}, "sources are texts"),
        ({"kind": "bytes", "layout": "packed"}, "sources are texts, a window each"),
    ],
)
def test_a_codec_that_gives_no_windows_of_texts_is_refused(codec: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        SourceCondition(codec)


def test_impossible_conditions_are_refused() -> None:
    with pytest.raises(InputError, match=r"condition\.dropout is 1"):
        SourceCondition({"kind": "bytes"}, dropout=1.0)
    for kind in ("bytes", "characters"):
        with pytest.raises(InputError, match="the dataset plain has no sources: choose one of pairs"):
            SourceCondition({"kind": kind}).fit(plain())


def test_sources_that_are_cut_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        condition(length=3)
    assert [record.getMessage() for record in caplog.records] == [
        "16 of 64 texts are longer than a window of 3 tokens, and are cut"
    ]


def test_dropped_sources_are_the_null_whole() -> None:
    made = condition(dropout=0.5)
    found = dropped(made, made.ask(200, source="ab"), Streams(range(200)))
    assert found is not None
    gone = (found["source"] == 4).all(1)
    assert 60 < int(gone.sum()) < 140 and not bool((found["source"][~gone] == 4).any())


def test_what_is_kept_comes_back_and_damage_is_named(tmp_path: Path) -> None:
    made = condition()
    made.save(tmp_path)
    back = SourceCondition({"kind": "characters", "length": 4}).restore(tmp_path)
    assert back.examples == made.examples and torch.equal(back.ask(5)["source"], made.ask(5)["source"])
    (tmp_path / "examples.json").write_text('{"sources": 3}')
    with pytest.raises(DamagedFile, match="holds no sources"):
        back.restore(tmp_path)


CONTENT: dict[str, Any] = {
    "name": "pairs",
    "seed": 1,
    "data": {"kind": "test_source:pairs"},
    "codec": {"kind": "characters", "length": 5, "layout": "rows"},
    "condition": {"kind": "source", "codec": {"kind": "characters", "length": 4}, "dropout": 0.1},
    "network": {"kind": "tokens", "width": 32, "depth": 2, "head_width": 16},
    "process": {"kind": "masked"},
    "train_times": {"kind": "uniform"},
    "training": {
        "batch": 16, "lr": 0.01, "warmup_images": 64, "ema_images": 200, "previews": 1, "checkpoint_s": 0,
        "precision": "float32", "kernels": "native",
    },
    "sampling": {
        "sampler": "confidence", "steps": 4,
        "options": {"remask": True, "temperature": 0.0, "choice_temperature": 0.0},
    },
}  # fmt: skip
AUTOREGRESSIVE = {
    "network": {**CONTENT["network"], "causal": True},
    "process": {"kind": "autoregressive"},
    "sampling": {"sampler": "left_to_right", "steps": 1, "options": {"temperature": 0.0}},
}


@pytest.fixture(autouse=True)
def _found_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def opened(folder: Path, images: int, **changes: Any) -> Run:
    return Run(check({**CONTENT, **changes}), folder, Asked(images=images))


def trained(folder: Path, images: int, steps: int | None = None, **changes: Any) -> Run:
    run = opened(folder, images, **changes)
    progress = run.train()
    for _ in progress if steps is None else zip(range(steps), progress, strict=False):
        pass
    progress.close()
    return run


@pytest.mark.parametrize("changes", [{}, AUTOREGRESSIVE], ids=["masked", "autoregressive"])
def test_a_run_learns_to_make_texts_from_their_sources(tmp_path: Path, changes: dict[str, Any]) -> None:
    small = {"data": {"kind": "test_source:letters"}, "codec": {**CONTENT["codec"], "length": 2}}
    trained(tmp_path / "run", 1920, **small, **changes)
    (tmp_path / "run" / "model").rename(tmp_path / "model")
    model = carrara.load(tmp_path / "model")
    assert (tmp_path / "model" / "condition" / "characters.json").is_file()
    assert model.sample(source=list("dbca")) == list("DBCA")
    assert model.sample(3, source="c") == ["C"] * 3 and model.sample(4) == ["A", "B", "A", "B"]
    with pytest.raises(InputError, match="the source 'e'"):
        model.sample(source="e")


def test_a_run_that_stopped_goes_on_bit_for_bit(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", 160)
    trained(tmp_path / "split", 160, steps=4)
    again = trained(tmp_path / "split", 160)
    ours, theirs = (run.trainable.model.denoiser.state_dict() for run in (again, whole))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_packed_windows_have_no_sources(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"set codec\.layout to rows"):
        opened(tmp_path, 16, codec={"kind": "characters", "length": 5})


def test_guidance_goes_from_the_null_to_the_source(tmp_path: Path) -> None:
    trained(tmp_path, 160)
    assert len(carrara.load(tmp_path).sample(2, source="ab", guidance_scale=2.0)) == 2


def test_a_page_tells_the_source_of_each_sample(tmp_path: Path) -> None:
    from carrara.evaluation.summary import samples_section

    made = carrara.load(trained(tmp_path, 16).folder)
    blocks = str(samples_section(made).blocks)
    assert "seed 0, abab" in blocks and "seed 1, bba" in blocks
