"""A model: what is saved is loaded, a seed is a picture, and what cannot be done is said."""

import json
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from toys import OF_NUMBERS

from carrara import files
from carrara.errors import DamagedFile, InputError, NonFinite
from carrara.model import Model, build, evaluating, load
from carrara.recipe import changed, check
from carrara.rng import Streams

CONTENT: dict[str, Any] = {
    "name": "tiny",
    "data": {"kind": "digits"},
    "network": {"kind": "unet", "width": 8, "depth": 1, "dropout": 0.2},
    "sampling": {"sampler": "heun", "steps": 4},
}
CLASSES = ("cat", "dog", "owl")


BLACK = torch.zeros(1, 8, 8, dtype=torch.uint8)
MASK = torch.arange(8).expand(8, 8) > 4


def made(*changes: str, classes: tuple[str, ...] = CLASSES) -> Model:
    """A model whose every parameter is drawn at random, so that its pictures depend on everything."""
    model = build(check(changed(CONTENT, changes)), (1, 8, 8), classes)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.denoiser.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.fixture(scope="module")
def model() -> Model:
    return made()


@pytest.fixture
def folder(model: Model, tmp_path: Path) -> Path:
    model.save(tmp_path / "model")
    return tmp_path / "model"


def x0(model: Model, seeds: list[int], sampler: str = "heun") -> Tensor:
    """Before it is rounded to a picture."""
    sampling, cond = model.plan(len(seeds), {"sampler": sampler, "label": [seed % 3 for seed in seeds]})
    return list(model.walk(seeds, cond, sampling))[-1].x


def test_a_model_comes_back_as_it_was(model: Model, folder: Path) -> None:
    found = load(folder)
    assert torch.equal(found.sample(5, seed=3), model.sample(5, seed=3))
    mine, its = model.denoiser.network.state_dict(), found.denoiser.network.state_dict()
    assert mine.keys() == its.keys() and all(torch.equal(mine[key], its[key]) for key in mine)
    assert (found.recipe, found.shape, found.classes) == (model.recipe, model.shape, model.classes)
    assert (found.facts, found.sampling) == (model.facts, model.sampling)
    assert not found.denoiser.training
    assert sorted(p.name for p in folder.iterdir()) == [
        "README.md",
        "manifest.json",
        "model.json",
        "network.safetensors",
    ]


def test_a_model_of_a_run_folder_and_one_replaced(model: Model, folder: Path) -> None:
    assert torch.equal(load(folder.parent).sample(2), model.sample(2))
    other = made("seed=9")
    other.save(folder)
    assert torch.equal(load(folder).sample(2), other.sample(2))


def test_a_model_whose_replacement_was_cut_off_is_not_lost(model: Model, folder: Path) -> None:
    folder.rename(folder.with_name(".model.old"))
    assert torch.equal(load(folder).sample(2), model.sample(2))
    assert torch.equal(load(folder.parent).sample(2), model.sample(2))


def test_the_card_tells_what_it_is(model: Model) -> None:
    model.facts = {"data_licence": "CC0-1.0"}
    from carrara.model import card

    text = card(model)
    assert "1×8×8" in text and f"{model.parameters:,} parameters" in text and "data licence: CC0-1.0" in text
    model.facts = {}


@pytest.mark.parametrize("name", ["network.safetensors", "model.json", "README.md"])
def test_damage_is_named(folder: Path, name: str) -> None:
    path = folder / name
    whole = path.read_bytes()
    path.write_bytes(whole[:-2] + bytes([whole[-2] ^ 1]) + whole[-1:])
    with pytest.raises(DamagedFile, match=rf"{name} is damaged: its SHA-256"):
        load(folder)
    if name != "model.json":
        path.unlink()
        with pytest.raises(DamagedFile, match=rf"{name} is missing"):
            load(folder)


