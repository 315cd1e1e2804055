"""`carrara sample --prompt`, and what evaluations and reports ask of a model that is asked in words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Run = Callable[..., Any]

COLOURS = {"red": (255, 0, 0), "green": (0, 200, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}
SMALL = [
    "data.kind=folder", "data.size=16", "data.heldout=0.7", "condition={kind: text, encoder: bytes, length: 12}",
    "network.width=8", "network.depth=1", "training.batch=8", "training.warmup_images=0", "training.previews=1",
    "training.precision=float32", "training.kernels=native", "sampling.steps=2",
]  # fmt: skip


@pytest.fixture(scope="module")
def drawn(carrara: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on pictures of two colours, told what they are."""
    folder, out = tmp_path_factory.mktemp("pictures"), tmp_path_factory.mktemp("runs") / "run"
    lines = []
    for above in COLOURS:
        for below in COLOURS:
            picture = np.full((16, 16, 3), COLOURS[above], np.uint8)
            picture[8:] = COLOURS[below]
            Image.fromarray(picture).save(folder / f"{above}-{below}.png")
            lines.append(json.dumps({"file_name": f"{above}-{below}.png", "text": f"{above} {below}"}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    changes = [*SMALL, f"data.path={folder}"]
    done = carrara("train", "emoji", "--images", 16, "--out", out, *(f"--set={change}" for change in changes))
    assert done.code == 0, done.err
    return out


def test_each_sample_is_of_its_prompt_and_says_so(carrara: Run, here: Path, drawn: Path) -> None:
    (here / "some.txt").write_text("blue\n\n  white red \n")
    words = ["--prompt", "red", "--prompts", "some.txt", "--negative-prompt", "green", "-n", 4]
    done = carrara("sample", drawn, *words, "--out", "made", "--gif", "film.gif", "--json")
    assert done.code == 0, done.err
    assert (
        done.json["prompts"] == ["red", "blue", "white red", "red"] and done.json["negative_prompts"] == ["green"] * 4
    )
    made = json.loads((here / "made" / "samples.json").read_text())["samples"]
    assert [(one["prompt"], one["negative_prompt"]) for one in made[1:3]] == [
        ("blue", "green"),
        ("white red", "green"),
    ]
    assert (here / "film.gif").is_file()


def test_a_prompt_makes_the_sample_that_python_makes(carrara: Run, here: Path, drawn: Path) -> None:
    import carrara as library

    assert carrara("sample", drawn, "--prompt", "red", "--prompt", "blue", "--out", "made").code == 0
    made = [np.asarray(Image.open(path)) for path in sorted((here / "made").glob("*.png"))]
    model = library.load(drawn)
    assert np.array_equal(np.stack(made).transpose(0, 3, 1, 2), model.sample(prompt=["red", "blue"]).numpy())


def test_a_sheet_has_the_prompts_above_its_pictures(carrara: Run, here: Path, drawn: Path) -> None:
    for name, words in (("one", "red"), ("other", "blue"), ("none", "")):
        assert carrara("sample", drawn, "-n", 2, "--prompt", words, "--out", f"{name}.png").code == 0
    one, other, none = (Image.open(here / f"{name}.png") for name in ("one", "other", "none"))
    above = (0, 0, one.width, one.height - 96)
    assert one.height > 96 and np.asarray(one.crop(above)).tobytes() != np.asarray(other.crop(above)).tobytes()
    assert set(np.asarray(none.crop(above)).ravel()) == {255}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ["--prompt", "a", "--prompt", "b", "-n", 1],
            "2 prompts were given for 1 samples; give -n 2 or fewer prompts",
        ),
        (["--prompts", "nowhere.txt"], "--prompts nowhere.txt cannot be read: No such file or directory"),
        (["--prompts", "empty.txt"], "--prompts empty.txt is empty"),
        (["--prompts", "latin.txt"], "it is not text in UTF-8"),
        (
            ["--prompt", "a", "--negative-prompt", "b", "--guidance-scale", 1],
            "a negative prompt does nothing without",
        ),
        (["--label", "3"], "this model is asked for by prompt; it does not know label"),
        (["--source", "a"], "this model is asked for by prompt; it does not know source"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    carrara: Run, here: Path, drawn: Path, options: list[Any], words: str
) -> None:
    (here / "empty.txt").write_text("\n \n")
    (here / "latin.txt").write_bytes(b"caf\xe9")
    done = carrara("sample", drawn, *options)
    assert done.code == 2 and words in done.err


def test_an_empty_prompt_asks_for_nothing_in_particular(carrara: Run, here: Path, drawn: Path) -> None:
    for name, options in (("one", []), ("other", ["--guidance-scale", 1]), ("spaces", ["--guidance-scale", 7])):
        prompt = "  " if name == "spaces" else ""
        done = carrara("sample", drawn, "-n", 2, "--prompt", prompt, *options, "--out", name)
        assert done.code == 0 and not done.err, done.err
    for file in ("00000.png", "00001.png"):
        made = [np.asarray(Image.open(here / name / file)).astype(int) for name in ("one", "other", "spaces")]
        assert max(np.abs(picture - made[0]).max() for picture in made) <= 1


def test_an_encoder_without_its_tokenizer_is_refused_before_anything_is_trained(
    carrara: Run, here: Path, drawn: Path
) -> None:
    (here / "encoder").mkdir()
    (here / "encoder" / "config.json").write_text('{"hidden_size": 8}')
    (here / "encoder" / "model.safetensors").write_bytes(b"")
    recipe = drawn / "recipe.yaml"
    done = carrara("train", recipe, "--set", f"condition.encoder={here}/encoder", "--images", 8, "--out", "new")
    assert done.code == 2 and "encoder has no tokenizer: none of tokenizer.json" in done.err
    assert not (here / "new" / "model").exists()


def test_a_folder_with_captions_missing_says_which(carrara: Run, here: Path, drawn: Path) -> None:
    (here / "some").mkdir()
    for number in range(12):
        Image.new("RGB", (16, 16), (20 * number, 0, 0)).save(here / "some" / f"{number}.png")
    lines = [json.dumps({"file_name": f"{number}.png", "text": "" if number % 2 else "red"}) for number in range(12)]
    (here / "some" / "metadata.jsonl").write_text("\n".join(lines))
    named = "6 pictures without a caption: 1.png, 11.png, 3.png, 5.png, 7.png, …"
    assert named in carrara("data", "some", "--set", "size=16").out
    words = [
        "train",
        drawn / "recipe.yaml",
        "--set",
        f"data.path={here}/some",
        "--set=data.heldout=0.4",
        "--images",
        8,
        "--out",
        "new",
    ]
    done = carrara(*words)
    assert done.code == 0, done.err
    said = " ".join(done.err.split())
    assert f"captions are empty, and are trained on as the null ({named})" in said


def test_a_clip_score_and_a_comparison_ask_for_held_out_captions(
    carrara: Run, here: Path, drawn: Path, cheap: str
) -> None:
    import shutil

    recipe = (drawn / "recipe.yaml").read_text()
    place = next(line.split(": ", 1)[1] for line in recipe.splitlines() if line.strip().startswith("path:"))
    small = [
        "data.kind=folder", f"data.path={place}", "data.size=16", "data.heldout=0.7", "trainable.image=pixels",
        "trainable.text=words", "trainable.dim=8", "training.batch=8", "training.previews=1", "trainable.neighbours=3",
    ]  # fmt: skip
    done = carrara("train", "clip-emoji", "--images", 32, "--out", "clip", *(f"--set={change}" for change in small))
    assert done.code == 0, done.err
    words = ["--features", cheap, "-n", 6, "--metrics", "frechet,clip_score", "--clip", "clip", "--json"]
    shutil.copytree(drawn, here / "run")
    found = carrara("evaluate", "run", *words)
    assert found.code == 0, found.err
    score = found.json["clip_score"]
    assert (score["n"], score["of"]) == (6, "captions") and score["texts"] == 6 and score["ceiling"] is not None
    shutil.copytree(drawn / "model", here / "other")
    done = carrara("compare", "run", "other", "--features", cheap, "-n", 6, "--json")
    assert done.code == 0, done.err
    one, other = (thing["figures"] for thing in done.json["things"])
    assert one["frechet"] == other["frechet"] == pytest.approx(found.json["frechet"]["value"], rel=1e-6)


def test_a_model_without_prompts_says_so(carrara: Run, model: Path) -> None:
    done = carrara("sample", model, "--prompt", "seven")
    assert done.code == 2 and "it does not know prompt" in done.err


def test_a_prompt_that_is_cut_is_said_once(carrara: Run, here: Path, drawn: Path) -> None:
    done = carrara("sample", drawn, "-n", 2, "--prompt", "red " * 2500, "--out", "s.png", "--gif", "s.gif")
    assert done.code == 0 and done.err.count("characters are not read") == 1 and len(done.err) < 600
    words = " ".join(done.err.split())
    assert "the last 9,988 characters are not read" in words or "the last 9,987 characters are not read" in words
    assert "'red red" in words.partition("tokens: ")[2]


def test_evaluations_ask_for_held_out_captions(carrara: Run, drawn: Path, cheap: str) -> None:
    from carrara.evaluation.prompts import wishes_of
    from carrara.model import load
    from carrara.recipe import check, parse
    from carrara.training.run import dataset_of

    done = carrara("evaluate", drawn, "-n", 4, "--features", cheap, "--metrics", "frechet,neighbours", "--json")
    assert done.code == 0 and done.json["n"] == 4, done.err
    dataset = dataset_of(check(parse((drawn / "recipe.yaml").read_text(), "recipe")))
    asked = wishes_of(load(drawn), dataset, 9, {"steps": 2})
    assert asked["steps"] == 2 and set(asked["prompt"]) == set(dataset.heldout.captions or ())
    assert wishes_of(load(drawn), dataset, 9, {"prompt": "red"}) == {"prompt": "red"}
    refused = carrara("evaluate", drawn, "-n", 4, "--metrics", "classes")
    assert refused.code == 2 and "this model has no labels" in refused.err


def test_the_report_tells_that_prompts_were_held_out(drawn: Path) -> None:
    page = (drawn / "report.html").read_text()
    assert "the prompts are captions of held-out pictures" in page and "Samples under their prompts" in page


def test_prompts_in_chinese_are_asked_and_told_of_as_they_are(carrara: Run, here: Path, drawn: Path) -> None:
    import carrara as library

    (here / "some.txt").write_text("红心\n蓝色 car\n", encoding="utf-8")
    done = carrara("sample", drawn, "--prompts", "some.txt", "--out", "made", "--json")
    assert done.code == 0 and done.json["prompts"] == ["红心", "蓝色 car"], done.err
    assert json.loads((here / "made" / "samples.json").read_text())["samples"][1]["prompt"] == "蓝色 car"
    made = np.stack([np.asarray(Image.open(path)) for path in sorted((here / "made").glob("*.png"))])
    model = library.load(drawn)
    assert np.array_equal(made.transpose(0, 3, 1, 2), model.sample(prompt=["红心", "蓝色 car"]).numpy())
    assert model.condition.ask(1, prompt="红心")["text"][0, :6].tolist() == list("红心".encode())  # type: ignore[index]
    assert carrara("sample", drawn, "--prompt", "红心", "--out", "sheet.png").code == 0


def test_a_picture_of_a_file_of_prompts_is_made_again_alone(carrara: Run, here: Path, drawn: Path) -> None:
    (here / "some.txt").write_text("\n".join(["red", "blue white", "green", "red blue", "white", "blue"]))
    done = carrara("sample", drawn, "--prompts", "some.txt", "--seed", 40, "--batch", 4, "--out", "made")
    assert "            41: blue white" in done.out and "again       --seeds 45 --prompt blue makes" in done.out
    assert carrara("sample", drawn, "--seeds", 41, "--prompt", "blue white", "--out", "alone").code == 0
    assert (here / "alone" / "00041.png").read_bytes() == (here / "made" / "00041.png").read_bytes()


def test_letters_have_nothing_in_between_but_seeds_have(carrara: Run, here: Path, drawn: Path) -> None:
    refused = carrara("sample", drawn, "--between", 2, "--prompt", "red", "--prompt", "blue")
    assert (
        refused.code == 2 and "nothing lies between two letters; give one prompt and go between seeds" in refused.err
    )
    done = carrara("sample", drawn, "--between", 2, "--prompt", "red", "--out", "strip.png", "--json")
    assert done.code == 0 and done.json["prompts"] == ["red", "red"], done.err
    with Image.open(here / "strip.png") as strip:
        assert strip.width > 4 * 96


def test_the_report_tells_each_samples_seed(drawn: Path) -> None:
    page = (drawn / "report.html").read_text()
    assert "Seeds 0 to 47" in page and "is its place, counted from 0 in rows" in page
