"""Recipes: every shipped one is whole, and whatever is wrong is said with its place and what is allowed."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from carrara import recipe as room
from carrara.data import Dataset
from carrara.errors import InputError, RecipeError
from carrara.plugins import find
from carrara.recipe import DEFAULTS, FROM_DATA, PARTS, ROOMS, SETTINGS, Recipe, changed, check, names, read

KINDS = [(section, kind) for section, registry in ROOMS.items() for kind in registry]
MINIMAL = {"data": {"kind": "digits"}}


def asked(**sections: Any) -> Recipe:
    return check({**MINIMAL, **sections})


def test_there_are_recipes() -> None:
    assert set(names()) >= {"digits", "fashion", "emoji", "ddpm-fashion"} and names() == sorted(names())


@pytest.mark.parametrize("name", names())
def test_a_shipped_recipe_is_whole_and_a_fixed_point(name: str, tmp_path: Path) -> None:
    recipe = read(name)
    assert recipe.name == name
    assert check(recipe.as_dict()) == recipe
    (tmp_path / "file.yaml").write_text(recipe.to_yaml())
    assert read(tmp_path / "file.yaml") == recipe
    assert read(tmp_path / "file.yaml").to_yaml() == recipe.to_yaml()
    for section in recipe.sections:
        if section not in FROM_DATA:
            recipe.measured(0.5).build(section)


@pytest.mark.parametrize("name", names())
def test_a_shipped_recipe_sets_only_what_it_means(name: str) -> None:
    """Every key it gives is a key of the whole recipe, with the value that it gives."""
    given = room.parse(room.text_of(name), name)
    whole = read(name).as_dict()
    for section, options in given.items():
        if isinstance(options, dict):
            assert {key: whole[section][key] for key in options} == options


def test_defaults_are_written_out() -> None:
    recipe = asked()
    assert recipe.sections.keys() == {*ROOMS, *SETTINGS}
    assert recipe.sections["network"]["width"] == 64 and recipe.sections["training"]["betas"] == [0.9, 0.99]
    assert recipe.sections["sampling"]["times"] == {"kind": "uniform"}
    assert (recipe.name, recipe.seed) == ("model", 0)
    assert DEFAULTS.keys() == {*ROOMS, *SETTINGS} - {"data"}


@pytest.mark.parametrize(("section", "kind"), KINDS)
def test_annotations_are_the_schema_of_every_kind(section: str, kind: str) -> None:
    """Each parameter but those from the data has an annotation, is a key, and is refused what it is not."""
    target = find(section, kind, ROOMS[section])
    function = target.__init__ if inspect.isclass(target) else target
    parameters = set(inspect.signature(target).parameters)
    fields = room.schema(section, target).model_fields
    assert set(fields) == parameters - FROM_DATA.get(section, frozenset())
    for name, field in fields.items():
        assert field.annotation is not Any and name in function.__annotations__
    options = {name: {Path: "x", int: 8}[field.annotation] for name, field in fields.items() if field.is_required()}
    whole = room.checked(section, {"kind": kind, **options})
    assert whole.keys() == {"kind", *fields}
    assert room.checked(section, whole) == whole
    with pytest.raises(RecipeError, match=rf"^{section}\.widht is an unknown key: .*allowed: .*kind"):
        room.checked(section, {**whole, "widht": 1})
    for name, field in fields.items():
        with pytest.raises(
            RecipeError, match=rf"^{section}\.{name}.* is \[\[1\]\]|^{section}\.{name}.*: input should"
        ):
            room.checked(section, {**whole, name: [[1]]})
        assert field.annotation is not None


@pytest.mark.parametrize("section", [section for section in FROM_DATA if section != "data"])
def test_what_the_data_decides_cannot_be_set(section: str) -> None:
    for name in FROM_DATA[section]:
        with pytest.raises(RecipeError, match=rf"{section}\.{name} is an unknown key"):
            asked(**{section: {**DEFAULTS[section], name: 3}})


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({}, r"has no section 'data'; .* data: \{kind: digits\}"),
        ({**MINIMAL, "netwrok": {}}, r"unknown section 'netwrok': did you mean 'network'\? allowed: codec, "),
        (
            {**MINIMAL, "network": {"kind": "unet", "widht": 8}},
            r"network\.widht is an unknown key: did you mean 'width'\?",
        ),
        ({**MINIMAL, "network": {"kind": "unett"}}, r"network\.kind: .*'unett': did you mean 'unet'\?"),
        ({**MINIMAL, "data": {"width": 8}}, r"data needs a kind: chinese, digits"),
        ({**MINIMAL, "network": {"kind": ["unet"]}}, r"network needs a kind: dit, rounds, tokens, unet, unet2d"),
        ({**MINIMAL, "network": "unet"}, r"network must be a mapping such as .* is 'unet'"),
        (
            {**MINIMAL, "network": {"kind": "unet", "width": "8"}},
            r"network\.width is '8': input should be a valid integer",
        ),
        (
            {**MINIMAL, "network": {"kind": "unet", "width": 8.5}},
            r"network\.width is 8\.5: input should be a valid integer",
        ),
        (
            {**MINIMAL, "network": {"kind": "unet", "dropout": True}},
            r"network\.dropout is True: input should be a valid num",
        ),
        (
            {**MINIMAL, "training": {"spread": "stratifeid"}},
            r"training\.spread is 'stratifeid': input should be 'independent'",
        ),
        ({**MINIMAL, "training": {"betas": [0.9]}}, r"training\.betas"),
        ({**MINIMAL, "training": {"lr": -1.0}}, r"training\.lr is -1\.0; it must be positive"),
        ({**MINIMAL, "training": {"kind": "x"}}, r"training\.kind is an unknown key"),
        ({**MINIMAL, "training": None}, r"training must be a mapping"),
        ({**MINIMAL, "sampling": {"sampler": "huen"}}, r"there is no sampler 'huen': did you mean 'heun'\?"),
        ({**MINIMAL, "sampling": {"options": {"eta": 1}}}, r"the sampler 'heun' has no option 'eta': it takes none"),
        ({"data": {"kind": "folder"}}, r"data\.path is missing; folder cannot be made without it"),
        ({**MINIMAL, "name": "a/b"}, r"name is 'a/b'; it must be a word"),
        ({**MINIMAL, "name": 3}, r"name is 3; it must be a word"),
        ({**MINIMAL, "seed": -1}, r"seed is -1; it must be a whole number from 0"),
        ({**MINIMAL, "seed": 2**32}, r"seed is 4294967296; it must be"),
        ({**MINIMAL, "seed": 1.0}, r"seed is 1\.0; it must be"),
        ({**MINIMAL, "seed": True}, r"seed is True; it must be"),
    ],
)
def test_what_is_wrong_is_said(content: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        check(content)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: [", "is not valid YAML"),
        ("- a", "must be a mapping of sections, and is list"),
        ("", "must be a mapping of sections, and is None"),
    ],
)
def test_a_file_that_is_no_recipe_is_named(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "file.yaml").write_text(text)
    with pytest.raises(RecipeError, match=rf"the recipe .*file\.yaml {sentence}"):
        read(tmp_path / "file.yaml")


def test_an_unknown_recipe_has_a_nearest_spelling() -> None:
    with pytest.raises(RecipeError, match=r"there is no recipe 'digit': did you mean 'digits'\?.*; or give the path"):
        read("digit")


@pytest.mark.parametrize(
    ("change", "section", "key", "value"),
    [
        ("network.width=32", "network", "width", 32),
        ("training.lr=1e-3", "training", "lr", 0.001),
        ("training.lr=5E-4", "training", "lr", 0.0005),
        ("training.lr=.5e-1", "training", "lr", 0.05),
        ("training.betas=[0.5, 0.9]", "training", "betas", [0.5, 0.9]),
        ("sampling.times={kind: karras, rho: 5}", "sampling", "times", {"kind": "karras", "rho": 5}),
        ("sampling.times.kind=karras", "sampling", "times", {"kind": "karras"}),
        ("train_times.kind=uniform", "train_times", "kind", "uniform"),
        ("training.precision=bf16", "training", "precision", "bf16"),
    ],
)
def test_a_set_changes_one_value(change: str, section: str, key: str, value: Any) -> None:
    plain, changed_one = read("digits").as_dict(), read("digits", [change]).as_dict()
    assert changed_one[section][key] == value != plain[section].get(key)
    rest = {name: options for name, options in changed_one.items() if name != section}
    assert rest == {name: options for name, options in plain.items() if name != section}


def test_the_last_set_counts_and_the_content_is_left_alone() -> None:
    content = {"network": {"kind": "unet", "width": 8}}
    assert changed(content, ["network.width=16", "network.width=24"])["network"]["width"] == 24
    assert content == {"network": {"kind": "unet", "width": 8}}
    assert read("digits", ["seed=7", "name=other"]).seed == 7


def test_another_kind_begins_with_its_own_defaults() -> None:
    other = read("ddpm-fashion", ["train_times.kind=logit_normal", "train_times.std=2.0"])
    assert other.sections["train_times"] == {"kind": "logit_normal", "mean": 0.0, "std": 2.0}
    same = read("ddpm-fashion", ["train_times.kind=discrete"])
    assert same.sections["train_times"]["steps"] == 1000


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("network.width", r"--set 'network\.width' is not of the form section\.key=value"),
        ("=3", r"is not of the form"),
        ("network.width=[", r"--set 'network\.width=\[' is not valid YAML"),
        ("network.width.deep=3", r"--set 'network\.width\.deep=3': width is a value, not a section"),
        ("network.widht=3", r"network\.widht is an unknown key: did you mean 'width'"),
        ("netwrk.width=3", r"unknown section 'netwrk': did you mean 'network'"),
        ("network=unet", r"network must be a mapping"),
        ("network.width=", r"network\.width is None"),
    ],
)
def test_a_set_that_is_none_is_said(change: str, sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        read("digits", [change])


@pytest.mark.parametrize("text", ["1e3", "1e-3", "true", "12", "a1", "1_0"])
def test_words_that_look_like_numbers_stay_words(text: str, tmp_path: Path) -> None:
    content = {"name": text, "data": {"kind": "folder", "path": text, "size": 8}}
    recipe = check(content)
    (tmp_path / "file.yaml").write_text(recipe.to_yaml())
    assert read(tmp_path / "file.yaml") == recipe and recipe.sections["data"]["path"] == text


def test_measured_is_the_data_s_standard_deviation() -> None:
    recipe = asked(
        schedule={"kind": "edm"}, prediction={"kind": "edm", "data_std": "measured"}, weight={"kind": "edm"}
    )
    assert recipe.sections["prediction"]["data_std"] == "measured"
    assert check(recipe.as_dict()) == recipe
    there = recipe.measured(0.123456)
    assert there.build("prediction").data_std == 0.1235 == there.sections["prediction"]["data_std"]
    assert recipe.sections["prediction"]["data_std"] == "measured"
    with pytest.raises(RecipeError, match=r"prediction\.data_std is 'mesured'"):
        asked(prediction={"kind": "edm", "data_std": "mesured"})


LAB = """
import numpy as np
import torch
from carrara.data import Dataset, Split
from carrara.samplers import Step, pairs