def rewritten(folder: Path, **changes: Any) -> Path:
    """The model folder with other contents of model.json, and a manifest that fits."""
    content = {**json.loads((folder / "model.json").read_text()), **changes}
    (folder / "model.json").write_text(json.dumps(content))
    members = [path for path in folder.iterdir() if path.name != files.MANIFEST]
    hashes = {path.name: files.sha256(path) for path in members}
    (folder / files.MANIFEST).write_text(json.dumps({"sha256": hashes}))
    return folder


def test_another_format_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match=r"has the format 99; this carrara .* reads format 1"):
        load(rewritten(folder, format=99))


def test_weights_of_another_network_are_refused_by_tensor(folder: Path, model: Model) -> None:
    wide = changed(CONTENT, ["network.width=16"])
    with pytest.raises(InputError, match=r"belongs to another recipe: \S+ has the shape \(.*\) in the file and \("):
        load(rewritten(folder, recipe=wide))
    with pytest.raises(InputError, match=r"belongs to another recipe: it lacks tensor \S+"):
        load(rewritten(folder, recipe=changed(CONTENT, ["network.depth=2"])))
    with pytest.raises(InputError, match=r"belongs to another recipe: \S*label\S* has the shape \(4, 32\)"):
        load(rewritten(folder, recipe=model.recipe.as_dict(), classes=["cat", "dog"]))


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InputError, match="is neither a model folder"):
            load(path)


def test_the_parameters_are_drawn_from_the_recipe_s_seed_alone() -> None:
    def first(*changes: str) -> Tensor:
        return next(build(check(changed(CONTENT, changes)), (1, 8, 8), CLASSES).denoiser.parameters()).detach()

    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    one = first()
    assert torch.equal(torch.rand(2), expected)
    assert torch.equal(first(), one) and not torch.equal(first("seed=1"), one)


def test_a_seed_is_a_picture(model: Model) -> None:
    whole = model.sample(6, seed=10, label=1)
    assert whole.shape == (6, 1, 8, 8) and whole.dtype == torch.uint8
    assert torch.equal(model.sample(6, seed=10, label=1), whole)
    assert torch.equal(model.sample(seeds=[12, 10], label=1), whole[[2, 0]])
    assert len({picture.numpy().tobytes() for picture in whole}) == 6
    assert not torch.equal(model.sample(6, seed=10, label=2), whole)


