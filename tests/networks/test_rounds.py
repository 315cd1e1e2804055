"""The transformer over words that show in rounds: which go together, what each is made of, and how rounds are read one by one."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from test_tokens import randomised
from torch import Tensor

from carrara import native
from carrara.errors import InputError, RecipeError
from carrara.networks.around import READ, Around
from carrara.networks.memory import Memory
from carrara.networks.rounds import RoundTransformer, diagonals
from carrara.recipe import check

GRID, VOCAB, CLASSES, SOURCE_VOCAB, SOURCE_LENGTH = (3, 4), 12, 3, 5, 4
LENGTH = math.prod(GRID)
DATA = {
    "vocab": VOCAB,
    "length": LENGTH,
    "grid": GRID,
    "levels": (3, 4),
    "classes": CLASSES,
    "source_vocab": SOURCE_VOCAB,
    "source_length": SOURCE_LENGTH,
}
SMALL = {"width": 16, "head_width": 8, "depth": 2}
BARE = {"classes": 0, "source_vocab": 0, "source_length": 0}
OPTIONS: list[dict[str, Any]] = [{}, {"rounds": 4}, {"rounds": 2}, {"rounds": 1}, {"factored": True, **BARE}]
each = pytest.mark.parametrize("options", OPTIONS)
kernels = pytest.mark.parametrize("kernels", ["native", "torch"])


def net(**options: Any) -> RoundTransformer:
    torch.manual_seed(0)
    return RoundTransformer(**{**DATA, **SMALL, **options})


def parameters(network: RoundTransformer) -> list[tuple[str, torch.nn.Parameter]]:
    """Those that have any numbers: of a single round nothing shows earlier, and nothing beside is weighed."""
    return [(name, p) for name, p in network.named_parameters() if p.numel()]


def inputs(count: int = 3, length: int = LENGTH) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    draw = torch.Generator().manual_seed(1)
    x = torch.randint(0, VOCAB + 1, (count, length), generator=draw)
    source = torch.randint(0, SOURCE_VOCAB, (count, SOURCE_LENGTH), generator=draw)
    return x, torch.linspace(0, 1, count), {"label": torch.arange(count) % CLASSES, "source": source}


def read_by_rounds(
    network: RoundTransformer, x: Tensor, cond: dict[str, Tensor] | None
) -> tuple[Tensor, list[Memory]]:
    """The logits of every place, round by round, of what shows by then; the rest is hidden. And the memories."""
    turn, memory, memories = torch.tensor(network.plan), None, []
    found = torch.full((*x.shape, VOCAB), math.nan)
    for r in range(int(turn.max()) + 1):
        shown = x.masked_fill(turn >= r, VOCAB)
        logits, memory = network.reading(shown, cond, memory)
        found[:, turn == r] = logits.float()
        memories.append(memory)
    return found, memories


# ------------------------------------------------------------------------------------------------------- the rounds


@pytest.mark.parametrize(
    ("grid", "sizes"), [((7, 7), [1, 2, 3, 4, 5, 6, 7, 6, 5, 4, 3, 2, 1]), ((2, 4), [1, 2, 2, 2, 1])]
)
def test_diagonals_go_from_corner_to_corner(grid: tuple[int, int], sizes: list[int]) -> None:
    rounds = diagonals(grid)
    assert [rounds.count(r) for r in range(len(sizes))] == sizes
    for place, r in enumerate(rounds):
        assert r == place // grid[1] + place % grid[1]


@pytest.mark.parametrize(
    ("rounds", "sizes"), [(12, [3, 3, 4, 5, 6, 7, 6, 5, 4, 3, 2, 1]), (9, [6, 4, 5, 6, 7, 6, 5, 4, 6])]
)
def test_the_fewest_are_put_together(rounds: int, sizes: list[int]) -> None:
    found = diagonals((7, 7), rounds)
    assert [found.count(r) for r in range(rounds)] == sizes


@pytest.mark.parametrize("rounds", range(1, 15))
def test_rounds_keep_the_order_of_diagonals_and_leave_none_out(rounds: int) -> None:
    found, all_of_them = diagonals((7, 7), rounds), diagonals((7, 7))
    assert sorted(set(found)) == list(range(min(rounds, 13)))
    assert all(a <= b for (_, a), (_, b) in pairwise(sorted(zip(all_of_them, found, strict=True))))


def test_a_single_column_is_read_word_by_word() -> None:
    assert diagonals((5, 1)) == list(range(5))


# ------------------------------------------------------------------------------------------------------- what is read


@kernels
@each
def test_a_word_s_logits_are_made_of_earlier_rounds_and_of_all_of_them(
    options: dict[str, Any], kernels: native.Kernels
) -> None:
    """Bit for bit: what stands in a round changes nothing in it and before, and each word of it something later."""
    network, (x, level, cond) = randomised(net(**options)), inputs(2)
    turn = torch.tensor(network.plan)
    with native.chosen(kernels):
        plain = network(x, level, cond)
        for j in range(LENGTH):
            other = x.clone()
            other[:, j] = (x[:, j] + 1) % VOCAB
            changed = (network(other, level, cond) != plain).any(-1)
            assert not bool(changed[:, turn <= turn[j]].any())
            assert turn[j] == turn.max() or bool(changed.any(1).all())


def test_every_round_sees_the_source_and_the_label_and_none_the_level() -> None:
    network, (x, level, cond) = randomised(net()), inputs()
    plain = network(x, level, cond)
    assert torch.equal(network(x, 1 - level, cond), plain)
    for name, changed in (("source", (cond["source"] + 1) % SOURCE_VOCAB), ("label", (cond["label"] + 1) % CLASSES)):
        assert bool((network(x, level, {**cond, name: changed}) != plain).any(-1).all())
    nulls = {"label": torch.full((3,), CLASSES), "source": torch.full((3, SOURCE_LENGTH), SOURCE_VOCAB)}
    assert torch.equal(network(x, level), network(x, level, nulls))


@kernels
@pytest.mark.parametrize("count", [3, 40])
@each
def test_read_round_by_round_is_read_at_once(options: dict[str, Any], count: int, kernels: native.Kernels) -> None:
    """Few and many: attention is computed in two ways."""
    network, (x, level, cond) = randomised(net(**options)), inputs(count)
    with native.chosen(kernels), torch.no_grad():
        for given in (cond, None):
            found, memories = read_by_rounds(network, x, given)
            torch.testing.assert_close(found, network(x, level, given), rtol=1e-5, atol=1e-5)
    assert [memory.count - network.source_length for memory in memories] == [
        sum(r <= last for r in network.plan) for last in range(max(network.plan) + 1)
    ]


def test_a_memory_of_rounds_is_a_value() -> None:
    """Two ways to go on from the same round, one after the other and again, do not disturb each other."""
    network, (x, _, cond) = randomised(net()), inputs()
    hidden = x.masked_fill(torch.tensor(network.plan) >= 1, VOCAB)
    other = torch.where(hidden == VOCAB, hidden, (hidden + 1) % VOCAB)
    _, start = network.reading(torch.full_like(x, VOCAB), cond)
    first, after = network.reading(hidden, cond, start)
    second, _ = network.reading(other, cond, start)
    assert not torch.equal(first, second)
    assert torch.equal(network.reading(hidden, cond, start)[0], first)
    assert torch.equal(network.reading(hidden, cond, after)[0], network.reading(hidden, cond, after)[0])


def test_there_is_no_round_after_the_last() -> None:
    network, (x, _, cond) = randomised(net()), inputs()
    _, memories = read_by_rounds(network, x, cond)
    with pytest.raises(InputError, match=r"all 6 rounds were read"):
        network.reading(x, cond, memories[-1])


# ------------------------------------------------------------------------------------------------------- what stands around


def around(before: int = 0) -> Around:
    """With weights drawn at random."""
    module = Around(5, GRID, torch.tensor(diagonals(GRID)).argsort(stable=True), before)
    with torch.no_grad():
        module.weights.weight.normal_(generator=torch.Generator().manual_seed(0))
    return module


@pytest.mark.parametrize("before", [0, 2])
def test_each_place_gets_those_of_its_diagonal_and_before_weighed(before: int) -> None:
    module, order = around(before), torch.tensor(diagonals(GRID)).argsort(stable=True).tolist()
    x = torch.randn(2, before + LENGTH, 5, generator=torch.Generator().manual_seed(1))
    expected = x.clone()
    for i, place in enumerate(order):
        for j, other in enumerate(order):
            step = other // GRID[1] - place // GRID[1], other % GRID[1] - place % GRID[1]
            if step in READ:
                expected[:, before + i] += x[:, before + j] * module.weights.weight[READ.index(step)]
    torch.testing.assert_close(module(x), expected)
    assert all(down + right <= 0 for down, right in READ) and len(READ) == 6


def test_untrained_what_stands_around_is_not_heard() -> None:
    module, x = Around(5, GRID, torch.arange(LENGTH)), torch.randn(2, LENGTH, 5)
    assert torch.equal(module(x), x)


# ------------------------------------------------------------------------------------------------------- as every network


@each
def test_an_untrained_network_believes_in_all_words_alike(options: dict[str, Any]) -> None:
    logits = net(**options)(*inputs())
    assert logits.shape == (3, LENGTH, VOCAB) and not bool(logits.any())


@each
def test_gradients_reach_every_parameter_and_training_moves_it(options: dict[str, Any]) -> None:
    network = randomised(net(**options))
    network(*inputs(8)).square().sum().backward()
    assert [name for name, p in parameters(network) if p.grad is None or not bool(p.grad.any())] == []
    network = net(**options)
    before = {name: p.detach().clone() for name, p in parameters(network)}
    optimiser = torch.optim.Adam(network.parameters(), 0.01)
    x, level, cond = inputs(8)
    for step in range(4):
        logits = network(x, level, cond if step % 2 else None).flatten(0, 1)
        torch.nn.functional.cross_entropy(logits, x.flatten() % VOCAB).backward()
        optimiser.step()
        optimiser.zero_grad()
    assert [name for name, p in parameters(network) if torch.equal(p, before[name])] == []


def test_kernels_and_torch_agree() -> None:
    network, given, found = randomised(net(factored=True)), inputs(), []
    for kind in ("native", "torch"):
        network.zero_grad()
        with native.chosen(kind):
            out = network(*given)
            out.square().sum().backward()
        found.append([out.detach(), *(p.grad for p in network.parameters())])
    for own, theirs in zip(*found, strict=True):
        assert own is not None and theirs is not None
        torch.testing.assert_close(own, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))


def test_it_runs_in_bf16() -> None:
    network, (x, level, cond) = randomised(net(width=64, head_width=16)), inputs()
    exact = network(x, level, cond)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        rough = network(x, level, cond)
        read, memories = read_by_rounds(network, x, cond)
    assert rough.dtype == memories[0].rooms.dtype == torch.bfloat16
    assert 0 < (rough - exact).norm() < 0.1 * exact.norm() and (read - exact).norm() < 0.1 * exact.norm()


def test_a_sample_s_output_does_not_depend_on_its_batch() -> None:
    network, (x, level, cond) = randomised(net()), inputs(9)
    whole = network(x, level, cond)
    for rows in (slice(0, 1), slice(4, 5), slice(3, 9)):
        part = network(x[rows], level[rows], {name: value[rows] for name, value in cond.items()})
        torch.testing.assert_close(part, whole[rows], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"vocab": 1, "levels": ()}, r"network\.vocab is 1; it must be at least 2 tokens"),
        ({"grid": (12,)}, r"network\.grid is \(12,\); it must be \(h, w\) of a picture's 12 words"),
        ({"grid": (3, 3)}, r"network\.grid is \(3, 3\)"),
        ({"rounds": -1}, r"network\.rounds is -1; it must be 0, one for each diagonal, or up to 6"),
        ({"rounds": 7}, r"network\.rounds is 7; it must be 0, one for each diagonal, or up to 6, those there are"),
        ({"levels": (5,), "factored": True}, r"network\.factored is True"),
        ({"width": 20}, r"network\.width is 20; it must be a multiple of network\.head_width, 8"),
    ],
)
def test_impossible_networks_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        net(**options)


def test_other_words_than_a_picture_s_are_refused() -> None:
    with pytest.raises(InputError, match=r"there are 11 words, and the network was made for a picture's 12"):
        net()(*inputs(3, LENGTH - 1))


def test_a_recipe_builds_it_of_pictures_words_alone() -> None:
    recipe = check({"data": {"kind": "digits"}, "network": {"kind": "rounds", **SMALL}})
    network = recipe.build("network", **DATA)
    assert [p.shape for p in network.parameters()] == [p.shape for p in net().parameters()]
    with pytest.raises(RecipeError, match=r"network\.kind 'rounds' is for other data: it needs to know grid"):
        recipe.build("network", vocab=5, length=12)
