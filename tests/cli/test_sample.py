"""`carrara sample`: sheets, files and films."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Run = Callable[..., Any]


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture).astype(int)


def test_a_sheet_with_its_seeds_and_labels(carrara: Run, here: Path, model: Path) -> None:
    done = carrara("sample", model, "-n", 12, "--seed", 5, "--out", "new/sheet.png")
    assert done.code == 0 and not done.err
    assert "seeds       5 to 16\n" in done.out and "labels      0, 1, 2, 3, 4, 5, 6, 7, 8, 9 in turn\n" in done.out
    assert "written     new/sheet.png\n" in done.out and "euler, 3 steps, 3 evaluations a sample" in done.out
    assert pixels(here / "new" / "sheet.png").min() < pixels(here / "new" / "sheet.png").max()


def test_without_a_name_nothing_is_ever_replaced(carrara: Run, here: Path, model: Path) -> None:
    for _ in range(3):
        assert carrara("sample", model, "-n", 1).code == 0
    assert sorted(path.name for path in (here / "samples").iterdir()) == [
        "digits-0-2.png",
        "digits-0-3.png",
        "digits-0.png",
    ]


def test_a_file_a_sample_and_what_made_it(carrara: Run, here: Path, model: Path) -> None:
    done = carrara("sample", model, "-n", 3, "--seed", 7, "--label", "2,5", "--out", "many", "--json")
    about = json.loads((here / "many" / "samples.json").read_text())
    assert [(s["file"], s["seed"], s["label"]) for s in about["samples"]] == [
        ("00007.png", 7, "2"),
        ("00008.png", 8, "5"),
        ("00009.png", 9, "2"),
    ]
    assert sorted(p.name for p in (here / "many").glob("*.png")) == [s["file"] for s in about["samples"]]
    assert pixels(here / "many" / "00007.png").shape == (8, 8)
    assert (done.json["seeds"], done.json["labels"]) == ([7, 8, 9], ["2", "5", "2"])
    assert done.json["out"] == "many" and done.json["sampling"] == about["sampling"] and not done.err


@pytest.mark.parametrize("options", [["--batch", "2"], ["--batch", "1"]])
def test_a_sample_does_not_depend_on_its_batch(carrara: Run, here: Path, model: Path, options: list[str]) -> None:
    carrara("sample", model, "-n", 5, "--out", "one")
    carrara("sample", model, "-n", 5, "--out", "other", *options)
    for path in (here / "one").glob("*.png"):
        # Up to the network's own rounding.
        assert np.abs(pixels(path) - pixels(here / "other" / path.name)).max() <= 1


def test_each_option_reaches_the_sampler(carrara: Run, model: Path) -> None:
    options = (
        "--steps 4 --sampler ancestral --eta 0.5 --times shifted:shift=2 --guidance-scale 1.5 "
        "--guidance-interval 0.2,0.8 --guidance-rescale 0.5 --threshold dynamic:percentile=0.9,bound=2"
    )
    done = carrara("sample", model, "-n", 1, "--json", *options.split())
    found = done.json["sampling"]
    assert (found["steps"], found["sampler"], found["options"]) == (4, "ancestral", {"eta": 0.5})
    assert (found["times"], found["guidance_scale"]) == ({"kind": "shifted", "shift": 2.0}, 1.5)
    assert (found["guidance_interval"], found["guidance_rescale"]) == ([0.2, 0.8], 0.5)
    assert found["threshold"] == {"kind": "dynamic", "percentile": 0.9, "bound": 2.0}
    said = carrara("sample", model, "-n", 1, *options.split()).out
    assert "4 steps, at most 8 evaluations a sample, guidance 1.5 for t from 0.2 to 0.8, dynamic threshold;" in said


def test_the_thresholds_in_help_are_those_there_are() -> None:
    from carrara.cli.options import THRESHOLDS, complete_threshold
    from carrara.editing import THRESHOLDS as REGISTRY

    assert list(THRESHOLDS) == sorted(REGISTRY) and complete_threshold("s") == ["static"]


def test_the_options_of_the_recipes_sampler_do_not_reach_another(
    carrara: Run, here: Path, model: Path, tamper: Callable[..., None]
) -> None:
    import shutil

    shutil.copytree(model / "model", here / "mine")
    about = json.loads((here / "mine" / "model.json").read_text())
    about["recipe"]["sampling"].update(sampler="ancestral", options={"eta": 0.3})
    tamper(here / "mine", "model.json", json.dumps(about).encode())
    assert carrara("sample", "mine", "-n", 1, "--json").json["sampling"]["options"] == {"eta": 0.3}
    assert carrara("sample", "mine", "-n", 1, "--json", "--sampler", "euler").json["sampling"]["options"] == {}


def test_labels_may_be_given_one_by_one(carrara: Run, model: Path) -> None:
    apart = carrara("sample", model, "-n", 4, "--json", "--label", "1", "--label", "3,4").json["labels"]
    assert apart == ["1", "3", "4", "1"]


def test_a_class_with_a_comma_in_its_name_is_one_class() -> None:
    from types import SimpleNamespace

    from carrara.cli.sample import labels_of
    from carrara.conditions.label import LabelCondition

    classes = ("cats, dogs", "birds")
    fake: Any = SimpleNamespace(classes=classes, condition=LabelCondition(classes))
    assert labels_of(fake, 3, ["cats, dogs"]) == [0, 0, 0]
    assert labels_of(fake, 3, ["birds,0"]) == [1, 0, 1]


def test_an_unconditional_model_has_no_labels(carrara: Run, discrete: Path) -> None:
    done = carrara("sample", discrete, "-n", 2, "--json")
    assert done.code == 0 and done.json["labels"] is None
    assert "labels" not in carrara("sample", discrete, "-n", 2).out


def test_the_film_has_a_frame_a_step_and_one(carrara: Run, here: Path, model: Path) -> None:
    done = carrara("sample", model, "-n", 20, "--steps", 4, "--gif", "film.gif", "--out", "sheet.png")
    assert done.code == 0 and "sheet.png and film.gif" in done.out
    with Image.open(here / "film.gif") as film:
        assert film.n_frames == 5


def test_to_replace_is_to_replace_all(carrara: Run, here: Path, model: Path) -> None:
    carrara("sample", model, "-n", 4, "--out", "many")
    (here / "many" / "notes.txt").touch()
    assert carrara("sample", model, "-n", 2, "--seed", 3, "--out", "many").code == 2
    assert carrara("sample", model, "-n", 2, "--seed", 3, "--out", "many", "--overwrite").code == 0
    names = sorted(path.name for path in (here / "many").iterdir())
    assert names == ["00003.png", "00004.png", "notes.txt", "samples.json"]


def test_only_files_of_the_folder_itself_are_ever_taken_away(here: Path) -> None:
    from carrara.cli.writing import clear

    (here / "outside.png").touch()
    (here / "many").mkdir()
    listing = here / "many" / "samples.json"
    for content in ({"samples": [{"file": "../outside.png"}, {"file": str(here / "outside.png")}]}, ["else"], 3):
        listing.write_text(json.dumps(content))
        clear(here / "many")
    listing.write_text("{")
    clear(here / "many")
    assert (here / "outside.png").is_file()


def test_bars_on_a_terminal(terminal: Callable[..., tuple[int, str]], model: Path) -> None:
    code, said = terminal("sample", model, "-n", 8, "--batch", 2, "--out", "sheet.png")
    assert code == 0 and "sampling" in said and "8/8" in said and "seeds       0 to 7" in said


def drawing(path: Path, size: tuple[int, int] = (8, 8), mode: str = "L", seed: int = 0) -> Path:
    """A picture of random greys or colours."""
    shape = size[::-1] if mode == "L" else (*size[::-1], len(mode))
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8)).save(path)
    return path


def right_half(path: Path, size: tuple[int, int] = (8, 8)) -> Path:
    """A mask that is white in its right half."""
    grey = np.zeros(size[::-1], np.uint8)
    grey[:, size[0] // 2 :] = 255
    Image.fromarray(grey).save(path)
    return path


def test_a_start_and_a_mask_are_kept_to_and_written_down(carrara: Run, here: Path, model: Path) -> None:
    drawing(here / "photo.png")
    right_half(here / "mask.png")
    words = ["-n", "3", "--steps", "6", "--strength", "0.5", "--start", "photo.png", "--mask", "mask.png"]
    said = carrara("sample", model, *words, "--out", "sheet.png").out
    assert "euler, the last 3 of 6 steps, 3 evaluations a sample" in said
    assert "start       photo.png: 8×8\n" in said and "mask        mask.png: 50 % of the pixels are made" in said
    done = carrara("sample", model, *words, "--out", "many", "--json")
    about = json.loads((here / "many" / "samples.json").read_text())
    for told in (about, done.json):
        assert (told["start"], told["strength"], told["mask"]) == ("photo.png", 0.5, "mask.png")
    assert [entry["start"] for entry in about["samples"]] == ["photo.png"] * 3
    for name in ("00000.png", "00001.png", "00002.png"):
        assert (pixels(here / "many" / name)[:, :4] == pixels(here / "photo.png")[:, :4]).all()
        assert (pixels(here / "many" / name)[:, 4:] != pixels(here / "photo.png")[:, 4:]).any()
    usual = carrara("sample", model, "-n", 1, "--start", "photo.png", "--json").json
    masked = carrara("sample", model, "-n", 1, "--start", "photo.png", "--mask", "mask.png", "--json").json
    assert (usual["strength"], masked["strength"]) == (0.6, 1.0)
    plain = carrara("sample", model, "-n", 1, "--json").json
    assert (plain["start"], plain["strength"], plain["mask"]) == (None, None, None)


def test_the_command_makes_what_python_makes(carrara: Run, here: Path, model: Path) -> None:
    import torch

    import carrara as package

    drawing(here / "photo.png")
    right_half(here / "mask.png")
    loaded, start = package.load(model), torch.from_numpy(pixels(here / "photo.png").astype(np.uint8))[None]
    mask = torch.from_numpy(pixels(here / "mask.png") > 127)
    for words, wishes in (
        ("--start photo.png", {"start": start, "strength": 0.6}),
        ("--start photo.png --strength 0.3 --threshold static:bound=0.5",
         {"start": start, "strength": 0.3, "threshold": {"kind": "static", "bound": 0.5}}),
        ("--start photo.png --mask mask.png", {"start": start, "mask": mask}),
    ):  # fmt: skip
        assert carrara("sample", model, "-n", 4, "--out", "many", "--overwrite", *words.split()).code == 0
        found = [pixels(path) for path in sorted((here / "many").glob("*.png"))]
        assert (np.stack(found) == loaded.sample(4, **wishes)[:, 0].numpy()).all()


def test_a_folder_is_taken_in_turn(carrara: Run, here: Path, model: Path) -> None:
    for index, name in enumerate(("c.png", "a.bmp", "b.tif")):
        drawing(here / "faces" / name, seed=index)
    (here / "faces" / "notes.txt").touch()
    (here / "faces" / ".hidden.png").touch()
    done = carrara("sample", model, "--start", "faces", "--strength", 0.01, "--out", "each", "--json")
    assert done.code == 0, done.err
    assert len(done.json["seeds"]) == 3
    right_half(here / "mask.png")
    words = ("-n", 5, "--start", "faces", "--mask", "mask.png", "--batch", 2)
    carrara("sample", model, *words, "--out", "turns")
    about = json.loads((here / "turns" / "samples.json").read_text())
    assert [entry["start"] for entry in about["samples"]] == ["a.bmp", "b.tif", "c.png", "a.bmp", "b.tif"]
    for entry in about["samples"]:
        kept = pixels(here / "turns" / entry["file"])[:, :4]
        assert (kept == pixels(here / "faces" / entry["start"])[:, :4]).all()
    assert "start       faces: 3 pictures in turn\n" in carrara("sample", model, "--start", "faces").out


def test_other_pictures_are_brought_to_the_models_size(carrara: Run, here: Path, model: Path) -> None:
    """A colour photo of another size: its middle square, in grey; a mask of that photo goes the same way."""
    broad = np.zeros((16, 48, 3), np.uint8)
    broad[:, 16:32] = (255, 0, 0)
    Image.fromarray(broad).save(here / "broad.png")
    mask = np.zeros((16, 48), np.uint8)
    mask[:, 24:] = 255
    Image.fromarray(mask).save(here / "mask.png")
    done = carrara("sample", model, "-n", 1, "--start", "broad.png", "--mask", "mask.png", "--out", "made")
    assert "start       broad.png: 48×16, its middle square resized to 8×8\n" in done.out
    assert "50 % of the pixels are made" in done.out
    # Rec. 601 luma of red, but where the resampling looks beyond the edge of the square.
    kept = pixels(here / "made" / "00000.png")[:, :4]
    assert (kept[:, 2:] == 76).all() and np.abs(kept - 76).max() <= 5


def test_a_photo_on_its_side_is_put_upright(carrara: Run, here: Path, model: Path) -> None:
    stored = Image.open(drawing(here / "stored.png", (8, 16), "RGB"))
    exif = Image.Exif()
    exif[0x0112] = 6
    stored.save(here / "photo.jpg", exif=exif, quality=95)
    right_half(here / "mask.png", (16, 8))
    done = carrara("sample", model, "-n", 1, "--start", "photo.jpg", "--mask", "mask.png")
    assert done.code == 0 and "photo.jpg: 16×8, its middle square" in done.out
    right_half(here / "other.png", (8, 16))
    assert (
        "it must be as large as the start, 8×8 or 16×8"
        in carrara("sample", model, "--start", "photo.jpg", "--mask", "other.png").err
    )


def test_a_film_of_a_start_has_a_frame_a_walked_step_and_one(carrara: Run, here: Path, model: Path) -> None:
    drawing(here / "photo.png")
    words = [
        "-n",
        "20",
        "--steps",
        "10",
        "--strength",
        "0.3",
        "--start",
        "photo.png",
        "--gif",
        "film.gif",
        "--out",
        "sheet.png",
    ]
    assert carrara("sample", model, *words).code == 0
    with Image.open(here / "film.gif") as film:
        assert film.n_frames == 4


def test_the_bar_is_full_when_a_start_is_done(model: Path) -> None:
    import torch

    import carrara as package
    from carrara.cli.sample import batches, planned
    from carrara.cli.start import Shown

    start = Shown(
        Path("x.png"), None, 0.4, [Path("x.png")], torch.zeros(1, 1, 8, 8, dtype=torch.uint8), None, [(8, 8)]
    )
    seen: list[int] = []
    job = planned(package.load(model), 4, [], 0, 2, {"steps": 5}, start)
    assert job.steps == 2
    list(batches(job, lambda stage, done, total, glimpse=None: seen.append(done)))
    assert seen == [1, 2, 3, 4]


REFUSED = {
    "--strength 0.5": "--strength 0.5 says how a start is changed; give the picture too, --start FILE",
    "--mask mask.png": "--mask mask.png says how a start is changed; give the picture too",
    "--start nowhere.png": "--start nowhere.png: there is no such file or folder",
    "--start empty": "--start empty holds no picture; pictures end in .apng",
    "--start notes.txt": "--start notes.txt cannot be read as a picture (",
    "--start broken.png": "--start broken.png cannot be read as a picture (",
    "--start photo.png --mask nowhere.png": "--mask nowhere.png: there is no such file",
    "--start photo.png --mask faces": "--mask faces: there is no such file",
    "--start photo.png --mask notes.txt": "--mask notes.txt cannot be read as a picture (",
    "--start photo.png --mask wide.png": "--mask wide.png has 9×8 pixels; it must be as large as the start, 8×8",
    "--start faces --mask wide.png": "--mask wide.png has 9×8 pixels; it must be as large as the start, 8×8",
    "--start photo.png --mask black.png": "--mask black.png has no white, and what is black is kept",
    "--start photo.png --strength 0": "strength is 0.0; it is the share of the steps that are walked",
    "--start photo.png --strength 1.5": "strength is 1.5",
    "--start photo.png -n 0": "0 samples were asked for",
    "--start faces -n 1": "--start holds 2 pictures, and 1 samples were asked for; give -n 2 or more",
    "--threshold dynamc": "no threshold called 'dynamc': did you mean 'dynamic'?",
    "--threshold static:percentile=1": "the threshold 'static' has no option 'percentile'",
    "--threshold static:bound=x": "--threshold: bound='x' is not a number",
    "--threshold static:bound=-1": "bound of the threshold 'static' is -1.0",
    "--guidance-interval 0.2,0.8": "--guidance-interval 0.2,0.8 does nothing without guidance; give --guidance-scale",
    "--guidance-rescale 0.7": "--guidance-rescale 0.7 does nothing without guidance",
    "--guidance-scale 2 --guidance-interval 0.2": "--guidance-interval '0.2' is not two times such as 0.2,0.8",
    "--guidance-scale 2 --guidance-interval 0.8,0.2": "the guidance interval (0.8, 0.2) must be two times",
    "--guidance-scale 2 --guidance-rescale 1.5": "rescale is 1.5; it must lie in [0, 1]",
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_changed_is_refused_in_one_sentence(carrara: Run, here: Path, model: Path, words: str) -> None:
    drawing(here / "photo.png")
    drawing(here / "faces" / "a.png")
    drawing(here / "faces" / "b.png")
    right_half(here / "mask.png")
    right_half(here / "wide.png", (9, 8))
    Image.new("L", (8, 8)).save(here / "black.png")
    (here / "empty").mkdir()
    (here / "notes.txt").write_text("no picture")
    (here / "broken.png").write_bytes((here / "photo.png").read_bytes()[:60])
    done = carrara("sample", model, "--out", "new.png", *words.split())
    assert done.code == 2 and REFUSED[words] in done.err and done.err.count("\n") == 1
    assert not done.out and not (here / "new.png").exists()


def test_a_model_of_other_pictures_takes_no_files() -> None:
    from types import SimpleNamespace

    from carrara.cli.start import fit_of
    from carrara.errors import InputError

    for shape in ((1, 8, 9), (2, 8, 8)):
        fake: Any = SimpleNamespace(shape=shape)
        with pytest.raises(InputError, match="square pictures in grey or colour, and this one's are"):
            fit_of(fake)
    colour: Any = SimpleNamespace(shape=(3, 8, 8))
    assert (fit_of(colour).channels, fit_of(colour).size) == (3, 8)


def test_a_backend_is_told_with_its_error(carrara: Run, here: Path, model: Path) -> None:
    plain = carrara("sample", model, "-n", 2, "--out", "plain", "--json")
    done = carrara("sample", model, "-n", 2, "--backend", "torch-bf16", "--out", "many")
    assert done.code == 0 and "\nbackend     torch-bf16: bfloat16, relative error " in done.out
    assert json.loads((here / "many" / "samples.json").read_text())["backend"] == "torch-bf16"
    assert plain.json["backend"] == "torch" and "backend     " not in carrara("sample", model, "-n", 1).out
    refused = carrara("sample", model, "--backend", "openvin")
    assert refused.code == 2 and "there is no backend 'openvin': did you mean 'openvino'?" in refused.err
