"""Pictures as ids: the codec of an autoencoder that was trained, and a model's folder that is whole without it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import carrara
from carrara import files
from carrara.codecs import CODECS
from carrara.codecs.base import Kept
from carrara.codecs.pixels import Pixels
from carrara.codecs.vq import Vq
from carrara.errors import DamagedFile, InputError
from carrara.model import CODEC, build
from carrara.recipe import check
from carrara.vq import model as vq_model

RECIPE: dict[str, Any] = {
    "name": "words",
    "data": {"kind": "digits"},
    "trainable": {"kind": "vq", "levels": [4, 4], "width": 8, "depth": 1},
}
PICTURES = torch.randint(0, 256, (5, 1, 8, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of an autoencoder of pictures 8×12, untrained."""
    vq_model.build(check(RECIPE), (1, 8, 12)).save(tmp_path / "vq")
    return tmp_path / "vq"


def test_pictures_become_ids_and_pictures(folder: Path) -> None:
    codec = codec_of(folder)
    ids = codec.encode(PICTURES)
    assert ids.shape == (5, *codec.shape((1, 8, 12))) == (5, 6) and ids.dtype == torch.int64
    assert codec.vocab == 16 and ids.min() >= 0 and ids.max() < 16
    again = codec.decode(ids)
    assert again.shape == PICTURES.shape and again.dtype == torch.uint8
    assert torch.equal(codec.together([again[:2], again[2:]]), again)


def test_a_mask_is_grey(folder: Path) -> None:
    codec = codec_of(folder)
    masked = torch.full((1, 6), codec.vocab)
    assert bool((codec.decode(masked) == 128).all())
    masked[0, 4] = 3
    assert bool((codec.decode(masked)[0, 0, :4] == 128).all()) and bool(
        (codec.decode(masked)[0, 0, 4:, 4:8] != 128).any()
    )


def test_it_is_whole_once_it_was_saved(folder: Path, tmp_path: Path) -> None:
    codec = codec_of(folder)
    assert isinstance(codec, Kept) and not isinstance(Pixels(), Kept)
    files.write_folder(tmp_path / "kept", codec.save)
    expected = codec.encode(PICTURES)
    shutil.rmtree(folder)
    again = Vq(folder).restore(tmp_path / "kept")
    assert torch.equal(again.encode(PICTURES), expected) and again.sha256 == codec.sha256


@pytest.mark.parametrize("there", [True, False])
def test_what_is_no_autoencoder_is_refused(tmp_path: Path, there: bool) -> None:
    if there:
        (tmp_path / "run").mkdir()
    sentence = (
        "neither a model folder"
        if there
        else "there is no such folder; train an autoencoder first, e.g. carrara train vq-fashion"
    )
    with pytest.raises(InputError, match=sentence):
        Vq(tmp_path / "run").encode(PICTURES)


def test_a_recipe_s_folder_names_its_recipe(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no such folder; .* carrara train kl-emoji, and"):
        Vq(tmp_path / "kl-emoji").encode(PICTURES)


def test_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    recipe = check(
        {
            "name": "small",
            "data": {"kind": "digits"},
            "condition": {"kind": "none"},
            "network": {"kind": "unet", "width": 8, "depth": 1},
        }
    )
    build(recipe, (1, 8, 8), ()).save(tmp_path / "model")
    with pytest.raises(
        InputError, match=r"holds a diffusion model, .*; give an autoencoder, such as carrara train vq-fashion"
    ):
        Vq(tmp_path / "model").encode(PICTURES)


def test_pictures_of_another_size_are_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="knows pictures 1×8×12 and the data has 1×8×8; train one on this data"):
        codec_of(folder).shape((1, 8, 8))
    with pytest.raises(InputError, match=r"it knows pictures \(B, 1, 8, 12\)"):
        codec_of(folder).encode(PICTURES[..., :8])


class Turned(Pixels):
    """Pixels from bright to dark where a file says so: a codec with something to keep."""

    def __init__(self, path: str) -> None:
        self.path, self.sign = path, 0

    @property
    def _sign(self) -> int:
        return self.sign or int(Path(self.path).read_text())

    def encode(self, media: Tensor) -> Tensor:
        return super().encode(media) * self._sign

    def save(self, folder: Path) -> None:
        (folder / "sign.txt").write_text(str(self._sign))

    def restore(self, folder: Path) -> Turned:
        made = Turned(self.path)
        made.sign = int((folder / "sign.txt").read_text())
        return made


def test_a_model_s_folder_has_its_codec_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CODECS, "turned", Turned)  # type: ignore[arg-type]
    (tmp_path / "sign").write_text("-1")
    content = {
        "name": "small",
        "data": {"kind": "digits"},
        "condition": {"kind": "none"},
        "codec": {"kind": "turned", "path": str(tmp_path / "sign")},
        "network": {"kind": "unet", "width": 8, "depth": 1},
    }
    model = build(check(content), (1, 8, 8), ())
    model.save(tmp_path / "model")
    (tmp_path / "sign").unlink()
    moved = (tmp_path / "model").rename(tmp_path / "moved")
    assert torch.equal(carrara.load(moved).codec.encode(PICTURES), -Pixels().encode(PICTURES))
    (moved / CODEC / "sign.txt").write_text("+1")
    with pytest.raises(DamagedFile, match=r"codec/sign\.txt is damaged"):
        carrara.load(moved)


def codec_of(folder: Path) -> Vq:
    """The codec as a recipe makes it."""
    found: Vq = check({"data": {"kind": "digits"}, "codec": {"kind": "vq", "model": str(folder)}}).build("codec")
    return found
