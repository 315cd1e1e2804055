"""A sample that is drawn alone is, to the bit, the one that is drawn among others, of every network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from carrara.backends import BACKENDS, eager
from carrara.backends.running import running
from carrara.beliefs import Point
from carrara.conditions.label import LabelCondition
from carrara.filling import BLOCK, Filled
from carrara.masking import Masked
from carrara.model import Model, build
from carrara.networks.rounds import RoundTransformer
from carrara.networks.tokens import TokenTransformer
from carrara.recipe import read
from carrara.sampling import Sampling
from carrara.schedules import Flow
from carrara.tokens import AutoregressiveDenoiser, MaskedDenoiser, planned

PROMPTS = ["a red heart", "cat", "dog on a tree", "", "flag of Japan"]


class Seen:
    """A denoiser that says which batches it saw."""

    process = None

    def __init__(self) -> None:
        self.batches: list[tuple[list[float], list[float], list[int]]] = []

    def __call__(self, x_t: Tensor, t: Tensor, cond: Any = None) -> Point:
        self.batches.append((x_t[:, 0].tolist(), t.expand(len(x_t)).tolist(), cond["label"].tolist()))
        return Point(2 * x_t, x_t + 1)


def test_a_batch_is_filled_up_with_its_last_sample_and_the_belief_cut_back() -> None:
    seen = Seen()
    x, t, label = torch.arange(3.0)[:, None], torch.tensor([0.1, 0.2, 0.3]), torch.tensor([5, 6, 7])
    for count in (3, BLOCK, 2 * BLOCK):
        rows = torch.arange(count) % 3
        belief = Filled(seen)(x[rows], t[rows], {"label": label[rows]})  # type: ignore[arg-type]
        assert torch.equal(belief.x0, 2 * x[rows]) and torch.equal(belief.variance, x[rows] + 1)
    first, *others = seen.batches
    assert first[0] == [0, 1, *[2] * (BLOCK - 2)] and first[2] == [5, 6, *[7] * (BLOCK - 2)]
    assert first[1] == pytest.approx([0.1, 0.2, *[0.3] * (BLOCK - 2)])
    assert [len(batch[0]) for batch in others] == [BLOCK, 2 * BLOCK]


def lively(network: str, **options: Any) -> Model:
    """A small model whose parts that begin as nothing are something."""
    wishes = {"width": 16, "depth": 1, **options}
    changes = [f"network={{kind: {network}, {', '.join(f'{k}: {v}' for k, v in wishes.items())}}}"]
    recipe = read("emoji", [*changes, "condition={kind: text, encoder: bytes, length: 12}", "sampling.steps=3"])
    model = build(recipe, (3, 16, 16), ())
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.denoiser.network.parameters():
            if not bool(parameter.any()):
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=rng))
    return model


@pytest.mark.parametrize(
    ("network", "options"), [("unet", {}), ("unet", {"width": 24}), ("dit", {"width": 48, "head_width": 24})]
)
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_a_picture_is_its_seed_and_its_prompt_in_any_batch(
    network: str, options: dict[str, Any], scale: float
) -> None:
    model, seeds = lively(network, **options), list(range(100, 119))
    prompts = [PROMPTS[seed % len(PROMPTS)] for seed in seeds]

    def drawn(rows: list[int], batch: int = 32) -> Tensor:
        """Before it is rounded to a picture."""
        made = []
        for first in range(0, len(rows), batch):
            some = rows[first : first + batch]
            asked = {"prompt": [prompts[row] for row in some], "guidance_scale": scale}
            sampling, cond = model.plan(len(some), asked)
            made.append(list(model.walk([seeds[row] for row in some], cond, sampling))[-1].x)
        return torch.cat(made)

    whole = drawn(list(range(19)))
    assert whole.std() > 0.1
    for rows in ([0], [18], [7, 3], [4, 5, 6, 7, 8]):
        assert torch.equal(drawn(rows), whole[rows])
    for batch in (3, 8, 13):
        assert torch.equal(drawn(list(range(19)), batch), whole)


def test_a_few_are_filled_up_only_where_that_is_asked_for_in_films_too() -> None:
    model, sizes = lively("unet"), []
    model.denoiser.network.register_forward_pre_hook(lambda module, given: sizes.append(len(given[0])))
    asked: dict[str, Any] = {"guidance_scale": 1.0, "prompt": "cat"}
    for exact, rows in ((None, 1), (True, BLOCK), (False, 1)):
        sizes.clear()
        picture = model.sample(1, exact=exact, **asked)
        *_, last = model.film([0], exact=exact, **asked)
        assert set(sizes) == {rows} and torch.equal(last[1], picture)
    sizes.clear()
    model.sample(4, **asked)
    assert set(sizes) == {BLOCK}


LENGTH, VOCAB = 12, 300
SIZE: dict[str, Any] = {"vocab": VOCAB, "length": LENGTH, "classes": 3, "width": 64, "depth": 2, "head_width": 16}


def speaking(way: str) -> Any:
    """A small denoiser of a picture's words, whose every part is something."""
    made: dict[str, Callable[[], Any]] = {
        "masked": lambda: MaskedDenoiser(TokenTransformer(**SIZE, nearby=True), Masked(Flow(), VOCAB)),
        "autoregressive": lambda: AutoregressiveDenoiser(
            TokenTransformer(**SIZE, causal=True), Masked(Flow(), VOCAB)
        ),
        "planned": lambda: planned(RoundTransformer(**SIZE, grid=(3, 4)), VOCAB),
    }
    torch.manual_seed(2)
    denoiser = made[way]()
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.copy_(torch.randn(parameter.shape) / parameter.shape[-1] ** 0.5)
    return denoiser.eval()


@pytest.mark.parametrize("backend", ["torch", "torch-bf16"])
@pytest.mark.parametrize(
    ("way", "sampler"),
    [("masked", "confidence"), ("masked", "cached"), ("autoregressive", "left_to_right"), ("planned", "planned")],
)
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_tokens_are_their_seed_s_in_any_batch(
    way: str, sampler: str, scale: float, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eager, "SOONER_IN_FLOAT32", ())
    denoiser, condition, seeds = speaking(way), LabelCondition(("a", "b", "c")), list(range(50, 70))
    denoiser.backend = running(backend, BACKENDS, denoiser, (LENGTH,), condition)
    sampling = Sampling(sampler, 5, guidance_scale=scale)

    def drawn(rows: list[int]) -> Tensor:
        cond = {"label": torch.tensor([row % 3 for row in rows])}
        return list(sampling.walk(denoiser, condition, (LENGTH,), cond, [seeds[row] for row in rows]))[-1].x

    whole = drawn(list(range(20)))
    assert len(whole.unique()) > 50
    for rows in ([0], [19], [7, 3], list(range(9)), list(range(4, 20))):
        assert torch.equal(drawn(rows), whole[rows])


def test_a_memory_is_of_whole_blocks() -> None:
    denoiser, x = speaking("autoregressive"), torch.full((3, 1), VOCAB)
    filled, cond = Filled(denoiser), {"label": torch.tensor([0, 1, 2])}
    assert filled.following is not None and filled.reading is None
    assert Filled(speaking("masked")).following is Filled(Seen()).reading is None
    logits, memory = filled.following(x, cond, None)
    plain, _ = denoiser.following(x, cond, None)
    assert logits.shape == plain.shape and memory.rooms.shape[2] == BLOCK
    torch.testing.assert_close(logits, plain, rtol=1e-4, atol=1e-4)
