"""A whole measurement of a model of texts, the study of temperatures, and how both are told."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from small_texts import causal, data, model

from carrara.errors import InputError
from carrara.evaluation.evaluate import evaluate
from carrara.evaluation.kept import keep, note
from carrara.evaluation.studies.media import MEDIA
from carrara.evaluation.texts import run as runner
from carrara.evaluation.texts import told
from carrara.evaluation.texts.beside import Beside, heldout_texts
from carrara.evaluation.texts.figures import MEASURES
from carrara.evaluation.texts.judges import Verdict
from carrara.evaluation.texts.words import words
from carrara.model import Model

NOISE = MEDIA["text"].studies["noise"]


@dataclass(frozen=True)
class Short:
    """A judge to whom short words are probable."""

    name: str = "short"
    unit: str = "word"
    sha256: str = "0" * 64

    def read(self, texts: Sequence[str]) -> Verdict:
        lengths = [len(word) for text in texts for word in words(text)]
        return Verdict(float(sum(lengths)), len(lengths), 0)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARRARA_CACHE", str(tmp_path / "cache"))


def test_samples_stand_beside_as_many_characters() -> None:
    made = causal()
    mine = ["xx said to the people yy"] * 7
    beside = Beside.of(mine, made, data(), Short())
    texts = [side.texts for side in (beside.samples, beside.heldout)]
    assert texts[0] == ["said to the people"] * 7
    assert [sum(map(len, side)) for side in texts] == [7 * 18] * 2 == [beside.characters] * 2
    assert texts[1][0] == heldout_texts(made, data())[0]
    assert all(word in "".join(texts[1]) for text in beside.shuffled.texts for word in text.split())
    found = beside.figures(list(MEASURES))
    assert found["samples"]["distinct_1"] == 4 / 28 and found["samples"]["entropy"] == 2 and found["n"] == 7
    assert found["heldout"]["entropy"] == pytest.approx(found["shuffled"]["entropy"])
    # Of more samples than there is held-out text only as much is looked at.
    many = Beside.of(mine * 1000, made, data())
    whole = sum(map(len, heldout_texts(made, data())))
    assert many.characters == whole == sum(map(len, many.samples.texts)) == sum(map(len, many.heldout.texts))


def test_rows_are_looked_at_whole() -> None:
    made = causal(length=160, layout="rows")
    assert Beside.of(["one two three"], made, data()).samples.texts == ["one two three"]
    assert heldout_texts(made, data())[0] in list(data().heldout.texts)


@pytest.mark.parametrize("make", [model, causal])
def test_a_whole_measurement(make: Any, tmp_path: Path) -> None:
    made = make()
    found = evaluate(made, data(), 12, judge=Short(), batch=5)
    assert json.loads(json.dumps(found)) == found and list(found)[-5:] == [
        "bits",
        *("judge", "entropy", "distinct", "repetition"),
    ]
    assert found["bits"]["n"] == 12 and found["judge"]["judge"] == "short" and found["sampling_s"] > 0
    again = Beside.of(made.sample(12), made, data(), Short())
    for metric in ("judge", "entropy", "distinct", "repetition"):
        samples = found[metric]["samples"]
        assert samples == again.samples.figures(list(samples)) and found[metric]["characters"] == again.characters
    # What is told: every measure once, on the card beside held-out text.
    assert [row[0] for row in told.rows(found)] == [measure.title.lower() for measure in MEASURES.values()]
    assert len(told.tiles(found)) == len(MEASURES) and told.bits_tile(found["bits"]).n == 12
    assert told.compared(found)[0] == found["judge"]["samples"]["perplexity"]
    keep(tmp_path, found)
    note(made, tmp_path / "model", found)
    card = (tmp_path / "model" / "README.md").read_text()
    assert "bits per character" in card and "word entropy" in card
    assert ("at most" in card) == (not found["bits"]["exact"])


def test_bits_alone_need_no_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Model, "sample", lambda *given, **named: pytest.fail("sampled"))
    found = evaluate(causal(), data(), 8, ["bits"])
    assert "sampling_s" not in found and "judge" not in found and told.rows(found) == [] == told.meanings(found)


@pytest.mark.parametrize(
    ("asked", "words_"),
    [
        ({"metrics": ["frechet"]}, "of pictures, and this model makes texts"),
        ({"metrics": ["bitz"]}, "did you mean 'bits'"),
        ({"metrics": ["bits"], "judge": "pocketsphinx"}, "the metric 'judge' alone"),
        ({"features": "inception"}, "features says how pictures are measured"),
        ({"reference": Path("x.npz")}, "reference says how pictures are measured"),
        ({"judge": "nowhere"}, "no judge 'nowhere'"),
    ],
)
def test_what_is_not_of_texts_is_refused(asked: dict[str, Any], words_: str) -> None:
    with pytest.raises(InputError, match=words_):
        evaluate(causal(), data(), 8, **asked)


def test_a_judge_that_does_not_know_the_words_is_said_to() -> None:
    found = evaluate(causal(), data(), 6, ["judge"], judge=Short())
    assert not any("say little" in line for line in told.meanings(found))
    found["judge"]["heldout"]["unknown"] = 0.6
    assert any("knows 40 % of the words" in line for line in told.meanings(found))


# --- the study -------------------------------------------------------------------------------------------------------


def plan(made: Model, folder: Path, *values: float, **changes: Any) -> runner.TextPlan:
    return runner.planned(
        NOISE, made, data(), folder, **{"n": 6, "values": values or None, "judge": Short(), **changes}
    )


def test_cells_are_temperatures_of_what_the_sampler_takes(tmp_path: Path) -> None:
    cells = [(cell.line, cell.x, dict(s.options)) for cell, s in plan(causal(), tmp_path, 0.0, 0.7).cells]
    assert cells == [
        ("all tokens", 0, {"temperature": 0}),
        ("all tokens", 0.7, {"temperature": 0.7}),
        ("top-p 0.9", 0.7, {"temperature": 0.7, "top_p": 0.9}),
    ]
    masked = plan(model(), tmp_path).cells
    assert {cell.line for cell, _ in masked} == {"all tokens"} and len(masked) == len(NOISE.values)


def test_samples_go_on_with_held_out_text_which_is_not_measured(tmp_path: Path) -> None:
    made = plan(causal(), tmp_path, 0.0, 1.0)
    result = runner.run(made)
    ids = runner.tokens_of(made, made.cells[1][1])["ids"]
    assert made.given == 8 and torch.equal(ids[:, :8], made.real[:, :8]) and not torch.equal(ids, made.real)
    assert made.texts(made.real) != made.model.codec.decode(made.real)
    assert result["heldout"] == runner.Looked(made.texts(made.real), Short()).figures(NOISE.measures)
    # Greedy knows no chance: other seeds give the same texts, and the study's cells the same figures.
    other = plan(causal(), tmp_path, 0.0, 1.0, seed=100)
    greedy, drawn = runner.run(other)["cells"][:2]
    mine = result["cells"]
    assert all(greedy[name] == mine[0][name] for name in NOISE.measures)
    assert any(drawn[name] != mine[1][name] for name in NOISE.measures)


def test_a_study_goes_on_and_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, medium = plan(causal(), tmp_path, 0.0, 1.0), MEDIA["text"]
    assert len(made.missing()) == 3
    result = runner.run(made)
    assert not made.missing()
    monkeypatch.setattr(runner, "draw", lambda *given: pytest.fail("sampled again"))
    again = runner.run(plan(causal(), tmp_path, 0.0, 1.0))
    assert again["cells"] == result["cells"] and json.loads(json.dumps(result)) == result
    page = medium.write_page(NOISE, result, medium.sheets(made), tmp_path / "noise.html").read_text()
    for words_ in ("Why tokens are drawn", "Repeated 4-grams", "top-p 0.9", "shuffled words", " | "):
        assert words_ in page


def test_rows_are_made_from_nothing(tmp_path: Path) -> None:
    made = plan(causal(length=160, layout="rows"), tmp_path, 1.0, n=3)
    assert made.given == 0 and runner.run(made)["given_tokens"] == 0
    assert "|" not in runner.shown(made, made.real)[0]


def test_what_cannot_be_studied_is_refused(tmp_path: Path) -> None:
    for changes, said in (
        ({"n": 10**6}, "held-out windows"),
        ({"options": {}}, "sets options itself"),
        ({"values": [-1.0]}, "temperatures of 0 or more"),
    ):
        with pytest.raises(InputError, match=said):
            plan(causal(), tmp_path, **changes)
    with pytest.raises(InputError, match="no study 'size' of texts"):
        MEDIA["text"].study("size", "text")
