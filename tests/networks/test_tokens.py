"""The transformer over tokens: what its logits depend on, how it reads on from what it remembers, and what it refuses."""

import copy
from typing import Any, TypeVar

import pytest
import torch
from test_recompute import bytes_kept_by
from torch import Tensor, nn

from carrara import native
from carrara.errors import InputError, RecipeError
from carrara.networks import ops
from carrara.networks.recompute import recompute
from carrara.networks.sequences import mixed, places
from carrara.networks.tokens import TokenTransformer
from carrara.networks.words import Parts, parts
from carrara.recipe import check

VOCAB, LENGTH, CLASSES, SOURCE_VOCAB, SOURCE_LENGTH = 11, 9, 3, 5, 4
DATA = {
    "vocab": VOCAB,
    "length": LENGTH,
    "classes": CLASSES,
    "source_vocab": SOURCE_VOCAB,
    "source_length": SOURCE_LENGTH,
}
SMALL = {"width": 16, "head_width": 8, "depth": 2}


def net(**options: Any) -> TokenTransformer:
    torch.manual_seed(0)
    return TokenTransformer(**{**DATA, **SMALL, **options})


N = TypeVar("N", bound=nn.Module)


def randomised(network: N) -> N:
    """The network with every parameter drawn at random, in evaluation mode."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return network.eval()


def inputs(count: int = 3, length: int = LENGTH, seed: int = 1) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    draw = torch.Generator().manual_seed(seed)
    x = torch.randint(0, VOCAB + 1, (count, length), generator=draw)
    source = torch.randint(0, SOURCE_VOCAB, (count, SOURCE_LENGTH), generator=draw)
    return x, torch.linspace(0, 1, count), {"label": torch.arange(count) % CLASSES, "source": source}


both = pytest.mark.parametrize("causal", [False, True], ids=["both sides", "causal"])
kernels = pytest.mark.parametrize("kernels", ["native", "torch"])
OPTIONS: list[dict[str, Any]] = [
    {},
    {"classes": 0, "source_vocab": 0, "source_length": 0},
    {"classes": 0, "told_level": True},
    {"tied": True, "told_level": True},
    {"placed": True},
]


@both
@pytest.mark.parametrize("options", OPTIONS)
def test_an_untrained_network_believes_in_all_tokens_alike(causal: bool, options: dict[str, Any]) -> None:
    for length in (1, LENGTH):
        logits = net(causal=causal, **options)(*inputs(length=length))
        assert logits.shape == (3, length, VOCAB)
        assert not bool(logits.any())


@kernels
@pytest.mark.parametrize("n", [9, 70])
def test_each_output_sees_every_token(n: int, kernels: native.Kernels) -> None:
    network, (x, level, cond) = randomised(net(length=n)), inputs(1, n)
    with native.chosen(kernels):
        plain = network(x, level, cond)
        for j in (0, n // 2, n - 1):
            other = x.clone()
            other[:, j] = (x[:, j] + 1) % VOCAB
            assert bool((network(other, level, cond) != plain).any(-1).all())


@kernels
@pytest.mark.parametrize("sourced", [True, False])
@pytest.mark.parametrize("n", [9, 70])
def test_a_causal_output_is_made_of_what_comes_before(n: int, sourced: bool, kernels: native.Kernels) -> None:
    """Bit for bit: whatever stands at j and later, outputs up to j are the same, and the next one is not."""
    options: dict[str, Any] = {} if sourced else {"source_vocab": 0, "source_length": 0}
    network, (x, level, cond) = randomised(net(length=n, causal=True, **options)), inputs(2, n)
    with native.chosen(kernels):
        plain = network(x, level, cond)
        for j in (0, 1, n // 2, n - 1):
            other = x.clone()
            other[:, j:] = (x[:, j:] + 1) % (VOCAB + 1)
            changed = (network(other, level, cond) != plain).any(-1)
            assert not bool(changed[:, : j + 1].any()) and bool(changed[:, j + 1 :].all())


@both
def test_every_output_sees_the_source_and_the_label(causal: bool) -> None:
    network, (x, level, cond) = randomised(net(causal=causal)), inputs()
    plain = network(x, level, cond)
    for j in range(SOURCE_LENGTH):
        source = cond["source"].clone()
        source[1, j] = (source[1, j] + 1) % SOURCE_VOCAB
        changed = (network(x, level, {**cond, "source": source}) != plain).any(-1)
        assert bool(changed[1].all()) and not bool(changed[[0, 2]].any())
    changed = (network(x, level, {**cond, "label": torch.tensor([0, 0, 2])}) != plain).any(-1)
    assert bool(changed[1].all()) and not bool(changed[[0, 2]].any())


@both
def test_no_condition_is_the_null(causal: bool) -> None:
    network, (x, level, cond) = randomised(net(causal=causal)), inputs()
    label, source = torch.full((3,), CLASSES), torch.full((3, SOURCE_LENGTH), SOURCE_VOCAB)
    assert torch.equal(network(x, level), network(x, level, {"label": label, "source": source}))
    assert torch.equal(network(x, level, {"label": cond["label"]}), network(x, level, {**cond, "source": source}))
    assert torch.equal(network(x, level, {"source": cond["source"]}), network(x, level, {**cond, "label": label}))
    assert not torch.equal(network(x, level), network(x, level, cond))
    short = torch.cat([cond["source"][:, :2], source[:, :2]], 1)
    assert torch.equal(network(x, level, {"source": cond["source"][:, :2]}), network(x, level, {"source": short}))


@both
def test_the_null_s_rows_say_nothing_of_others(causal: bool) -> None:
    """What is learnt of the nulls changes nothing where a condition is given, and the other way round."""
    network, (x, level, cond) = randomised(net(causal=causal)), inputs()
    told, untold = network(x, level, cond), network(x, level)
    assert network.label is not None and network.source is not None
    for table in (network.label, network.source):
        with torch.no_grad():
            table.weight[-1] += 1
    assert torch.equal(network(x, level, cond), told) and not torch.equal(network(x, level), untold)
    untold = network(x, level)
    for table in (network.label, network.source):
        with torch.no_grad():
            table.weight[:-1] += 1
    assert torch.equal(network(x, level), untold)


@both
def test_the_level_is_told_where_it_is_asked_for(causal: bool) -> None:
    x, level, cond = inputs()
    for told in (False, True):
        network = randomised(net(causal=causal, told_level=told))
        changed = (network(x, level + torch.tensor([0, 0.1, 0]), cond) != network(x, level, cond)).flatten(1).any(1)
        assert changed.tolist() == [False, told, False]


@pytest.mark.parametrize("head_width", [2, 8, 64])
def test_scores_depend_on_differences_of_places(head_width: int) -> None:
    turn = places(40, head_width)
    q, k = torch.randn(2, 1, head_width, generator=torch.Generator().manual_seed(0)).double()
    scores = ops.turned(q.expand(40, -1), turn.double()) @ ops.turned(k.expand(40, -1), turn.double()).T
    for step in (0, 1, 7):
        diagonal = scores.diagonal(step)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=1e-4, atol=1e-4)
    assert scores[0].std() > 1e-3 * scores.abs().max() and torch.equal(scores[0, 0], (q @ k.T)[0, 0])


def test_places_are_turned_by_their_formula() -> None:
    turn = places(30, 8)
    for place, pair in ((0, 0), (1, 0), (29, 3), (5, 2)):
        angle = torch.tensor(place * 10_000 ** (-2 * pair / 8), dtype=torch.float64)
        expected = [[angle.cos(), angle.cos()], [-angle.sin(), angle.sin()]]
        torch.testing.assert_close(turn[place, :, 2 * pair : 2 * pair + 2], torch.tensor(expected).float())


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("chunks", [[LENGTH], [1] * LENGTH, [2, 4, 3], [1, 8]])
def test_reading_on_is_reading_at_once(chunks: list[int], options: dict[str, Any]) -> None:
    network, (x, _, cond) = randomised(net(causal=True, **options)), inputs()
    whole = network(x, torch.zeros(3), cond)
    read = torch.cat([torch.full((3, 1), VOCAB), x], 1)[:, :LENGTH]
    memory, found = None, []
    for part in read.split(chunks, 1):
        logits, memory = network.following(part, cond, memory)
        assert logits.shape == (3, part.shape[1], VOCAB) and not logits.requires_grad
        found.append(logits)
    torch.testing.assert_close(
        torch.cat(found, 1), whole, rtol=1e-5, atol=1e-5 * max(1, float(whole.detach().abs().max()))
    )


def test_a_memory_is_a_value() -> None:
    """Two ways on from one memory do not meet, and the memory is as it was after both."""
    network, (x, _, cond) = randomised(net(causal=True)), inputs()
    begin = torch.full((3, 1), VOCAB)
    _, start = network.following(begin, cond)
    count = start.count
    first, after_first = network.following(x[:, :2], cond, start)
    second, after_second = network.following((x[:, :2] + 1) % VOCAB, cond, start)
    assert start.count == count and after_first.count == after_second.count == count + 2
    assert not torch.equal(first, second)
    for ids, memory in ((x[:, :2], after_first), ((x[:, :2] + 1) % VOCAB, after_second)):
        again, _ = network.following(x[:, 2:3], cond, memory)
        exact = network(torch.cat([ids, x[:, 2:3], x[:, :1]], 1), torch.zeros(3), cond)[:, 3:]
        torch.testing.assert_close(again, exact, rtol=1e-5, atol=1e-5)
    assert torch.equal(network.following(x[:, :2], cond, start)[0], first)


def test_what_is_no_continuation_is_refused() -> None:
    network, (x, _, cond) = randomised(net(causal=True)), inputs()
    _, memory = network.following(x, cond)
    network.following(x[:, :1], cond, memory)
    with pytest.raises(InputError, match=r"made to read 14 tokens, source and beginning included, and not 15"):
        network.following(x[:, :2], cond, memory)
    with pytest.raises(InputError, match=r"memory is of a batch of 3, and the tokens that follow are of one of 2"):
        network.following(x[:2, :1], {name: value[:2] for name, value in cond.items()}, memory)
    with pytest.raises(InputError, match=r"set network\.causal to true"):
        net().following(x, cond)


@both
@kernels
@pytest.mark.parametrize("n", [9, 40])
def test_a_sample_s_output_does_not_depend_on_its_batch(n: int, kernels: native.Kernels, causal: bool) -> None:
    network, (x, level, cond) = randomised(net(length=n, causal=causal)), inputs(9, n)
    with native.chosen(kernels):
        whole = network(x, level, cond)
        for rows in (slice(0, 1), slice(4, 5), slice(3, 9)):
            part = network(x[rows], level[rows], {name: value[rows] for name, value in cond.items()})
            torch.testing.assert_close(part, whole[rows], rtol=1e-5, atol=1e-5)


@both
@pytest.mark.parametrize("options", OPTIONS)
def test_training_moves_every_parameter_from_where_it_begins(causal: bool, options: dict[str, Any]) -> None:
    network = net(causal=causal, **options)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    optimiser = torch.optim.Adam(network.parameters(), 0.01)
    x, level, cond = inputs(8)
    for step in range(4):
        given = cond if step % 2 else None
        logits = network(x, level, given).flatten(0, 1)
        torch.nn.functional.cross_entropy(logits, x.flatten() % VOCAB).backward()
        optimiser.step()
        optimiser.zero_grad()
    assert [name for name, p in network.named_parameters() if torch.equal(p, before[name])] == []


@both
@pytest.mark.parametrize("options", OPTIONS)
def test_gradients_reach_every_parameter(causal: bool, options: dict[str, Any]) -> None:
    network = randomised(net(causal=causal, **options))
    network(*inputs(8)).square().sum().backward()
    lacking = [name for name, p in network.named_parameters() if p.grad is None or not bool(p.grad.any())]
    assert lacking == []


@both
@pytest.mark.parametrize("n", [9, 70])
def test_kernels_and_torch_agree(n: int, causal: bool) -> None:
    network, given = randomised(net(length=n, causal=causal)), inputs(3, n)
    found = []
    for kernels in ("native", "torch"):
        network.zero_grad()
        with native.chosen(kernels):
            out = network(*given)
            out.square().sum().backward()
        found.append([out.detach(), *(p.grad for p in network.parameters())])
    for own, theirs in zip(*found, strict=True):
        assert own is not None and theirs is not None
        torch.testing.assert_close(own, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))


@both
def test_it_runs_in_bf16(causal: bool) -> None:
    network, given = net(causal=causal, width=64, head_width=16), inputs()
    torch.nn.init.normal_(network.body.modulate.weight, std=0.3)  # type: ignore[union-attr]
    torch.nn.init.normal_(network.leave.weight, std=0.1)  # type: ignore[union-attr]
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(*given)
    exact = network(*given)
    assert rough.dtype == torch.bfloat16 and 0 < (rough - exact).norm() < 0.1 * exact.norm()
    if causal:
        x, _, cond = given
        with torch.autocast("cpu", torch.bfloat16):
            read, memory = network.following(torch.cat([torch.full((3, 1), VOCAB), x[:, :-1]], 1), cond)
        assert memory.rooms.dtype == torch.bfloat16 and (read - exact).norm() < 0.1 * exact.norm()


@both
@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bf16"])
def test_recomputed_gradients_are_the_same_bit_for_bit(bf16: bool, causal: bool) -> None:
    network = randomised(net(causal=causal, dropout=0.2)).train()

    def gradients() -> list[Tensor]:
        network.zero_grad()
        torch.manual_seed(2)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            out = network(*inputs())
        out.float().square().sum().backward()
        return [p.grad.clone() for p in network.parameters() if p.grad is not None]

    plain = gradients()
    recompute(network)
    again = gradients()
    assert len(plain) == len(list(network.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))


def test_less_is_kept_where_blocks_are_recomputed() -> None:
    network, given = net(depth=4, length=64), inputs(4, 64)
    plain = bytes_kept_by(network, given)
    recompute(network)
    assert bytes_kept_by(network, given) < 0.4 * plain


def test_dropout_acts_in_training_alone() -> None:
    network, given = randomised(net(dropout=0.5)), inputs()
    assert torch.equal(network(*given), network(*given))
    network.train()
    assert not torch.equal(network(*given), network(*given))


@both
@pytest.mark.parametrize("options", OPTIONS)
def test_its_weights_are_all_it_is(causal: bool, options: dict[str, Any]) -> None:
    network, given = randomised(net(causal=causal, **options)), inputs()
    other = net(causal=causal, **options)
    other.load_state_dict(network.state_dict())
    assert torch.equal(other.eval()(*given), network(*given))
    assert torch.equal(copy.deepcopy(network)(*given), network(*given))
    assert not any("turn" in name for name in network.state_dict())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"vocab": 1}, r"network\.vocab is 1; it must be at least 2 tokens"),
        ({"length": 0}, r"network\.length is 0; it must be at least 1 token"),
        ({"source_vocab": 0}, r"network\.source_length is 4; it must be 0 where there is no source"),
        ({"source_length": 0}, r"network\.source_length is 0; it must be 0 where there is no source, and only there"),
        ({"source_length": -1}, r"network\.source_length is -1"),
        ({"width": 20}, r"network\.width is 20; it must be a multiple of network\.head_width, 8"),
        ({"width": 0}, r"network\.width is 0"),
        ({"head_width": 5, "width": 20}, r"network\.head_width is 5; it must be even"),
        ({"head_width": 0}, r"network\.head_width is 0"),
        ({"depth": 0}, r"network\.depth is 0; it must be at least 1 block"),
        ({"mlp_ratio": 0.0}, r"network\.mlp_ratio is 0\.0; it must be positive"),
        ({"dropout": 1.0}, r"network\.dropout is 1\.0"),
        ({"neighbours": -1}, r"network\.neighbours is -1; it must be at least 0"),
        ({"neighbours": 2, "causal": True}, r"network\.neighbours is 2; it must be 0 where network\.causal is true"),
    ],
)
def test_impossible_networks_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        net(**options)


@both
def test_ids_and_lengths_that_it_does_not_know_are_refused(causal: bool) -> None:
    network, (x, level, cond) = net(causal=causal), inputs()
    x[:, 0] = 0
    for worst in (-1, VOCAB + 1):
        wrong = x.clone()
        wrong[1, 2] = worst
        with pytest.raises(
            InputError, match=rf"id of a token is {worst}; ids go from 0 to 11, which stands for none"
        ):
            network(wrong, level, cond)
    with pytest.raises(InputError, match=r"id of a token of the source is 7; ids go from 0 to 5"):
        network(x, level, {**cond, "source": torch.full((3, 2), 7)})
    with pytest.raises(InputError, match=r"id of a label is 4; ids go from 0 to 3"):
        network(x, level, {**cond, "label": torch.tensor([0, 4, 0])})
    with pytest.raises(InputError, match=r"there are 10 tokens, and the network was made for 9 at most"):
        network(*inputs(3, LENGTH + 1))
    with pytest.raises(InputError, match=r"the source has 5 tokens, and the network was made for 4 at most"):
        network(x, level, {**cond, "source": torch.zeros(3, 5, dtype=torch.int64)})


def test_a_recipe_builds_it() -> None:
    recipe = check({"data": {"kind": "digits"}, "network": {"kind": "tokens", **SMALL, "causal": True}})
    network = recipe.build("network", **DATA)
    assert [p.shape for p in network.parameters()] == [p.shape for p in net(causal=True).parameters()]
    with pytest.raises(RecipeError, match=r"network\.vocab is an unknown key"):
        check({"data": {"kind": "digits"}, "network": {"kind": "tokens", "vocab": 7}})


@pytest.mark.parametrize("length", [1, 2, 3, 9])
def test_neighbours_are_weighed_by_their_place(length: int) -> None:
    torch.manual_seed(0)
    x, weights = torch.randn(2, length, 6), torch.randn(4, 6)
    expected = torch.zeros_like(x)
    for i in range(length):
        for weight, away in zip(weights, (-2, -1, 1, 2), strict=True):
            if 0 <= i + away < length:
                expected[:, i] += weight * x[:, i + away]
    torch.testing.assert_close(mixed(x, weights), expected)


@pytest.mark.parametrize("length", [1, 5, LENGTH])
def test_a_network_with_neighbours_learns_all_of_itself_and_its_batch_changes_nothing(length: int) -> None:
    network = randomised(net(neighbours=2))
    x, level, cond = inputs(3, length)
    out = network(x, level, cond)
    alone = network(x[:1], level[:1], {name: value[:1] for name, value in cond.items()})
    torch.testing.assert_close(out[:1], alone, rtol=1e-5, atol=1e-5)
    out.square().sum().backward()
    assert network.beside is not None
    heard = network.beside.weight.grad
    assert heard is not None
    assert bool(heard.any()) == (length > 1)


def test_neighbours_are_heard_before_any_block_is() -> None:
    """Gates begin as nothing: without neighbours a place says what its own token says, however the rest changes."""
    for neighbours, reach in ((0, 0), (2, 2)):
        network = net(neighbours=neighbours)
        torch.nn.init.normal_(network.leave.weight)
        x, level, cond = inputs(1, LENGTH)
        plain = network(x, level, cond)
        other = x.clone()
        other[:, 4] = (x[:, 4] + 1) % VOCAB
        changed = (network(other, level, cond) != plain).any(-1)[0]
        assert changed.nonzero().flatten().tolist() == list(range(4 - reach, 5 + reach))


def test_where_nothing_is_seen_places_differ_only_if_they_have_vectors_of_their_own() -> None:
    """All masks: turned by distances alone, each place attends to the same, and a picture's corner is its middle."""
    hidden = torch.full((1, LENGTH), VOCAB)
    bare = {"classes": 0, "source_vocab": 0, "source_length": 0}
    for placed in (False, True):
        logits = randomised(net(placed=placed, **bare))(hidden, torch.ones(1))
        alike = torch.isclose(logits, logits[:, :1]).all(-1)[0]
        assert alike.tolist() == [True] + [not placed] * (LENGTH - 1)


