"""A backend computes what the network does, where only values are asked for; one that does not is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from carrara.backends import BACKENDS, Inputs, Running
from carrara.backends.running import LIMITS, ROWS, fixed
from carrara.errors import InputError
from carrara.model import Model, build, load
from carrara.recipe import changed, check

CONTENT: dict[str, Any] = {
    "name": "tiny",
    "data": {"kind": "digits"},
    "network": {"kind": "unet", "width": 8, "depth": 1},
    "sampling": {"sampler": "heun", "steps": 3, "guidance_scale": 1.5},
}


@pytest.fixture
def model() -> Model:
    """A model whose every parameter is drawn at random."""
    model = build(check(changed(CONTENT, [])), (1, 8, 8), ("cat", "dog", "owl"))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.denoiser.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def scaled(factor: float) -> Any:
    """A backend whose output is the network's times a factor."""
    return lambda network, example: ((lambda x, level, cond=None: factor * network(x, level, cond)), "float32")


def slightly_off(network: nn.Module, example: Inputs) -> Any:
    return scaled(1 + 5e-4)(network, example)


def far_off(network: nn.Module, example: Inputs) -> Any:
    return scaled(1.01)(network, example)


def misshapen(network: nn.Module, example: Inputs) -> Any:
    return (lambda x, level, cond=None: network(x, level, cond)[:1]), "float32"


def test_without_one_the_network_computes(model: Model, tmp_path: Path) -> None:
    assert model.backend is None and model.denoiser.backend is None
    model.save(tmp_path / "model")
    assert load(tmp_path / "model").backend is None
    pictures = model.sample(2)
    model.use("torch")
    assert model.backend is None and torch.equal(model.sample(2), pictures)


def test_bf16_is_near_and_is_not_float32(model: Model, tmp_path: Path) -> None:
    exact = model.sample(6)
    model.save(tmp_path / "model")
    found = load(tmp_path / "model", backend="torch-bf16")
    assert found.backend is not None and (found.backend.name, found.backend.precision) == ("torch-bf16", "bfloat16")
    assert 1e-4 < found.backend.error < LIMITS["bfloat16"]
    difference = (found.sample(6).int() - exact.int()).abs().float()
    assert 0 < difference.mean() < 8


def test_its_error_is_measured_and_told(model: Model) -> None:
    model.use(f"{__name__}:slightly_off")
    assert model.backend is not None and abs(model.backend.error - 5e-4) < 1e-6
    assert "float32, relative error 5.0e-04 against the network itself (at most 0.001)" in model.backend.described()


@pytest.mark.parametrize(("name", "figure"), [("far_off", "0.01"), ("misshapen", "inf")])
def test_one_that_computes_something_else_is_refused(model: Model, name: str, figure: str) -> None:
    with pytest.raises(
        InputError, match=rf"with a relative error of {figure}; for float32 at most 0.001 is let through"
    ):
        model.use(f"{__name__}:{name}")
    assert model.backend is None


def test_an_unknown_one_is_refused(model: Model) -> None:
    with pytest.raises(InputError, match=r"there is no backend 'openvin': did you mean 'openvino'"):
        model.use("openvin")


def test_gradients_training_and_weights_are_the_network_s(model: Model) -> None:
    calls = []

    class Spy(Running):
        def __call__(self, x: Tensor, level: Tensor, cond: Any = None) -> Tensor:
            calls.append(len(x))
            return super().__call__(x, level, cond)

    model.denoiser.backend = Spy("spy", "float32", 0.0, model.denoiser.network)
    x, t = torch.randn(2, 1, 8, 8), torch.tensor(0.5, dtype=torch.float64)
    model.denoiser.eval()
    assert model.denoiser(x.requires_grad_(), t).x0.requires_grad and not calls
    with torch.no_grad():
        model.denoiser(x, t)
        assert calls == [2]
        model.denoiser.train()(x, t)
    assert calls == [2]
    assert model.denoiser.train().network.training
    model.sample(4)
    # Guided, heun of three steps: five evaluations of both halves in one batch.
    assert calls == [2, *[8] * 5]


def test_what_is_saved_knows_nothing_of_it(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "one")
    model.use("torch-bf16")
    model.save(tmp_path / "other")
    assert (tmp_path / "one" / "manifest.json").read_text() == (tmp_path / "other" / "manifest.json").read_text()


def test_the_batch_compared_on_holds_every_level_and_the_null(model: Model) -> None:
    example = fixed(model.denoiser, (1, 8, 8), model.condition)
    again = fixed(model.denoiser, (1, 8, 8), model.condition)
    assert torch.equal(example.x, again.x) and example.x.shape == (ROWS, 1, 8, 8)
    assert (float(example.level[0]), float(example.level[-1])) == (0, 1)
    assert example.cond is not None and example.cond["label"].tolist() == [0, 1, 2, 0, 1, 3]
    unconditional = build(
        check(changed(CONTENT, ["condition.kind=none", "sampling.guidance_scale=1"])), (1, 8, 8), ()
    )
    assert fixed(unconditional.denoiser, (1, 8, 8), unconditional.condition).cond is None


def test_likelihoods_are_of_the_network_itself(model: Model) -> None:
    from carrara.data import load as load_data
    from carrara.evaluation.evaluate import evaluate

    model.use("torch-bf16")
    with pytest.raises(InputError, match="likelihoods are computed by the network itself, and here torch-bf16"):
        evaluate(model, load_data("digits"), 4, ["nll"])


def test_every_entry_can_be_imported_without_its_package() -> None:
    from carrara.plugins import find

    assert all(callable(find("backend", name, BACKENDS)) for name in BACKENDS)