class Net(torch.nn.Module):
    def __init__(self, channels: int, gain: float = 1.0) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.full((channels,), gain))

    def forward(self, x, level, cond=None):
        return x * self.scale[:, None, None]

def jump(denoiser, x, times, cond=None, *, rng=None, far: float = 1.0):
    for index, t, s in pairs(times):
        belief = denoiser(x, t, cond)
        x = belief.x0 * far
        yield Step(index, t, s, x, belief)

class Sure:
    def __init__(self, network, schedule, vocab, boldness):
        from carrara.processes import Gaussian
        self.network, self.process, self.vocab, self.boldness = network, Gaussian(schedule), vocab, boldness

    def __call__(self, x_t, t, cond=None):
        from carrara.beliefs import Point
        return Point(self.boldness * x_t)

    def eval(self):
        return self

    training = False
    train = lambda self, mode: self

def sure(network: torch.nn.Module, schedule: object, vocab: int | None, boldness: float = 1.0) -> Sure:
    return Sure(network, schedule, vocab, boldness)

class Words(torch.nn.Module):
    def __init__(self, vocab: int) -> None:
        super().__init__()

def blobs(count: int = 4) -> Dataset:
    media = np.arange(count * 12, dtype=np.uint8).reshape(count, 3, 2, 2)
    split = Split(media, np.zeros(count, dtype=np.int64))
    return Dataset("blobs", ("blob",), split, split, "f" * 64, "CC0-1.0", "here")