@pytest.mark.parametrize("parts", [[1] * (LENGTH + 1), [3, 1, 6], [LENGTH + 1]])
def test_places_are_the_same_read_on_from_memory(parts: list[int]) -> None:
    network = randomised(net(causal=True, placed=True))
    x, level, cond = inputs(2)
    read, memory, said = torch.nn.functional.pad(x, (1, 0), value=VOCAB).split(parts, 1), None, []
    for part in read:
        logits, memory = network.following(part, cond, memory)
        said.append(logits)
    torch.testing.assert_close(torch.cat(said, 1)[:, :LENGTH], network(x, 0 * level, cond), rtol=1e-5, atol=1e-5)


LEVELS = (2, 3, 2)


def factored(**options: Any) -> TokenTransformer:
    return net(vocab=12, levels=LEVELS, factored=True, classes=0, source_vocab=0, source_length=0, **options)


def test_words_are_numbered_through_all_their_parts() -> None:
    found = parts(LEVELS).tolist()
    assert found[:5] == [[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 2, 0]] and found[6] == [0, 0, 1]
    words = Parts(LEVELS, 12, 5)
    start = torch.tensor([0, 2, 5])
    expected = [words.vectors(torch.tensor(of_word) + start).sum(0) for of_word in found]
    torch.testing.assert_close(words.table(), torch.stack(expected))
    torch.testing.assert_close(words(torch.arange(13)), torch.cat([words.table(), torch.zeros(1, 5)]))


