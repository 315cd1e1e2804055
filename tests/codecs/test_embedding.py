"""Texts as vectors of a table: rounding is embedding's inverse, ids are what is kept, and what is no text is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from carrara import tensors
from carrara.codecs.base import Kept, Learning, x0_of
from carrara.codecs.bpe import Bpe
from carrara.codecs.bytes import Bytes
from carrara.codecs.characters import Characters
from carrara.codecs.embedding import TABLE, Embedding
from carrara.codecs.encoded import encoded, fitted
from carrara.codecs.pixels import Pixels
from carrara.data import Dataset, Split
from carrara.data import load as load_data
from carrara.data.documents import Documents
from carrara.embeddings import Table
from carrara.errors import DamagedFile, InputError, RecipeError
from carrara.recipe import check

TRAINING = ["the quick brown fox, the lazy dog", "der schnelle braune Fuchs", "敏捷的棕色狐狸 🦊"] * 3
INNER: dict[str, dict[str, Any]] = {
    "bytes": {"kind": "bytes", "length": 40},
    "bpe": {"kind": "bpe", "length": 40, "vocab": 300},
    "characters": {"kind": "characters", "length": 40, "layout": "rows"},
}
every = pytest.mark.parametrize("kind", INNER)


def codec(kind: str = "bytes", width: int = 5) -> Embedding:
    torch.manual_seed(0)
    return Embedding(INNER[kind], width).fit(TRAINING).begin()


def data() -> Dataset:
    split = Split(Documents.of(TRAINING), np.zeros(len(TRAINING), np.int64))
    return Dataset("fox", (), split, split, "a" * 64, "none", "made here")


@every
@pytest.mark.parametrize("width", [3, 5, 64])
def test_rounding_inverts_embedding(kind: str, width: int) -> None:
    made = codec(kind, width)
    x0 = made.encode(TRAINING)
    assert x0.shape == (9, 40, width) == (9, *made.shape()) and x0.dtype == torch.float32 and not x0.requires_grad
    torch.testing.assert_close(x0.square().mean(-1), torch.ones(9, 40))
    assert made.decode(x0) == made.decode(made.codec.encode(TRAINING)) == TRAINING
    assert torch.equal(made.table.nearest(x0), made.codec.encode(TRAINING))


def test_a_vector_is_rounded_to_the_nearest_row() -> None:
    made = codec()
    x = torch.randn(4, 40, 5, generator=torch.Generator().manual_seed(1))
    distance = (x[..., None, :] - made.table.rows.detach()).norm(dim=-1)
    assert torch.equal(made.table.nearest(x), distance.argmin(-1))
    assert made.decode(3 * x) == made.decode(x) == made.codec.decode(distance.argmin(-1))


@every
def test_it_is_the_inner_codec_wherever_ids_are_asked_for(kind: str) -> None:
    made, inner = codec(kind), codec(kind).codec
    assert (made.length, made.layout, made.vocab) == (inner.length, inner.layout, inner.vocab)
    assert made.identity() == inner.identity() and made.making() == inner.making()
    ours, theirs = (np.concatenate(list(c.windows(Documents.of(TRAINING)))) for c in (made, inner))
    assert np.array_equal(ours, theirs)
    assert all(np.array_equal(*pair) for pair in zip(made.measures(), inner.measures(), strict=True))
    assert made.told() == {"channels": 5, "length": 40} and "vocab" not in made.told()
    assert isinstance(made, Learning) and isinstance(made, Kept) and not isinstance(inner, Learning)


def test_a_dataset_is_encoded_once_for_every_table() -> None:
    inner = fitted(Characters(length=8), data())
    made = fitted(Embedding({"kind": "characters", "length": 8}), data())
    assert made.identity() == inner.identity()
    train, _ = encoded(data(), made)
    again, _ = encoded(data(), inner)
    assert train.dtype == np.uint8 and np.array_equal(train, again)
    assert train.filename == again.filename


def test_what_is_kept_becomes_x0() -> None:
    made, ids = codec(), torch.arange(12).reshape(2, 6)
    assert torch.equal(x0_of(made, ids), made.table.rows[ids])
    assert x0_of(Bytes(), ids) is ids
    with pytest.raises(InputError, match="ids go from 0 to 257, and the table has rows 0 to 256"):
        made.vectors(torch.tensor([[0, 257]]))


def test_a_start_says_what_is_kept_of_every_vector() -> None:
    made = codec()
    x0, places = made.start("the ▁▁▁ dog", None, (), 2)
    assert x0.shape == (2, 40, 5) and places.shape == (2, 40, 1) and places.dtype == torch.bool
    assert places[0, :11, 0].tolist() == [c == "▁" for c in "the ▁▁▁ dog"] and bool(places[:, 11:].all())
    known = made.encode(["the 000 dog"])
    assert torch.equal(x0[~places.expand_as(x0)], known.expand_as(x0)[~places.expand_as(x0)])
    with pytest.raises(InputError, match="write ▁ for a token, and no mask"):
        made.start("the", torch.ones(1), (), 1)


@every
def test_what_it_was_made_of_is_saved_and_restored(kind: str, tmp_path: Path) -> None:
    made = codec(kind)
    made.save(tmp_path)
    found = Embedding(INNER[kind], 5).restore(tmp_path)
    assert torch.equal(found.table.weight, made.table.weight) and found.table is not made.table
    assert found.identity() == made.identity() and found.begin() is found
    assert torch.equal(found.encode(TRAINING), made.encode(TRAINING))
    with pytest.raises(InputError, match="belongs to another recipe"):
        Embedding(INNER[kind], 6).restore(tmp_path)
    (tmp_path / TABLE).write_bytes(b"no")
    with pytest.raises(DamagedFile):
        Embedding(INNER[kind], 5).restore(tmp_path)
    assert set(tensors.load(save_again(made, tmp_path / "again"))) == {"weight"}


def save_again(made: Embedding, folder: Path) -> Path:
    folder.mkdir()
    made.save(folder)
    return folder / TABLE


def test_a_table_begins_from_torch_s_generator_and_is_made_once() -> None:
    assert torch.equal(codec().table.weight, codec().table.weight)
    plain = Embedding(INNER["bytes"], 5)
    with pytest.raises(InputError, match="has no table yet"):
        plain.encode(["the"])
    one = plain.begin()
    assert one.begin() is one and plain.decode(torch.tensor([[104, 105]])) == ["hi"]


REFUSED = {
    "pixels": ({"codec": {"kind": "pixels"}}, r"codec\.codec is .*pixels.*; embeddings are of the tokens of texts"),
    "itself": ({"codec": {"kind": "embedding"}}, "embeddings are of the tokens of texts"),
    "unknown": ({"codec": {"kind": "bites"}}, "codec.*'bites'.*bytes"),
    "key": ({"codec": {"kind": "bytes", "lenght": 3}}, "codec.codec.lenght is an unknown key.*length"),
    "no kind": ({"codec": {"length": 3}}, "needs a kind|pixels"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_inner_codec_that_is_none_of_texts_is_refused(name: str) -> None:
    options, words = REFUSED[name]
    with pytest.raises(RecipeError, match=words):
        Embedding(**options)


def test_a_width_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match=r"codec\.width is 0; it is how many numbers stand for a token"):
        Embedding(INNER["bytes"], 0)
    with pytest.raises(InputError, match="tells no tokens apart"):
        Table(1, 4)


def test_pictures_are_refused() -> None:
    digits = load_data("digits")
    with pytest.raises(InputError, match="the data has pictures, and the codec embedding is of texts"):
        codec().told((1, 8, 8))
    with pytest.raises(InputError, match="text"):
        fitted(Embedding(INNER["characters"]), digits)
    with pytest.raises(InputError, match="a list of texts, and was given a tensor"):
        codec().encode(torch.zeros(1, 1, 8, 8))  # type: ignore[arg-type]
    assert Pixels.once is False


def test_a_recipe_names_it() -> None:
    recipe = check(
        {
            "data": {"kind": "verse"},
            "codec": {"kind": "embedding", "codec": INNER["bpe"], "width": 7},
            "network": {"kind": "vectors"},
            "process": {"kind": "embedded"},
        }
    )
    made = recipe.build("codec")
    assert isinstance(made, Embedding) and isinstance(made.codec, Bpe) and made.width == 7 and made.codec.length == 40
    assert recipe.sections["process"] == {"kind": "embedded", "rounding": 1.0, "clamp": "mean", "clamp_from": 1.0}
