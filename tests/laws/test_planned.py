"""Masks that go in a plan: what is hidden when, which law the rounds have, and that a memory changes nothing."""

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor
from toys import F64
from words import Forgetful, Looker, Many, exact, last, law_of, table, total_variation

from carrara.analytic import TableDenoiser
from carrara.backends import BACKENDS, eager, running
from carrara.conditions.label import LabelCondition
from carrara.editing import Edit
from carrara.errors import InputError, RecipeError
from carrara.guidance import Guided
from carrara.masking import Masked
from carrara.networks.rounds import RoundTransformer
from carrara.planning import Planned
from carrara.processes import PLANNED
from carrara.rng import Streams
from carrara.samplers import SAMPLERS, ancestral, cached, left_to_right, over, planned
from carrara.samplers.left_to_right import Next
from carrara.sampling import Sampling
from carrara.schedules import Flow, MaskCosine, Schedule
from carrara.times import grid
from carrara.token_likelihood import code_length, token_bound, token_log_likelihood
from carrara.tokens import MaskedDenoiser, PlannedDenoiser, autoregressive
from carrara.tokens import planned as of_network

DRAWS, NEAR, SEEDS = 200_000, 0.006, [3, 1, 4, 15]
PLANS = [[0, 1, 2], [0, 1, 1], [1, 0, 1], [0, 0, 0]]
"""Of three tokens."""
every_plan = pytest.mark.parametrize("rounds", PLANS, ids=str)


def of_table(rounds: list[int], schedule: Schedule | None = None) -> TableDenoiser:
    return TableDenoiser(table(3), Planned(rounds, 3, schedule))


def law_of_rounds(rounds: list[int]) -> Tensor:
    """Π over rounds of the tokens of each by themselves, given earlier rounds, of the table's law: summed up exactly."""
    p, x = table(3).p, torch.tensor(list(product(range(3), repeat=3)))
    law = torch.ones(27, dtype=F64)
    for i, r in enumerate(rounds):
        hidden = torch.tensor([other >= r for other in rounds])
        belief = TableDenoiser(table(3), Masked(Flow(), 3))(x.masked_fill(hidden, 3), torch.ones((), dtype=F64))
        law *= belief.logp[:, i].exp().gather(1, x[:, i : i + 1])[:, 0]
    return law.reshape(p.shape)


def small(vocab: int = 12, classes: int = 3, **options: Any) -> PlannedDenoiser:
    """A network of 3 × 4 words, with weights drawn at random."""
    torch.manual_seed(0)
    network = RoundTransformer(vocab, 12, (3, 4), classes, **{"width": 16, "head_width": 8, "depth": 2, **options})
    for p in network.parameters():
        torch.nn.init.normal_(p, std=0.4)
    return of_network(network, vocab).eval()


# ------------------------------------------------------------------------------------------------------- the process


@pytest.mark.parametrize("schedule", [Flow(), MaskCosine()])
def test_whole_rounds_are_hidden_the_last_first_and_nothing_is_drawn(schedule: Schedule) -> None:
    process = Planned([0, 1, 2, 3, 1], 9, schedule)
    x0 = torch.arange(10).reshape(2, 5) % 9
    for left, hidden in enumerate(([], [3], [2, 3], [1, 2, 3, 4], [0, 1, 2, 3, 4])):
        t = process.when(torch.tensor(left / 4))
        x_t, where = process.corrupt(x0, t, None)  # type: ignore[arg-type]
        assert where[0].nonzero()[:, 0].tolist() == hidden and torch.equal(where[0], where[1])
        assert torch.equal(x_t == process.mask, where) and torch.equal(x_t[~where], x0[~where])
    between = process.when(torch.tensor([0.1, 0.6]))
    assert process.corrupt(x0, between, None)[1].sum(1).tolist() == [1, 4]  # type: ignore[arg-type]
    assert [places.tolist() for places in process.rounds] == [[0], [1, 4], [2], [3]]


