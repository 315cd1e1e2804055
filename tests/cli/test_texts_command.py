"""Models of texts from the command line: trained, reported, sampled, gone on with, filmed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import carrara as package
from carrara.errors import InputError
from carrara.evaluation.writing import visible

Run = Callable[..., Any]
WORDS = ("the stone ", "a block of marble ", "<b>the form</b> ", "什么 ", "& the chisel ")
RECIPE = """
data: {kind: texts, path: mine.txt, unit: line}
codec: {kind: characters, length: 12, least: 1}
condition: {kind: none}
network: {kind: tokens, width: 16, depth: 1, head_width: 8}
process: {kind: masked}
train_times: {kind: uniform}
training: {batch: 8, warmup_images: 8, previews: 2, precision: float32, kernels: native}
sampling: {sampler: cached, steps: 4}
"""


@pytest.fixture(scope="module")
def trained(carrara: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The folder of a complete run of texts, and what its training said."""
    place = tmp_path_factory.mktemp("words")
    lines = [WORDS[number % 5] * (1 + number % 3) for number in range(1200)]
    (place / "mine.txt").write_text("\n".join(lines))
    (place / "mine.yaml").write_text(RECIPE.replace("mine.txt", str(place / "mine.txt")))
    return place / "run", carrara("train", place / "mine.yaml", "--images", 32, "--out", place / "run")


@pytest.fixture
def verse(trained: tuple[Path, Any]) -> Path:
    assert trained[1].code == 0, trained[1].err
    return trained[0]


def test_a_run_ends_with_previews_and_a_report_that_can_be_read(trained: tuple[Path, Any]) -> None:
    folder, done = trained
    assert done.code == 0 and not done.err and " characters to train on\n" in done.out
    assert ", 32 windows\n" in done.out and re.search(r"^32 of 32 windows  loss .* windows/s ", done.out, re.M)
    assert re.search(r"^complete +32 windows in ", done.out, re.M) and " images" not in done.out
    previews = sorted(path.name for path in (folder / "samples").iterdir())
    assert previews == [f"{images:012d}-{which}.txt" for images in (16, 32) for which in ("ema", "raw")]
    preview = (folder / "samples" / previews[2]).read_text()
    last = package.load(folder).sample(24)
    assert preview.startswith(f"seed 0\n{visible(last[0])}\n\nseed 1\n{visible(last[1])}\n")
    page = (folder / "report.html").read_text()
    for title in ("Samples", "Denoising", "The forward process", "Data", "Training", "Samples on the way"):
        assert f">{title}</h2>" in page
    assert "&lt;b&gt;the form" in page and "<b>the form" not in page and "什么" in page
    assert "after 32 windows" in page and "data-film=" in (folder / "film.html").read_text()


def test_texts_are_printed_with_their_seeds_and_nothing_is_written(carrara: Run, here: Path, verse: Path) -> None:
    done = carrara("sample", verse, "-n", 3, "--seed", 5)
    assert done.code == 0 and not list(here.iterdir())
    made = package.load(verse).sample(3, seed=5)
    shown = "\n".join(f"seed {5 + number}\n{visible(text)}\n" for number, text in enumerate(made))
    assert f"\n{shown}\n" in done.out and "12 tokens" in done.out and "written     nothing" in done.out
    told = carrara("sample", verse, "-n", 3, "--seed", 5, "--json").json
    assert told["texts"] == made and told["seeds"] == [5, 6, 7] and told["out"] is None


