"""`carrara evaluate`: figures, their company, and where they are kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from carrara.errors import InputError
from carrara.evaluation.evaluate import evaluate
from carrara.evaluation.kept import keep
from carrara.evaluation.told import NOTED

Run = Callable[..., Any]

CLASSIFIED = """
from cheap_features import Cheap


class Classified(Cheap):
    name = "classified@4"

    def logits(self, images):
        return self(images) / 16
"""


@pytest.fixture(scope="module")
def our_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP of carrara's that was never trained: two heads over the encoders that cost nothing."""
    from carrara.clip.model import build
    from carrara.recipe import read

    folder = tmp_path_factory.mktemp("clips") / "ours"
    changes = ["trainable.image=pixels", "trainable.text=words", "trainable.dim=8", "trainable.neighbours=0"]
    build(read("clip-emoji", changes)).save(folder)
    return folder


@pytest.fixture
def mine(here: Path, model: Path) -> Path:
    return Path(shutil.copytree(model, here / "mine"))


def test_every_figure_has_its_company(carrara: Run, mine: Path, cheap: str) -> None:
    done = carrara("evaluate", mine, "-n", 40, "--features", cheap, "--batch", 16)
    assert done.code == 0 and not done.err
    head = next(line for line in done.out.splitlines() if line.startswith("figure"))
    assert head.split() == ["figure", "value", "floor", "ceiling", "n", "measured", "against"]
    for row in ("Fréchet distance ", "class read as asked ", "distance to the nearest ", "exact copies "):
        assert any(line.startswith(row) and " 40 " in line for line in done.out.splitlines())
    assert "all 1437 training images, cheap@4" in done.out and "3 evaluations a sample" in done.out
    assert str(mine / "figures.json") in done.out and str(mine / "report.html") in done.out
    assert "cheap@4" in (mine / "report.html").read_text()


def test_the_same_features_serve_every_metric(carrara: Run, mine: Path, cheap: str) -> None:
    done = carrara("evaluate", mine, "-n", 40, "--features", cheap)
    for row in (
        "95 % interval",
        "at infinite n",
        "kernel distance (KID)",
        "precision",
        "recall",
        "density",
        "coverage",
    ):
        assert any(line.strip().startswith(row) for line in done.out.splitlines()), row
    (kept,) = json.loads((mine / "figures.json").read_text())
    assert kept["frechet"]["low"] < kept["frechet"]["value"] < kept["frechet"]["high"]
    assert kept["frechet"]["infinite"] < kept["frechet"]["value"]
    assert kept["kid"]["floor"] < kept["kid"]["ceiling"] and kept["kid"]["n"] == 40
    assert kept["kid"]["low"] < kept["kid"]["value"] < kept["kid"]["high"]
    assert kept["precision"]["heldout"]["precision"] > kept["precision"]["noise"]["precision"] == 0
    report, card = (mine / "report.html").read_text(), (mine / "model" / "README.md").read_text()
    assert "95 % interval" in report and "at infinite n" in report and "KID" in report and "Recall" in report
    assert "95 % interval" in card and "kernel distance: KID" in card and "in brackets those of held-out" in card


def test_a_metric_is_the_same_alone_and_among_others_and_in_any_batch(carrara: Run, mine: Path, cheap: str) -> None:
    common = ("evaluate", mine, "-n", 24, "--features", cheap, "--json")
    together = carrara(*common).json
    for name in ("frechet", "kid", "precision"):
        alone = carrara(*common, "--metrics", name, "--batch", 5).json
        assert alone[name] == together[name] and "neighbours" not in alone


def test_few_samples_have_no_precision_and_no_interval(carrara: Run, mine: Path, cheap: str) -> None:
    common = ("evaluate", mine, "--features", cheap, "--json", "-n")
    found = carrara(*common, 3).json
    assert "precision" not in found and found["frechet"]["low"] is None and found["kid"]["n"] == 3
    refused = carrara(*common, 3, "--metrics", "precision")
    assert refused.code == 2 and "3 samples are too few: precision needs 4 or more" in refused.err


def test_figures_of_an_earlier_version_are_shown(carrara: Run, mine: Path, cheap: str) -> None:
    carrara("evaluate", mine, "-n", 24, "--features", cheap, "--metrics", "frechet")
    (entry,) = json.loads((mine / "figures.json").read_text())
    for name in ("low", "high", "infinite", "infinite_caution"):
        del entry["frechet"][name]
    (mine / "figures.json").write_text(json.dumps([entry]))
    done = carrara("evaluate", mine, "-n", 4, "--metrics", "classes", "--steps", 2)
    assert done.code == 0 and len(json.loads((mine / "figures.json").read_text())) == 2
    entries = json.loads((mine / "figures.json").read_text())
    (mine / "figures.json").write_text(json.dumps(entries[:1]))
    from carrara.evaluation.summary import write_report

    page = write_report(mine).read_text()
    assert "cheap@4, all 1437 training images" in page and "95 % interval" not in page