@pytest.mark.parametrize("sampler", OF_NUMBERS)
def test_a_sample_is_itself_in_any_batch(model: Model, sampler: str) -> None:
    count = 8 if sampler == "adaptive" else 64  # That one solves each sample alone.
    seeds = list(range(100, 100 + count))
    whole = x0(model, seeds, sampler)
    for rows in (slice(0, 1), slice(count - 1, count), slice(count // 8, count // 4)):
        assert torch.equal(Streams(seeds[rows]).normal((1, 8, 8)), Streams(seeds).normal((1, 8, 8))[rows])
        assert torch.equal(x0(model, seeds[rows], sampler), whole[rows])
    assert whole.std() > 0.05


def test_batches_follow_one_another(model: Model) -> None:
    seen: list[tuple[int, int]] = []
    parts = model.sample(7, label=[0, 1, 2, 0, 1, 2, 0], batch=3, progress=lambda *now: seen.append(now))
    assert seen == [(3, 7), (6, 7), (7, 7)]
    whole = model.sample(7, label=[0, 1, 2, 0, 1, 2, 0])
    assert torch.equal(parts, whole)


def test_labels_by_number_name_and_list_are_the_same(model: Model) -> None:
    by_number = model.sample(3, label=1)
    for label in ("dog", "1", [1, "dog", "1"], torch.tensor([1, 1, 1])):
        assert torch.equal(model.sample(3, label=label), by_number)
    in_turn = model.sample(3)
    assert torch.equal(in_turn, model.sample(3, label=["cat", "dog", "owl"]))


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"n": 0}, "0 samples were asked for; ask for 1 or more"),
        ({"n": -1}, "-1 samples were asked for"),
        ({"n": "2"}, "n is '2'; it is a whole number"),
        ({"n": 2.5}, "n is 2.5; it is a whole number"),
        ({"n": True}, "n is True; it is a whole number"),
        ({"seed": "a"}, "seed is 'a'; it is a whole number"),
        ({"seed": None}, "seed is None; it is a whole number"),
        ({"steps": 2.5}, r"2\.5 sampling steps were asked for; at least 1 is needed, a whole number"),
        ({"guidance_scale": "x"}, "guidance_scale is 'x'; it is a number"),
        ({"guidance_scale": float("nan")}, "guidance_scale is nan; it is a number"),
        (
            {"start": BLACK, "strength": 0.9, "steps": 4},
            "with a strength of 0.9, 4 of 4 steps are walked, and nothing is left",
        ),
        ({"seeds": []}, "0 samples were asked for"),
        ({"n": 3, "seeds": [1]}, "3 samples were asked for and 1 seeds given"),
        ({"seed": -1}, "seed -1 is not a whole number"),
        ({"batch": 0}, "a batch of 0 samples is not possible"),
        ({"label": 3}, "there is no class 3"),
        ({"label": "cow"}, r"there is no class 'cow': did you mean 'owl'\?|there is no class 'cow'"),
        ({"n": 2, "label": [0]}, "1 labels were given for 2 samples"),
        ({"prompt": "a cat"}, "it does not know prompt"),
        ({"step": 3}, "it does not know step"),
        ({"steps": 0}, "0 sampling steps were asked for"),
        ({"sampler": "hein"}, "there is no sampler 'hein': did you mean 'heun'"),
        ({"options": {"eta": 1}}, "the sampler 'heun' has no option 'eta'"),
        ({"times": {"kind": "karas"}}, "no grid of times called 'karas'"),
        ({"guidance_scale": 2.0, "guidance_interval": (0.5, 0.2)}, "the guidance interval"),
        ({"guidance_scale": 2.0, "guidance_rescale": 2.0}, "rescale is 2.0"),
        ({"threshold": {"kind": "dynamc"}}, r"no threshold called 'dynamc': did you mean 'dynamic'\?"),
        ({"threshold": "dynamic"}, "threshold is 'dynamic'; it needs a kind"),
        ({"strength": 0.6}, "strength says how a start is changed, and there is none: give start, or no strength"),
        ({"strength": 1.0}, "strength says how a start is changed"),
        ({"mask": MASK}, "mask says how a start is changed, and there is none: give start, or no mask"),
        ({"start": BLACK, "strength": 0.0}, r"strength is 0.0; it is the share .*: above 0 .* and at most 1"),
        ({"start": BLACK, "strength": 1.5}, "strength is 1.5"),
        ({"start": BLACK.float()}, "pictures of dtype torch.float32 were given; they must be uint8"),
        (
            {"start": BLACK[:, 1:]},
            r"start is \(1, 7, 8\); give a uint8 tensor \(1, 8, 8\), or one for each of the 1 ",
        ),
        (
            {"n": 3, "start": BLACK.expand(2, 1, 8, 8)},
            r"start is \(2, 1, 8, 8\); .* each of the 3 samples, \(3, 1, 8, 8\)",
        ),
        ({"start": "photo.png"}, "start is str; give a uint8 tensor"),
        ({"start": BLACK, "mask": MASK.float()}, "mask is torch.float32; it must be a bool or uint8 tensor"),
        ({"start": BLACK, "mask": MASK[1:]}, r"mask has the shape \(7, 8\); give \(8, 8\)"),
        ({"start": BLACK, "n": 3, "mask": MASK.expand(2, 8, 8)}, r"mask has the shape \(2, 8, 8\); .* 3 samples"),
    ],
)
def test_what_cannot_be_sampled_is_said(model: Model, given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        model.sample(**given)


def test_more_steps_than_a_discrete_schedule_has_are_refused() -> None:
    ddpm = made("schedule.kind=linear_beta", "prediction.kind=eps", "weight.kind=simple")
    with pytest.raises(InputError, match="1001 sampling steps were asked for, but the schedule"):
        ddpm.sample(1, steps=1001)
    assert ddpm.sample(1, steps=3).shape == (1, 1, 8, 8)


def test_an_unconditional_model_has_no_guidance_and_no_labels() -> None:
    plain = made("condition.kind=none")
    assert plain.sample(2).shape == (2, 1, 8, 8)
    with pytest.raises(InputError, match="guidance_scale 2 needs a conditional model; this one is unconditional"):
        plain.sample(1, guidance_scale=2)
    with pytest.raises(InputError, match="this model is unconditional; it cannot be asked for label"):
        plain.sample(1, label=0)


def test_guidance_goes_away_from_the_null(model: Model) -> None:
    """Scale 0 is the null condition's sample whatever the label, scale 1 the unguided, more goes further."""
    unguided = model.sample(4, label=1)
    assert torch.equal(model.sample(4, label=1, guidance_scale=1), unguided)
    null = model.sample(4, label=1, guidance_scale=0)
    assert (null.int() - model.sample(4, label=2, guidance_scale=0).int()).abs().max() <= 1
    assert not torch.equal(model.sample(4, label=1, guidance_scale=3), unguided)


def test_a_film_shows_every_step_and_ends_with_the_sample(model: Model) -> None:
    frames = list(model.film([5, 6], label="dog", steps=6))
    assert [t for t, _, _ in frames] == pytest.approx([1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0])
    sample = model.sample(seeds=[5, 6], label="dog", steps=6)
    assert torch.equal(frames[-1][1], sample) and torch.equal(frames[-1][2], sample)
    for _, x_t, believed in frames:
        assert x_t.shape == believed.shape == (2, 1, 8, 8) and x_t.dtype == believed.dtype == torch.uint8
    assert not torch.equal(frames[0][1], sample)


@pytest.mark.parametrize("training", [True, False])
def test_a_walk_leaves_mode_and_gradients_to_the_caller(model: Model, training: bool) -> None:
    seen: list[tuple[bool, bool]] = []
    hook = model.denoiser.network.register_forward_pre_hook(
        lambda network, _: seen.append((network.training, torch.is_grad_enabled()))
    )
    model.denoiser.train(training)
    sampling, cond = model.plan(2, {"sampler": "euler"})
    walks = [model.walk([1, 2], cond, sampling), model.walk([3, 4], cond, sampling)]
    while [step for walk in walks if (step := next(walk, None)) is not None]:
        assert model.denoiser.network.training is training and torch.is_grad_enabled()
    abandoned = model.walk([1, 2], cond, sampling)
    next(abandoned)
    del abandoned
    assert model.denoiser.network.training is training and torch.is_grad_enabled()
    assert set(seen) == {(False, False)} and len(seen) == 9
    model.sample(1)
    assert model.denoiser.network.training is training
    hook.remove()
    model.denoiser.train()


def test_walks_iterated_in_turn_are_as_one_after_the_other(model: Model) -> None:
    sampling, cond = model.plan(2, {"sampler": "ancestral"})
    alone = [list(model.walk(seeds, cond, sampling))[-1].x for seeds in ([1, 2], [3, 4])]
    in_turn = list(zip(model.walk([1, 2], cond, sampling), model.walk([3, 4], cond, sampling), strict=True))[-1]
    assert [torch.equal(step.x, x) for step, x in zip(in_turn, alone, strict=True)] == [True, True]


def drawn(count: int = 5) -> Tensor:
    """Pictures of every grey."""
    return torch.randint(0, 256, (count, 1, 8, 8), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def test_a_start_is_changed_the_more_the_stronger(model: Model) -> None:
    def far(strength: float) -> float:
        changed = model.sample(start=drawn(), strength=strength, steps=20, label=1)
        assert changed.shape == (5, 1, 8, 8) and changed.dtype == torch.uint8
        return float((changed.float() - drawn()).abs().mean())

    assert far(0.05) < far(0.3) < far(0.9)
    assert far(1.0) == float((model.sample(5, steps=20, label=1).float() - drawn()).abs().mean())
    usual = model.sample(start=drawn(), steps=20)
    assert torch.equal(usual, model.sample(start=drawn(), steps=20, strength=0.6))


def test_one_start_serves_all_samples_and_several_one_each(model: Model) -> None:
    one = drawn()[0]
    assert model.sample(start=one).shape == (1, 1, 8, 8) == model.sample(start=one[None]).shape
    several = model.sample(3, start=one, label=1)
    assert len({picture.numpy().tobytes() for picture in several}) == 3
    assert torch.equal(several, model.sample(seeds=[0, 1, 2], start=one.expand(3, 1, 8, 8), label=1))


@pytest.mark.parametrize("sampler", ["heun", "ancestral", "dpmpp_2m"])
@pytest.mark.parametrize(
    "mask", [None, MASK, torch.stack([MASK, ~MASK, MASK.T, MASK, MASK])], ids=["none", "one", "each"]
)
def test_a_changed_start_is_itself_in_any_batch(model: Model, sampler: str, mask: Tensor | None) -> None:
    def sample(rows: list[int], **options: Any) -> Tensor:
        each = mask[rows] if mask is not None and mask.ndim == 3 else mask
        labels = [row % 3 for row in rows]
        return model.sample(
            seeds=[10 + row for row in rows],
            label=labels,
            start=drawn()[rows],
            mask=each,
            sampler=sampler,
            strength=0.7,
            **options,
        )

    whole = sample([0, 1, 2, 3, 4])
    assert torch.equal(sample([4, 1]), whole[[4, 1]])
    assert torch.equal(sample([0, 1, 2, 3, 4], batch=2), whole)
    assert not torch.equal(sample([0, 0])[0], sample([1, 1])[0])


@pytest.mark.parametrize("strength", [None, 0.4])
def test_what_a_mask_keeps_comes_back_to_the_last_grey(model: Model, strength: float | None) -> None:
    for wishes in ({}, {"guidance_scale": 3.0, "threshold": {"kind": "dynamic"}}, {"sampler": "ancestral"}):
        found = model.sample(start=drawn(), mask=MASK, strength=strength, **wishes)
        assert torch.equal(found[..., ~MASK], drawn()[..., ~MASK])
        assert float((found[..., MASK] != drawn()[..., MASK]).float().mean()) > 0.5
        assert torch.equal(model.sample(start=drawn(), mask=255 * (~MASK).byte())[..., MASK], drawn()[..., MASK])


def test_a_mask_of_all_is_a_new_sample(model: Model) -> None:
    """Bit for bit, the noise of the steps included."""
    whole = torch.ones(8, 8, dtype=torch.bool)
    for sampler in ("heun", "ancestral"):
        assert torch.equal(model.sample(start=drawn(), mask=whole, sampler=sampler), model.sample(5, sampler=sampler))


@pytest.mark.parametrize("schedule", ["flow", "edm"])
def test_a_film_of_a_changed_start_begins_where_the_walk_does(schedule: str) -> None:
    changed = made(f"schedule.kind={schedule}", "prediction.kind=edm")
    options: dict[str, Any] = {"start": drawn()[:2], "mask": MASK, "label": 1, "steps": 10, "strength": 0.3}
    frames = list(changed.film([5, 6], **options))
    assert [t for t, _, _ in frames] == pytest.approx([0.3, 0.2, 0.1, 0])
    assert torch.equal(frames[-1][1], changed.sample(seeds=[5, 6], **options))
    process, t = changed.denoiser.process, torch.tensor(0.3, dtype=torch.float64)
    x_t, _ = process.corrupt(changed.codec.encode(drawn()[:2]), t, Streams([5, 6]))
    assert (frames[0][1].int() - changed.codec.decode(process.shown(x_t, t)).int()).abs().max() <= 1
    for _, _, believed in frames:
        assert torch.equal(believed[..., ~MASK], drawn()[:2][..., ~MASK])


def test_a_threshold_holds_for_what_is_drawn(model: Model) -> None:
    """A static bound of 1 changes what the codec would clip anyway only through the steps before; a tight one is seen."""
    sampling, cond = model.plan(4, {"threshold": {"kind": "static", "bound": 0.25}, "guidance_scale": 3.0})
    assert float(list(model.walk([0, 1, 2, 3], cond, sampling))[-1].x.abs().max()) <= 0.25 + 1e-6
    assert float(x0(model, [0, 1, 2, 3]).abs().max()) > 0.25
    assert torch.equal(model.sample(4, threshold={"kind": "none"}), model.sample(4))


@pytest.mark.parametrize(
    "change", ["sampling.threshold={kind: dynamic, bound: 0.5}", "sampling.threshold.kind=static"]
)
def test_a_threshold_comes_from_the_recipe_and_is_saved(change: str, tmp_path: Path) -> None:
    bounded = made(change)
    assert bounded.sampling.threshold["kind"] in ("dynamic", "static")
    assert check(bounded.recipe.as_dict()) == bounded.recipe
    bounded.save(tmp_path / "model")
    found = load(tmp_path / "model")
    assert found.sampling == bounded.sampling and torch.equal(found.sample(3), bounded.sample(3))
    with pytest.raises(InputError, match="no threshold called 'dynamo'"):
        made("sampling.threshold.kind=dynamo")


def test_the_mode_comes_back_when_a_network_fails() -> None:
    module = torch.nn.Dropout()
    with pytest.raises(RuntimeError, match="within"), evaluating(module):
        assert not module.training
        raise RuntimeError("within")
    assert module.training


def test_every_part_comes_back_to_its_own_mode() -> None:
    module = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Dropout())
    module[1].eval()
    for whole in (True, False):
        module.training = whole
        with evaluating(module):
            assert not any(each.training for each in module.modules())
        assert [each.training for each in module.modules()] == [whole, True, False]


def test_nan_is_no_picture() -> None:
    broken = made()
    with torch.no_grad():
        next(broken.denoiser.parameters()).fill_(float("nan"))
    with pytest.raises(NonFinite, match="the sampled x0 holds NaN or infinity"):
        broken.sample(1)


def test_the_schedule_and_the_prediction_must_fit() -> None:
    with pytest.raises(InputError, match="eps"):
        made("prediction.kind=eps")


def test_what_a_walk_yields_can_be_used_with_gradients(model: Model) -> None:
    sampling, cond = model.plan(2, {"guidance_scale": 1.5})
    weight = torch.ones((), requires_grad=True)
    for step in model.walk([0, 1], cond, sampling):
        (weight * step.x * step.belief.x0).sum().backward()
    assert weight.grad is not None and bool(weight.grad != 0)


def test_only_one_batch_is_in_memory_at_a_time(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    decode, ends, alive = model.codec.decode, [], []

    def watched(x: Tensor) -> Tensor:
        ends.append(weakref.ref(x))
        alive.append(sum(end() is not None for end in ends))
        pictures: Tensor = decode(x)
        return pictures

    monkeypatch.setattr(model.codec, "decode", watched)
    assert model.sample(10, batch=2).dtype == torch.uint8
    assert alive == [1] * 5


@pytest.mark.parametrize(
    ("interval", "doubled"), [((0.0, 1.0), 8), ((0.3, 0.6), 2), ((0.9, 1.0), 1), ((0.05, 0.1), 0)]
)
def test_guidance_is_paid_for_inside_its_interval_only(
    model: Model, interval: tuple[float, float], doubled: int
) -> None:
    """At t = 1, 7/8, …, 1/8, with the two halves in one batch."""
    sizes: list[int] = []
    handle = model.denoiser.network.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    try:
        model.sample(8, sampler="euler", steps=8, guidance_scale=1.5, guidance_interval=interval)
    finally:
        handle.remove()
    assert len(sizes) == 8 and sizes.count(16) == doubled and sizes.count(8) == 8 - doubled
