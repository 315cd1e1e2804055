"""Damage is found, named, and gone around; what was saved is never silently lost."""

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from small import BATCH, differing, images_on_disk, learner, opened, recipe, state, trained

from carrara import files
from carrara.errors import DamagedFile, InputError
from carrara.training import checkpoints

FILES = [
    "denoiser.weights.safetensors",
    "denoiser.average.safetensors",
    "denoiser.optimiser.safetensors",
    "buffers.safetensors",
    "state.json",
    "manifest.json",
]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with the checkpoints of steps 2, 3 and 4."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    trained(folder, steps=4)
    return folder


@pytest.fixture
def folder(kept: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(kept, tmp_path / "run"))


def newest(folder: Path) -> Path:
    return max((folder / "checkpoints").iterdir())


def test_a_checkpoint_holds_these_files_and_no_other(folder: Path) -> None:
    assert sorted(path.name for path in newest(folder).iterdir()) == sorted(FILES)
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == [
        f"{n * BATCH:012d}" for n in (2, 3, 4)
    ]


def damages(path: Path) -> Iterator[str]:
    """Damages the file in one way after another, telling which; whole again after them."""
    whole, chance = path.read_bytes(), random.Random(path.name)
    for tenth in range(10):
        path.write_bytes(whole[: len(whole) * tenth // 10])
        yield f"cut to {tenth}0 %"
    for _ in range(8):
        place, bit = chance.randrange(len(whole)), 1 << chance.randrange(8)
        path.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
        yield f"bit {bit} of byte {place} flipped"
    path.unlink()
    yield "missing"
    path.write_bytes(whole)


@pytest.mark.parametrize("name", FILES)
def test_any_damage_to_any_file_is_named_and_the_checkpoint_before_is_used(
    folder: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    latest = newest(folder)
    for damage in damages(latest / name):
        caplog.clear()
        found = checkpoints.newest(folder / "checkpoints")
        assert found is not None and int(found.name) == 3 * BATCH, damage
        assert [record.levelname for record in caplog.records] == ["WARNING"], damage
        assert str(latest) in caplog.text, damage
        if name != "manifest.json":  # What it says may be damaged in such a way that another file seems to be.
            assert str(latest / name) in caplog.text, damage
    caplog.clear()
    assert checkpoints.newest(folder / "checkpoints") == latest and not caplog.records


def test_a_run_goes_on_from_before_the_damage_and_ends_as_the_whole_run(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    latest = newest(folder)
    (latest / "denoiser.weights.safetensors").write_bytes(b"")
    run = opened(folder)
    assert run.learner.images == 3 * BATCH and str(latest) in caplog.text
    caplog.clear()
    for _ in run.train():
        pass
    assert differing(state(opened(folder)), state(trained(tmp_path / "whole"))) == []
    assert not caplog.records, "the damaged checkpoint was written anew on the way"


@pytest.mark.parametrize("keep", [1, 2])
def test_a_damaged_checkpoint_never_takes_the_place_of_a_whole_one(folder: Path, keep: int) -> None:
    """The run goes on from before the damage, and its next checkpoint lies before the damaged one, or in its place."""
    before, damaged = sorted((folder / "checkpoints").iterdir())[-2:]
    player = opened(folder).learner
    player.images = 4 * BATCH
    (damaged / "state.json").unlink()
    checkpoints.save(folder / "checkpoints", player, {}, keep)
    files.check_folder(damaged)
    player.images, last = 3 * BATCH + 1, damaged
    (damaged / "state.json").unlink()
    written = checkpoints.save(folder / "checkpoints", player, {}, keep)
    assert not last.exists() and before.exists() == (keep == 2)
    assert checkpoints.newest(folder / "checkpoints") == written


def test_where_all_are_damaged_the_run_is_not_silently_begun_again(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for path in (folder / "checkpoints").iterdir():
        (path / "state.json").write_text("{}")
    with pytest.raises(DamagedFile, match=r"all checkpoints in .* are damaged \(0+32, 0+48, 0+64\)") as caught:
        opened(folder)
    assert caught.value.exit_code == 1
    assert len(caplog.records) == 3


def test_a_run_without_a_checkpoint_begins_at_the_first_image(tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "recipe.yaml").write_text(recipe().to_yaml())
    assert opened(tmp_path / "run").learner.images == 0


@pytest.mark.parametrize("keep", [1, 2])
def test_only_the_newest_are_kept(tmp_path: Path, keep: int) -> None:
    trained(tmp_path, changes=[f"training.keep={keep}"], steps=5)
    assert [int(p.name) for p in sorted((tmp_path / "checkpoints").iterdir())] == [80 - 16 * n for n in range(keep)][
        ::-1
    ]


def test_what_a_kill_left_half_written_is_removed_by_the_next_checkpoint(folder: Path) -> None:
    half = folder / "checkpoints" / f".{9 * BATCH:012d}.staging"
    half.mkdir()
    (half / "state.json").write_text("{")
    assert images_on_disk(folder) == 4 * BATCH
    trained(folder, steps=1)
    assert not half.exists()


def test_a_checkpoint_of_another_network_is_refused_by_name(folder: Path) -> None:
    other = learner(lambda line, numbers: line.w * numbers)
    with pytest.raises(DamagedFile, match=r"line\.weights\.safetensors is not readable"):
        checkpoints.load(folder / "checkpoints", other)
    wide = opened(folder.parent / "wide", changes=["network.width=16"]).learner
    with pytest.raises(InputError, match=r"belongs to another recipe: network\..* has the shape"):
        checkpoints.load(folder / "checkpoints", wide)


def test_what_was_loaded_is_the_learner_s_own(folder: Path) -> None:
    """Changing it in place changes no file, and removing the files changes nothing loaded."""
    run = opened(folder)
    shutil.rmtree(folder / "checkpoints")
    assert all(bool(torch.isfinite(value).all()) for value in state(run).values())
    run.learner.step(160)
    assert run.learner.images == 5 * BATCH