def test_the_inception_score_needs_a_classifier(
    carrara: Run, mine: Path, here: Path, cheap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ("evaluate", mine, "-n", 12, "--metrics", "inception_score", "--features")
    refused = carrara(*common, cheap)
    assert refused.code == 2 and "needs Inception's classifier, and cheap@4 has none" in refused.err
    (here / "classified.py").write_text(CLASSIFIED)
    done = carrara(*common, "classified:Classified")
    assert done.code == 0 and any(line.startswith("Inception Score") for line in done.out.splitlines())
    (kept,) = json.loads((mine / "figures.json").read_text())
    assert 1 <= kept["inception_score"]["value"] <= 16 and kept["inception_score"]["splits"] == 10
    assert kept["inception_score"]["heldout"] > 1 and "frechet" not in kept
    facts = json.loads((mine / "model" / "model.json").read_text())["facts"]
    assert "12, 10 splits" in facts["inception_score"] and "measured_with" in facts


def test_statistics_that_were_written_are_measured_against(carrara: Run, mine: Path, cheap: str) -> None:
    from cheap_features import Cheap

    import carrara as package
    from carrara.evaluation.frechet import Normal, frechet_distance
    from carrara.evaluation.measure import heldout
    from carrara.evaluation.statistics_file import read_statistics
    from carrara.training.run import dataset_of

    common = ("evaluate", mine, "-n", 30, "--features", cheap, "--json")
    done = carrara(*common, "--seed", 100, "--metrics", "classes", "--write-statistics", "others.npz")
    assert done.code == 0 and done.json["statistics"] == "others.npz" and "frechet" not in done.json
    model, see = package.load(mine), Cheap()
    written, drawn = read_statistics(Path("others.npz")), see(model.sample(30, seed=100))
    assert written.n == 30 and written.mean.tolist() == pytest.approx(drawn.double().mean(0).tolist())

    found = carrara(*common, "--reference", "others.npz").json
    right = frechet_distance(Normal.of_features(see(model.sample(30, seed=0))), Normal.of_features(drawn))
    assert found["frechet"]["value"] == pytest.approx(right) and "kid" not in found
    assert (
        found["frechet"]["reference"] == "the file others.npz (30 pictures)" and found["frechet"]["reference_n"] == 30
    )
    real = see(heldout(dataset_of(model.recipe), 30)[:])
    floor = frechet_distance(Normal.of_features(real), Normal.of_features(drawn))
    assert found["frechet"]["floor"] == pytest.approx(floor) and found["frechet"]["ceiling"] > 0
    assert carrara(*common, "--seed", 100, "--reference", "others.npz").json["frechet"]["value"] < 1e-6 * right
    carrara(*common)
    entries = json.loads((mine / "figures.json").read_text())
    assert ["reference_sha256" in entry for entry in entries] == [False, True, True, False]


def test_statistics_of_other_features_or_metrics_are_refused(carrara: Run, mine: Path, cheap: str) -> None:
    import numpy as np

    common = ("evaluate", mine, "-n", 8, "--features", cheap, "--reference")
    np.savez("long.npz", mu=np.zeros(2048), sigma=np.eye(2048))
    np.savez("odd.npz", mu=np.zeros(3), sigma=np.eye(3))
    Path("text.npz").write_text("no archive")
    for words, said in (
        (
            ("long.npz",),
            "2048 features, and cheap@4 makes 16; it may be of --features inception or inception_tensorflow",
        ),
        (("odd.npz",), "no features of carrara's are as long"),
        (("text.npz",), "cannot be read as a .npz"),
        (("none.npz",), "cannot be read as a .npz"),
        (("long.npz", "--metrics", "frechet,kid"), "only frechet is measured against; frechet, kid need pictures"),
        (("long.npz", "--study", "noise"), "leave --reference out"),
    ):
        refused = carrara(*common, *words)
        assert refused.code == 2 and said in refused.err, refused.err
    refused = carrara(*common[:-1], "--write-statistics", "odd.npz")
    assert refused.code == 2 and "odd.npz exists" in refused.err
    assert not (mine / "figures.json").exists()


def test_samples_are_asked_for_their_classes_names(carrara: Run, mine: Path, our_clip: Path) -> None:
    done = carrara("evaluate", mine, "-n", 20, "--metrics", "clip_score", "--clip", our_clip)
    assert done.code == 0 and any(line.startswith("CLIP score ") for line in done.out.splitlines())
    (kept,) = json.loads((mine / "figures.json").read_text())
    score = kept["clip_score"]
    assert score["n"] == 20 and score["texts"] == 10 and score["clip"].startswith("clip-emoji (")
    assert 0 <= score["value"] <= 2.5 and score["floor"] is not None and score["ceiling"] is not None
    facts = json.loads((mine / "model" / "model.json").read_text())["facts"]
    assert "the names of 10 classes, clip-emoji" in facts["clip_score"]
    assert "CLIP score" in (mine / "report.html").read_text()


def test_a_clip_that_is_none_is_refused(carrara: Run, mine: Path, here: Path, our_clip: Path, discrete: Path) -> None:
    (here / "empty").mkdir()
    (here / "foreign").mkdir()
    (here / "foreign" / "config.json").write_text('{"model_type": "bert"}')
    common = ("evaluate", mine, "-n", 8, "--metrics")
    for words, said in (
        (("clip_score",), "needs a CLIP: give its folder"),
        (("clip_score", "--clip", "empty"), "neither one of carrara's (no model.json"),
        (("clip_score", "--clip", "nowhere"), "nor one in transformers' layout (no config.json)"),
        (
            ("clip_score", "--clip", mine),
            "holds a diffusion model, which makes pictures or texts out of noise; give a CLIP",
        ),
        (("clip_score", "--clip", "foreign"), "holds a model of type 'bert'"),
        (("classes", "--clip", our_clip), "of use to the metric 'clip_score' alone"),
    ):
        refused = carrara(*common, *words)
        assert refused.code == 2 and said in refused.err, refused.err
    refused = carrara("evaluate", discrete, "-n", 8, "--metrics", "clip_score", "--clip", our_clip)
    assert refused.code == 2 and "the metric 'clip_score' asks whether a sample shows its label" in refused.err


def test_json_and_figures_hold_the_same(carrara: Run, mine: Path, cheap: str) -> None:
    said = carrara("evaluate", mine, "-n", 40, "--features", cheap, "--json").json
    (kept,) = json.loads((mine / "figures.json").read_text())
    assert all(said[name] == value for name, value in kept.items())
    assert {"date", "sampling_s", "evaluations_per_sample", "processor", "weights_sha256"} <= kept.keys()
    assert kept["data_matches"] and said["warnings"] == []
    assert 0 <= kept["classes"]["rate"] <= 1 and kept["classes"]["accuracy"] > 0.9
    assert kept["frechet"]["floor"] < kept["frechet"]["ceiling"] and kept["frechet"]["n"] == 40


def test_other_settings_are_another_entry_and_the_same_are_joined(carrara: Run, mine: Path, cheap: str) -> None:
    common = ("evaluate", mine / "model", "-n", 20, "--features", cheap, "--json", "--metrics")
    carrara(*common, "classes")
    carrara(*common, "neighbours", "--steps", 2)
    carrara(*common, "frechet")
    first, second = json.loads((mine / "figures.json").read_text())
    assert first["sampling"]["steps"] == 2 and "neighbours" in first and "classes" not in first
    assert second["sampling"]["steps"] == 3 and {"classes", "frechet"} <= second.keys()


def test_a_backend_s_figures_are_its_own(carrara: Run, mine: Path) -> None:
    common = ("evaluate", mine, "-n", 4, "--metrics", "classes")
    carrara(*common)
    done = carrara(*common, "--backend", "torch-bf16")
    assert done.code == 0 and "\nbackend     torch-bf16: bfloat16, relative error " in done.out
    first, second = json.loads((mine / "figures.json").read_text())
    assert "backend" not in first and second["backend"] == "torch-bf16"
    facts = json.loads((mine / "model" / "model.json").read_text())["facts"]
    assert facts["measured_with"] == "euler, 3 steps, guidance 1, torch-bf16"
    for words in (("--metrics", "nll"), ("--study", "noise")):
        refused = carrara("evaluate", mine, "-n", 4, "--backend", "torch-bf16", *words)
        assert refused.code == 2 and "the network itself" in refused.err


def test_the_card_speaks_of_one_way_of_sampling(carrara: Run, mine: Path) -> None:
    def card() -> dict[str, Any]:
        facts = json.loads((mine / "model" / "model.json").read_text())["facts"]
        return {name: facts[name] for name in NOTED if name in facts}

    for metrics, steps in (("classes", 3), ("neighbours", 3), ("neighbours", 2)):
        carrara("evaluate", mine, "-n", 4, "--metrics", metrics, "--steps", steps)
        if steps == 3:
            joined = card()
    assert joined.keys() == {"measured_with", "copies_of_training_pictures", "class_read_rate"}
    assert card().keys() == {"measured_with", "copies_of_training_pictures"} and "2 steps" in card()["measured_with"]
    assert "2 steps" in (mine / "model" / "README.md").read_text()
    assert carrara("sample", mine, "-n", 1).code == 0


def test_a_model_that_stands_alone_keeps_its_figures(carrara: Run, here: Path, discrete: Path) -> None:
    shutil.copytree(discrete, here / "alone")
    done = carrara("evaluate", "alone", "-n", 4, "--metrics", "neighbours", "--json")
    assert done.code == 0 and done.json["report"] is None
    assert (here / "alone" / "figures.json").is_file() and not (here / "alone" / "report.html").exists()
    assert carrara("sample", "alone", "-n", 1).code == 0


def test_other_data_than_the_models_is_said(carrara: Run, mine: Path, tamper: Callable[..., None]) -> None:
    about = json.loads((mine / "model" / "model.json").read_text())
    about["facts"]["data_fingerprint"] = "f" * 64
    tamper(mine / "model", "model.json", json.dumps(about).encode())
    done = carrara("evaluate", mine, "-n", 4, "--metrics", "neighbours", "--json")
    assert done.code == 0 and not done.json["data_matches"]
    (warning,) = done.json["warnings"]
    assert done.err == f"carrara: {warning}\n" and "not what this model was trained on" in warning


def test_python_users_have_the_same(model: Path) -> None:
    import carrara
    from carrara.training.run import dataset_of

    loaded = carrara.load(model)
    dataset = dataset_of(loaded.recipe)
    stages: list[tuple[str, int, int]] = []
    found = evaluate(
        loaded,
        dataset,
        24,
        metrics=["classes"],
        progress=lambda *stage: stages.append(stage),
        batch=8,
        label=3,
        guidance_scale=2.0,
    )
    assert found["evaluations_per_sample"] == 6 and found["n"] == found["classes"]["n"] == 24
    assert [stage for stage in stages if stage[0] == "sampling"] == [("sampling", n, 24) for n in (8, 16, 24)]
    assert json.loads(json.dumps(found)) == found
    with pytest.raises(InputError, match="no metric"):
        evaluate(loaded, dataset, metrics=["fid"])


def test_the_read_rate_is_of_the_classes_that_were_asked_for(model: Path) -> None:
    import torch

    import carrara
    from carrara.training.run import dataset_of

    loaded = carrara.load(model)
    dataset = dataset_of(loaded.recipe)
    real = torch.from_numpy(dataset.heldout.media.copy())
    order = torch.from_numpy(dataset.heldout.labels.copy())
    loaded.sample = lambda n, **_: real[:n]  # type: ignore[method-assign]
    asked = order[:100]
    right = evaluate(loaded, dataset, 100, metrics=["classes"], label=asked.tolist())["classes"]["rate"]
    wrong = evaluate(loaded, dataset, 100, metrics=["classes"], label=((asked + 1) % 10).tolist())["classes"]["rate"]
    assert right > 0.9 and wrong < 0.1


def test_what_was_kept_is_never_lost(here: Path) -> None:
    entries = [{"n": n, "seed": 0, "sampling": {"steps": 3}, "features": "x", "a": n} for n in (1, 2, 3)]
    for entry in entries:
        keep(here, entry)
    assert json.loads((here / "figures.json").read_text()) == entries
    path = keep(here, {**entries[0], "a": 9, "b": 4})
    assert json.loads(path.read_text()) == [entries[1], entries[2], {**entries[0], "a": 9, "b": 4}]


def test_more_samples_than_there_are_held_out_pictures_are_told_of_first(
    carrara: Run, model: Path, here: Path
) -> None:
    shutil.copytree(model, here / "mine")
    done = carrara("evaluate", "mine", "-n", 361, "--metrics", "neighbours", "--steps", 1, "--batch", 361, "--json")
    said = "n is 361, and digits holds out 360 pictures"
    assert done.code == 0 and done.err.startswith(f"carrara: {said}") and done.json["warnings"][0].startswith(said)
    within = carrara("evaluate", "mine", "-n", 8, "--metrics", "neighbours", "--steps", 1)
    assert within.code == 0 and not within.err