"""


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "lab_of_mine.py").write_text(LAB)
    monkeypatch.syspath_prepend(tmp_path)
    yield


@pytest.mark.usefixtures("lab")
def test_dotted_paths_extend_without_a_fork() -> None:
    from carrara.model import build
    from carrara.training.run import dataset_of

    recipe = asked(
        data={"kind": "lab_of_mine:blobs", "count": 5},
        network={"kind": "lab_of_mine:Net", "gain": 2.0},
        sampling={"sampler": "lab_of_mine:jump", "steps": 1, "options": {"far": 0.5}},
    )
    assert check(recipe.as_dict()) == recipe
    data = dataset_of(recipe)
    assert isinstance(data, Dataset) and len(data.train) == 5
    model = build(recipe, data.shape, data.classes)
    assert model.denoiser.network.scale.tolist() == [2.0] * 3
    assert model.sample(2).shape == (2, 3, 2, 2)
    assert bool((model.sample(2, options={"far": 0.0}) == 128).all())
    assert not bool((model.sample(2) == 128).all())


@pytest.mark.usefixtures("lab")
def test_a_process_of_one_s_own_has_the_sections_that_it_asks_for() -> None:
    from carrara.model import build

    mine = {"kind": "lab_of_mine:sure", "boldness": 0.5}
    recipe = asked(process=mine, schedule={"kind": "edm"})
    assert set(PARTS) & set(recipe.sections) == {"schedule"}
    assert check(recipe.as_dict()) == recipe
    denoiser: Any = build(recipe, (3, 2, 2), ("blob",)).denoiser
    assert (denoiser.boldness, denoiser.vocab, denoiser.process.schedule.sigma_max) == (0.5, None, 80)
    with pytest.raises(
        RecipeError, match=r"a section 'prediction', of which a process of kind 'lab_of_mine:sure' makes no use"
    ):
        asked(process=mine, prediction={"kind": "eps"})
    with pytest.raises(RecipeError, match=r"process\.bold is an unknown key: did you mean 'boldness'"):
        asked(process={"kind": "lab_of_mine:sure", "bold": 1.0})


@pytest.mark.usefixtures("lab")
def test_a_network_must_be_told_what_it_asks_for() -> None:
    from carrara.model import build

    with pytest.raises(
        RecipeError,
        match=r"'lab_of_mine:Words' is for other data: it needs to know vocab, and this data has channels",
    ):
        build(asked(network={"kind": "lab_of_mine:Words"}), (3, 2, 2), ("blob",))


@pytest.mark.usefixtures("lab")
def test_what_is_one_s_own_is_checked_alike() -> None:
    with pytest.raises(RecipeError, match=r"network\.gian is an unknown key: did you mean 'gain'"):
        asked(network={"kind": "lab_of_mine:Net", "gian": 1.0})
    with pytest.raises(
        RecipeError, match=r"network\.kind: the network of kind 'lab_of_mine:Nett' cannot be imported"
    ):
        asked(network={"kind": "lab_of_mine:Nett"})
    with pytest.raises(
        InputError, match=r"the sampler 'lab_of_mine:jump' has no option 'near': did you mean|allowed: far"
    ):
        asked(sampling={"sampler": "lab_of_mine:jump", "options": {"near": 1}})


def test_a_section_without_its_kind_has_the_default_kind() -> None:
    given = check({**MINIMAL, "network": {"width": 8}})
    assert given.sections["network"]["kind"] == "unet"
    assert given.sections["network"]["width"] == 8


def test_the_order_of_changes_does_not_matter() -> None:
    changes = ["data.path=photos", "data.kind=folder"]
    assert changed(MINIMAL, changes) == changed(MINIMAL, changes[::-1])
    assert changed(MINIMAL, changes)["data"] == {"kind": "folder", "path": "photos"}