@both
def test_what_is_learnt_of_a_part_is_known_of_every_word_that_has_it(causal: bool) -> None:
    """After one word is learnt, those that share more of its parts are likelier, though none of them was seen."""
    network = factored(causal=causal)
    assert not bool(network(torch.full((1, 3), 12), torch.ones(1)).any())
    optimiser = torch.optim.Adam(network.parameters(), 0.01)
    hidden, word = torch.full((4, 3), 12), 7
    for _ in range(30):
        logits = network(hidden, torch.ones(4))
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.full((12,), word)).backward()
        optimiser.step()
        optimiser.zero_grad()
    chance = network(hidden, torch.ones(4)).detach()[0, 0].softmax(-1)
    alike = (parts(LEVELS) == parts(LEVELS)[word]).sum(1)
    means = [float(chance[alike == count].mean()) for count in range(4)]
    assert means == sorted(means) and means[2] > 2 * means[0]


def test_words_without_parts_have_none_to_share() -> None:
    for options, words in (
        ({}, r"network\.factored is True; it must be false where words are not made of parts"),
        ({"levels": (2, 3)}, r"network\.factored is True; it must be false where words are not made of parts"),
        ({"levels": (11,), "tied": True}, r"network\.factored is True; it must be false where network\.tied is true"),
    ):
        with pytest.raises(InputError, match=words):
            net(factored=True, **options)