@pytest.mark.parametrize(
    ("rounds", "said"),
    [
        ([], "they go from 0 on"),
        ([1, 2], r"the rounds are \[1, 2\]"),
        ([0, 2], "none left out"),
        ([0, -1], "none left"),
        ([0, 1.0], "each token has one"),
    ],
)
def test_rounds_that_leave_one_out_are_refused(rounds: list[int], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Planned(rounds, 5)


def test_a_plan_is_of_its_own_length() -> None:
    with pytest.raises(InputError, match="there are 4 tokens, and the plan is of 3"):
        Planned([0, 1, 1], 5).corrupt(torch.zeros(1, 4, dtype=torch.int64), torch.tensor(0.5), Streams([0]))


# ------------------------------------------------------------------------------------------------------- the law


@every_plan
@pytest.mark.parametrize("schedule", [Flow(), MaskCosine()])
@pytest.mark.parametrize("walk", [planned, ancestral, cached])
def test_samples_have_the_law_of_the_rounds(walk: Any, rounds: list[int], schedule: Schedule) -> None:
    """In as many equal steps of the share as there are rounds the process's own walk has it too, whatever the schedule."""
    denoiser, rng = of_table(rounds, schedule), Many(DRAWS)
    share = torch.linspace(1, 0, max(rounds) + 2, dtype=F64)
    steps = walk(denoiser, torch.full((DRAWS, 3), 3), denoiser.process.when(share), rng=rng)
    assert total_variation(law_of(last(steps).x, (3, 3, 3)), law_of_rounds(rounds)) < NEAR


def test_one_token_a_round_is_the_law_itself_and_one_round_knows_of_nothing() -> None:
    p = table(3).p
    torch.testing.assert_close(law_of_rounds([0, 1, 2]), p)
    alone = [p.sum([j for j in range(3) if j != i]) for i in range(3)]
    torch.testing.assert_close(law_of_rounds([0, 0, 0]), torch.einsum("i,j,k->ijk", *alone))
    lost = [total_variation(law_of_rounds(rounds), p) for rounds in ([0, 1, 2], [0, 1, 1], [0, 0, 0])]
    assert lost[0] < 1e-12 < 5 * NEAR < lost[1] < lost[2]


def test_line_by_line_it_is_left_to_right() -> None:
    """The same tokens from the same streams, of a denoiser without memory."""
    walks = [
        walk(TableDenoiser(table(3), process), torch.full((4, 3), 3), grid("uniform", 1, Flow()), rng=Streams(SEEDS))
        for walk, process in ((planned, Planned([0, 1, 2], 3)), (left_to_right, Masked(Flow(), 3)))
    ]
    for ours, theirs in zip(*walks, strict=True):
        assert torch.equal(ours.x, theirs.x) and ours.t == theirs.t and ours.s == theirs.s


def entropy(p: Tensor, kept: list[int]) -> float:
    """Of the tokens `kept`, in nats."""
    q = p.sum([i for i in range(p.ndim) if i not in kept]) if len(kept) < p.ndim else p
    return -float((q * q.log()).sum()) if kept else 0.0


@every_plan
def test_what_rounds_lose_is_what_their_tokens_say_of_each_other(rounds: list[int]) -> None:
    """The divergence from the data's law is the sum of total correlations, each given earlier rounds: 0 for one token a round."""
    p, q, lost = table(3).p, law_of_rounds(rounds), 0.0
    for r in range(max(rounds) + 1):
        before, here = ([i for i in range(3) if test(rounds[i])] for test in (r.__gt__, r.__eq__))
        given = entropy(p, before)
        lost += sum(entropy(p, [*before, i]) - given for i in here) - (entropy(p, [*before, *here]) - given)
    assert float((p * (p.log() - q.log())).sum()) == pytest.approx(lost, abs=1e-12)
    assert lost > 0.01 if max(rounds) < 2 else abs(lost) < 1e-12


# ------------------------------------------------------------------------------------------------------- the network's


def test_the_likelihood_is_one_of_all_pictures_together() -> None:
    """Every x0 of 2 × 2 words of two kinds: the probabilities add up to 1, whatever the weights."""
    torch.manual_seed(0)
    network = RoundTransformer(2, 4, (2, 2), width=8, head_width=4, depth=1)
    for p in network.parameters():
        torch.nn.init.normal_(p)
    denoiser = of_network(network, 2).eval()
    x0 = torch.tensor(list(product(range(2), repeat=4)))
    logp = token_log_likelihood(denoiser, x0)
    assert float(logp.exp().sum()) == pytest.approx(1, abs=1e-6) and float(logp.std()) > 0.5
    length = code_length(denoiser, x0, None, Streams(range(16)))
    assert torch.equal(length.nats, -logp) and not length.standard_error.any()  # type: ignore[union-attr]
    with pytest.raises(InputError, match="by a plan here, not by chance; token_log_likelihood gives"):
        token_bound(denoiser, x0, None, Streams(range(16)))


def test_the_loss_is_the_chain_rule_over_rounds_and_draws_nothing() -> None:
    denoiser = small()
    x0 = torch.randint(0, 12, (6, 12), generator=torch.Generator().manual_seed(0))
    total = torch.zeros(6)
    for r, places in enumerate(denoiser.process.rounds):
        x_t = x0.masked_fill(torch.tensor(denoiser.network.plan) >= r, 12)
        logp = denoiser(x_t, torch.ones((), dtype=F64)).logp[:, places]
        total -= logp.gather(-1, x0[:, places, None])[..., 0].sum(1)
    loss = denoiser.loss(x0, torch.rand(6, dtype=F64), None, None)  # type: ignore[arg-type]
    torch.testing.assert_close(loss, total / 12)
    torch.testing.assert_close(-token_log_likelihood(denoiser, x0).float(), total)


LABELS, NULL = {"label": torch.tensor([0, 1, 2, 0])}, {"label": torch.full((4,), 3)}


@pytest.mark.parametrize("scale", [1.0, 2.5, 0.0])
@pytest.mark.parametrize("options", [{}, {"temperature": 0.0}, {"top_k": 2}, {"top_p": 0.6, "temperature": 1.3}])
def test_with_memory_and_without_it_is_the_same(scale: float, options: dict[str, Any]) -> None:
    """Guided too: the beliefs are equal to rounding, and the tokens the same."""
    denoiser, beliefs = small(), []
    for each in (Forgetful(denoiser), denoiser):
        walk = planned(
            Guided(each, scale, NULL),
            torch.full((4, 12), 12),
            grid("uniform", 1, Flow()),
            LABELS,
            rng=Streams(SEEDS),
            **options,
        )
        beliefs.append([(step.belief, step.x) for step in walk])
    for places, ((whole, x), (here, y)) in zip(denoiser.process.rounds, zip(*beliefs, strict=True), strict=True):
        torch.testing.assert_close(whole.logp[:, places], here.here.logp, rtol=1e-4, atol=1e-5)
        assert torch.equal(x, y) and here.preview.shape == y.shape


def test_guidance_that_does_not_always_act_forgets() -> None:
    assert Guided(small(), 3.0, NULL, interval=(0.0, 0.55)).reading is None
    assert Guided(small(), 3.0, NULL).reading is not None and Guided(small(), 1.0, NULL).reading is not None


def test_each_round_is_read_once_and_what_is_given_stays() -> None:
    """Words of later rounds that are given are read in their turn, under guidance and with what is kept."""
    denoiser, read = small(), []
    own = denoiser.network.reading
    denoiser.network.reading = lambda x, cond, memory: (read.append(len(x)), own(x, cond, memory))[1]
    x0 = torch.randint(0, 12, (4, 12), generator=torch.Generator().manual_seed(1))
    made = torch.rand(4, 12, generator=torch.Generator().manual_seed(2)) < 0.6
    condition = LabelCondition(("a", "b", "c"))
    cond = condition.ask(4, label=[0, 1, 2, 0])
    steps = list(
        Sampling("planned", 5, guidance_scale=2.0).walk(denoiser, condition, (12,), cond, SEEDS, Edit(x0, made))
    )
    assert read == [8] * 6 and all(isinstance(step.belief, Next) for step in steps)
    assert len(steps) == 6 and not (steps[-1].x == 12).any() and not torch.equal(steps[-1].x, x0)
    assert all(torch.equal(step.x[~made], x0[~made]) for step in steps)
    assert all(torch.equal(step.belief.preview[~made], x0[~made]) for step in steps)


@pytest.mark.parametrize("remembers", [True, False])
def test_rounds_of_which_nothing_is_hidden_make_no_step(remembers: bool) -> None:
    """A last part that is to be made is made of what shows; without a memory nobody is asked where there is nothing to say."""
    whole, x = small(), torch.randint(0, 12, (2, 12), generator=torch.Generator().manual_seed(3))
    x[:, torch.tensor(whole.network.plan) == 3] = 12
    denoiser = whole if remembers else Forgetful(whole)
    steps = list(
        planned(denoiser, x, grid("uniform", 1, Flow()), {"label": torch.tensor([0, 1])}, rng=Streams([1, 2]))
    )
    assert [step.index for step in steps] == [0] and steps[0].s == 0 < steps[0].t
    assert not (steps[0].x == 12).any() and torch.equal(steps[0].x[x != 12], x[x != 12])
    own = list(planned(whole, x, grid("uniform", 1, Flow()), {"label": torch.tensor([0, 1])}, rng=Streams([1, 2])))
    assert torch.equal(own[0].x, steps[0].x)
    assert remembers or denoiser.asked == 1


def test_in_bf16_rounds_are_read_in_bf16_but_where_float32_is_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend computes what is remembered as it computes everything else, where it has something for it."""
    denoiser, x = small(width=64, head_width=16), torch.full((2, 12), 12)
    exact_logits, _ = denoiser.reading(x, None, None)  # type: ignore[misc]
    with torch.no_grad():
        denoiser.backend = running("torch-bf16", BACKENDS, denoiser, (12,), LabelCondition(("a", "b", "c")))
        assert torch.equal(denoiser.reading(x, None, None)[0], exact_logits)  # type: ignore[misc]
        monkeypatch.setattr(eager, "SOONER_IN_FLOAT32", ())
        rough, memory = denoiser.reading(x, None, None)  # type: ignore[misc]
        assert memory.rooms.dtype == torch.bfloat16 and rough.dtype == torch.float32
        assert 0 < (rough - exact_logits).norm() < 0.05 * exact_logits.norm()
        denoiser.backend = lambda x, level, cond=None: torch.zeros(*x.shape, 12)
        assert torch.equal(denoiser.reading(x, None, None)[0], exact_logits)  # type: ignore[misc]


# ------------------------------------------------------------------------------------------------------- who goes with whom


def test_a_plan_needs_a_network_of_rounds_and_that_network_a_plan() -> None:
    with pytest.raises(RecipeError, match="by the plan of its network, and Looker has none; choose network rounds"):
        of_network(Looker(), 5)
    with pytest.raises(InputError, match="this network knows one plan; choose process planned, or network tokens"):
        MaskedDenoiser(small().network, Masked(Flow(), 12))
    with pytest.raises(
        InputError, match="this network knows a plan; choose process planned, or network tokens with causal: true"
    ):
        autoregressive(small().network, 12)
    with pytest.raises(RecipeError, match="the recipe's codec gives none"):
        of_network(small().network, None)


def test_planned_refuses_a_process_without_a_plan() -> None:
    walk = planned(exact(3), torch.full((1, 3), 3), grid("uniform", 1, Flow()), rng=Streams([0]))
    with pytest.raises(InputError, match="walks tokens by a plan, and the process Masked is one of tokens"):
        next(walk)


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name not in over(PLANNED)])
def test_what_does_not_walk_a_plan_is_said_before_anything_is_computed(name: str) -> None:
    with pytest.raises(InputError, match="makes tokens by a plan; choose one of ancestral, cached, planned"):
        Sampling(name).check(small(), LabelCondition(("a", "b", "c")))


def test_another_plan_than_the_network_s_is_refused() -> None:
    with pytest.raises(InputError, match=r"the network's plan is \[0, 1, .*, and the process's is \[5, 4"):
        PlannedDenoiser(small().network, Planned([5 - r for r in small().network.plan], 12))


def test_chance_has_no_say_in_a_plan() -> None:
    half = torch.tensor(0.5, dtype=F64)
    for ask in (lambda: Planned([0, 1], 5).rate(half), lambda: Planned([0, 1], 5).reveal(half, 0 * half)):
        with pytest.raises(InputError, match="by a plan here, not by chance; ask `left`"):
            ask()


def test_a_mask_has_no_posterior_but_a_draw() -> None:
    denoiser = of_table([0, 1, 1])
    x, t = torch.full((1, 3), 3), torch.ones((), dtype=F64)
    with pytest.raises(InputError, match=r"eta is 0\.5; what a mask adds is a draw or nothing"):
        denoiser.process.step(x, denoiser(x, t), t, 0 * t, Streams([0]), eta=0.5)