def test_texts_are_written_for_people_for_programs_and_a_file_each(carrara: Run, here: Path, verse: Path) -> None:
    made = package.load(verse).sample(3)
    for out in ("new/all.txt", "all.jsonl", "each"):
        done = carrara("sample", verse, "-n", 3, "--batch", 2, "--out", out)
        assert done.code == 0 and f"written     {out}\n" in done.out and "seed 0" not in done.out
    assert (here / "new" / "all.txt").read_text().startswith(f"seed 0\n{visible(made[0])}\n")
    lines = [json.loads(line) for line in (here / "all.jsonl").read_text().split("\n")[:-1]]
    assert [(line["seed"], line["text"]) for line in lines] == list(enumerate(made))
    assert [(here / "each" / f"{seed:05d}.txt").read_bytes().decode() for seed in range(3)] == made
    about = json.loads((here / "each" / "samples.json").read_text())
    assert [entry["file"] for entry in about["samples"]] == ["00000.txt", "00001.txt", "00002.txt"]


def test_a_text_goes_on_and_gaps_are_filled(carrara: Run, here: Path, verse: Path) -> None:
    done = carrara("sample", verse, "-n", 4, "--start", "the ▁▁one", "--json")
    assert done.code == 0 and done.json["start"] == "the ▁▁one"
    assert all(re.match("the ..one", text, flags=re.DOTALL) for text in done.json["texts"])
    said = carrara("sample", verse, "-n", 1, "--start", "the ▁▁one", "--html", "film.html")
    assert "start       7 of 12 tokens are given, 5 are made\n" in said.out and "film.html" in said.out
    assert "the ▁▁one▁▁▁" in (here / "film.html").read_text()


def test_what_is_given_of_a_text_is_kept_whole(verse: Path) -> None:
    model = package.load(verse)
    with pytest.raises(InputError, match=r"strength 0\.5 is of pictures; what is given of a text is kept"):
        model.sample(1, start="the ", strength=0.5)
    assert model.sample(1, start="the ", strength=1) == model.sample(1, start="the ")


def test_how_tokens_are_drawn_reaches_the_sampler(carrara: Run, verse: Path) -> None:
    draw = ("--sampler", "left_to_right", "--temperature", 0.5, "--top-k", 3, "--top-p", 0.9)
    found = carrara("sample", verse, "-n", 1, "--json", *draw).json["sampling"]["options"]
    assert found == {"temperature": 0.5, "top_k": 3, "top_p": 0.9}
    greedy = ("sample", verse, "-n", 4, "--sampler", "left_to_right", "--temperature", 0, "--json")
    assert len(set(carrara(*greedy).json["texts"])) == 1


REFUSED = {
    "--start ''": "--start is empty; give a text that goes on",
    "--start thethethethethe": "the text comes to 15 tokens, and a window holds 12",
    "--start thethethethe": "--start fills the window of 12 tokens: there is nothing to be made",
    "--start the▁▁z": "the character 'z' (U+007A) at position 5 of the text",
    "--start the --mask mask.png": "--mask mask.png is of pictures; in a text write ▁",
    "--start the --strength 0.5": "--strength 0.5 is of pictures",
    "--temperature -1": "temperature is -1.0; it is 0 (always the likeliest token)",
    "--top-k 3": "the sampler 'cached' has no option 'top_k'; choose one that does: left_to_right",
    "--top-p 2": "top_p is 2.0; it is the share",
    "--sampler heun": "the sampler 'heun' walks numbers, and this model makes tokens",
    "--gif film.gif": "--gif film.gif: films of texts are --html FILE.html",
    "--out sheet.png": "--out sheet.png: give a name that ends with .txt or .jsonl",
}


@pytest.mark.parametrize("words", REFUSED)
def test_refused_in_one_sentence(carrara: Run, here: Path, verse: Path, words: str) -> None:
    done = carrara("sample", verse, *(word.strip("'") for word in words.split()))
    assert done.code == 2 and not done.out and not list(here.iterdir())
    assert re.fullmatch(r"carrara: [^\n]+\n", done.err) and REFUSED[words] in done.err


def test_on_a_terminal_a_text_is_seen_as_it_becomes(terminal: Callable[..., tuple[int, str]], verse: Path) -> None:
    code, said = terminal("sample", verse, "-n", 20, "--batch", 1, "--sampler", "first_hitting")
    assert code == 0 and "▁" in said and "sampling" in said and "seed 0" in said
