"""A CLIP from a folder: its network, its tokenizer and its preprocessing are those of its own files."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from carrara.errors import DamagedFile, InputError, MissingExtra
from carrara.evaluation.captions import Captioned, clip_score
from carrara.evaluation.clip import Clip, ClipFeatures
from carrara.evaluation.clip_folder import Preprocessing, load_clip
from carrara.evaluation.features import Features

WORDS = ["a", "b", "c", "cat</w>", "dog</w>", "a</w>", "b</w>", "c</w>", "t", "d", "o", "g", "g</w>", "t</w>"]
SENTENCES = ["a cat", "a dog", "", "c a b " * 20]


def pictures(n: int, height: int = 40, width: int = 40, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, 3, height, width), dtype=torch.uint8, generator=rng)


def tokenizer() -> Any:
    from transformers import CLIPTokenizer

    ends = {"<|startoftext|>": len(WORDS), "<|endoftext|>": len(WORDS) + 1}
    merges = [("c", "a"), ("ca", "t</w>"), ("d", "o"), ("do", "g</w>")]
    vocab = {word: index for index, word in enumerate([*WORDS, *ends])} | {"ca": 16, "do": 17}
    return CLIPTokenizer(vocab=vocab, merges=merges)


def network() -> Any:
    from transformers import CLIPConfig, CLIPModel

    ends = {"bos_token_id": 14, "eos_token_id": 15, "pad_token_id": 15}
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**shape, "vocab_size": 18, "max_position_embeddings": 12, **ends}
    vision = {**shape, "image_size": 32, "patch_size": 8}
    torch.manual_seed(0)
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=10))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("transformers")
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    folder = tmp_path_factory.mktemp("clip") / "tiny"
    network().save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=32).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """One to spoil."""
    return Path(shutil.copytree(made, tmp_path / "tiny"))


@pytest.fixture(scope="module")
def clip(made: Path) -> Clip:
    return load_clip(made)


def rewrite(path: Path, **words: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | words))


def test_it_is_a_clip_and_says_what_decides_its_values(clip: Clip, made: Path) -> None:
    assert isinstance(clip, Clip) and (clip.name, clip.dim) == ("tiny@32", 10)
    assert clip.sha256 == hashlib.sha256((made / "model.safetensors").read_bytes()).hexdigest()
    for vectors, n in ((clip.images(pictures(3)), 3), (clip.texts(SENTENCES), 4)):
        assert vectors.shape == (n, 10) and vectors.dtype == torch.float32 and not vectors.requires_grad
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(n))
    assert clip.images(pictures(0)).shape == clip.texts([]).shape == (0, 10)


def test_it_says_what_transformers_says(clip: Clip, made: Path) -> None:
    """Its own classes, asked in its own way, on pictures that must be resized and cropped."""
    from transformers import AutoTokenizer, CLIPModel
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    images = pictures(3, 40, 61)
    pixels = CLIPImageProcessorPil.from_pretrained(made)(images=list(images.numpy()), return_tensors="pt")
    words = AutoTokenizer.from_pretrained(made)(
        SENTENCES, padding="max_length", truncation=True, max_length=12, return_tensors="pt"
    )
    with torch.no_grad():
        judge = CLIPModel.from_pretrained(made)(**words, **pixels)
    torch.testing.assert_close(clip.images(images), judge.image_embeds, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(clip.texts(SENTENCES), judge.text_embeds, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}},
        {"size": {"shortest_edge": 24}, "crop_size": {"height": 33, "width": 32}},
        {"size": {"height": 20, "width": 31}, "do_center_crop": False},
        {"do_resize": False, "crop_size": 30},
        {"size": {"shortest_edge": 45}, "crop_size": 45, "resample": 2, "image_mean": [0.1, 0.2, 0.3]},
    ],
)
@pytest.mark.parametrize("size", [(40, 40), (64, 37), (33, 90), (8, 9)])
@pytest.mark.parametrize("nested", [False, True])
def test_preprocessing_is_the_librarys(
    options: dict[str, Any], size: tuple[int, int], nested: bool, tmp_path: Path
) -> None:
    pytest.importorskip("transformers")
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    judge = CLIPImageProcessorPil(**options)
    judge.save_pretrained(tmp_path)
    path = tmp_path / "preprocessor_config.json"
    if nested:
        words = json.loads(path.read_text())
        path.rename(tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": words}))
    images = pictures(2, *size)
    expected = judge(images=list(images.numpy()), return_tensors="pt")["pixel_values"]
    mine = Preprocessing.read(tmp_path)
    # Where it was rounded by another route, at most one grey level of 255 over the deviation.
    torch.testing.assert_close(mine(images), expected, rtol=0, atol=1e-5)
    assert mine.size == expected.shape[2:]


def test_what_a_configuration_leaves_out_is_what_clip_was_trained_with(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": 224, "crop_size": 224}))
    short = Preprocessing.read(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text("{}")
    assert short == Preprocessing.read(tmp_path) and short.size == (224, 224)
    assert str(short) == "Pillow bicubic short side 224, the middle 224 x 224"


def test_a_row_is_the_same_in_any_company(clip: Clip) -> None:
    images, sentences = pictures(19), SENTENCES * 5
    alone = torch.cat([clip.images(image[None]) for image in images])
    torch.testing.assert_close(clip.images(images), alone, rtol=1e-5, atol=1e-5)
    alone = torch.cat([clip.texts([sentence]) for sentence in sentences])
    torch.testing.assert_close(clip.texts(sentences), alone, rtol=1e-5, atol=1e-5)
    assert torch.pdist(clip.images(images)).min() > 1e-4 and torch.pdist(clip.texts(SENTENCES)).min() > 1e-4


def test_loading_says_nothing_and_leaves_all_as_it_was(made: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from transformers.utils import logging

    before, state = (logging.get_verbosity(), logging.is_progress_bar_enabled()), torch.get_rng_state()
    load_clip(made)
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
    assert torch.equal(torch.get_rng_state(), state)
    assert capfd.readouterr() == ("", "")


def test_its_pictures_are_features_grey_ones_too(clip: Clip) -> None:
    features: Features = ClipFeatures(clip)
    grey = pictures(2)[:, :1]
    assert torch.equal(features(grey), clip.images(grey.expand(-1, 3, -1, -1)))
    assert (features.name, features.dim, features.sha256) == (clip.name, clip.dim, clip.sha256)
    assert features.resizer == "Pillow bicubic short side 32, the middle 32 x 32"


def test_its_cosines_make_a_score(clip: Clip) -> None:
    images, sentences = pictures(8), ["a cat", "a dog", "c", "g"] * 2
    cosines = (clip.images(images) * clip.texts(sentences)).sum(1)
    found = clip_score(Captioned.of(images, sentences, clip))
    assert found.value == pytest.approx(2.5 * float(cosines.clamp(min=0).mean()), abs=1e-6)
    assert (found.clip, found.sha256) == (clip.name, clip.sha256)


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (torch.rand(2, 3, 8, 8), "uint8.*float32"),
        (np.zeros((2, 3, 8, 8), np.uint8), "uint8 tensor.*ndarray"),
        (pictures(2)[:, :1], "3 channels .*got 1 in .*expand"),
        (pictures(1)[0], r"\(B, C, H, W\)"),
    ],
)
def test_other_pictures_are_refused(clip: Clip, images: Tensor, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        clip.images(images)


def test_several_files_of_weights_are_one_clip(clip: Clip, folder: Path) -> None:
    network().save_pretrained(folder, max_shard_size="8KB")
    (folder / "model.safetensors").unlink(missing_ok=True)
    shards = load_clip(folder)
    assert torch.equal(shards.images(pictures(2)), clip.images(pictures(2)))
    assert len(shards.sha256) == 64 and shards.sha256 != clip.sha256


def test_the_older_files_of_a_tokenizer_are_read_too(clip: Clip, folder: Path) -> None:
    words = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(words["vocab"]))
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in words["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    torch.testing.assert_close(load_clip(folder).texts(SENTENCES), clip.texts(SENTENCES))


def test_weights_that_are_not_the_networks_are_not_loaded(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    tensors = load_file(path)
    left = {key: value for key, value in tensors.items() if key != "visual_projection.weight"}
    save_file(left, path, {"format": "pt"})
    with pytest.raises(DamagedFile, match=r"1 tensors are missing .* visual_projection\.weight"):
        load_clip(folder)
    save_file({**tensors, "lora.weight": torch.zeros(3)}, path, {"format": "pt"})
    with pytest.raises(DamagedFile, match=r"such as lora\.weight"):
        load_clip(folder)
    save_file({**tensors, "visual_projection.weight": torch.zeros(9, 16)}, path, {"format": "pt"})
    with pytest.raises(DamagedFile, match="cannot be loaded"):
        load_clip(folder)
    positions = {"text_model.embeddings.position_ids": torch.arange(12)[None]}
    save_file(tensors | positions, path, {"format": "pt"})
    load_clip(folder)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DamagedFile, match="cannot be loaded"):
        load_clip(folder)


def test_a_folder_that_is_no_clip_is_refused_with_what_it_lacks(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere is no folder .* no config\.json"):
        load_clip(tmp_path / "nowhere")
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match=r"tokenizer in .* cannot be read"):
        load_clip(folder)
    for name, word in (
        ("preprocessor_config.json", "no preprocessor_config.json"),
        ("model.safetensors", "no model.safetensors.* can run code"),
    ):
        (folder / name).unlink()
        with pytest.raises(InputError, match=word):
            load_clip(folder)
    (folder / "tokenizer.json").unlink()
    (folder / "model.safetensors").touch()
    with pytest.raises(InputError, match=r"no tokenizer.* vocab\.json and merges\.txt"):
        load_clip(folder)
    rewrite(folder / "config.json", model_type="siglip")
    with pytest.raises(InputError, match=r"'siglip'.*'clip'"):
        load_clip(folder)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"crop_size": 48}, "48 x 48, but the network takes 32 x 32"),
        ({"do_center_crop": False}, "neither crops nor resizes to a rectangle"),
        ({"rescale_factor": 1.0}, "1.0 is not 1/255"),
        ({"do_normalize": False}, "leaves out"),
        ({"image_mean": [0.5]}, "no preprocessing of CLIP's kind"),
        ({"size": {"longest_edge": 3}}, "height"),
        ({"size": -1}, "-1 pixels"),
        ({"resample": 77}, "77 is not a valid Resampling"),
    ],
)
def test_another_preprocessing_is_refused(words: dict[str, Any], sentence: str, folder: Path) -> None:
    rewrite(folder / "preprocessor_config.json", **words)
    with pytest.raises(InputError, match=sentence):
        load_clip(folder)


def test_the_tokenizer_of_another_model_is_refused(folder: Path) -> None:
    bigger = tokenizer()
    bigger.add_tokens(["one", "two"])
    bigger.save_pretrained(folder)
    with pytest.raises(InputError, match="knows 20 tokens, but the network 18"):
        load_clip(folder)


def test_an_absent_package_is_named(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtra, match=r"Reading a CLIP .* transformers, .* 'carrara\[text\]'"):
        load_clip(made)
