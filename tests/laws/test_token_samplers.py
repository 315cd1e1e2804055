"""The samplers of tokens, where the law of the data is a table and so every answer is known."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from toys import F64, measured_order
from words import (
    SURVIVAL_CASES,
    Forgetful,
    Looker,
    Many,
    Reader,
    exact,
    last,
    law_of,
    table,
    total_variation,
    walked_law,
)

from carrara.conditions.label import LabelCondition, NoCondition
from carrara.editing import Edit
from carrara.errors import InputError
from carrara.guidance import Guided
from carrara.masking import Masked
from carrara.planning import Planned
from carrara.processes import NUMBERS, ORDERED, PLANNED, TOKENS
from carrara.rng import Streams
from carrara.samplers import SAMPLERS, ancestral, cached, confidence, first_hitting, heun, left_to_right, over
from carrara.sampling import Sampling
from carrara.schedules import Flow, MaskCosine
from carrara.times import grid
from carrara.tokens import AutoregressiveDenoiser, MaskedDenoiser

OF_TOKENS = over(TOKENS) | over(PLANNED)
each_sampler = pytest.mark.parametrize("name", OF_TOKENS)
each_schedule = pytest.mark.parametrize("schedule", SURVIVAL_CASES.values(), ids=SURVIVAL_CASES)
DRAWS, SEEDS = 200_000, [3, 1, 4, 15]
NEAR = 0.006
"""Total variation of DRAWS draws of 27 sequences from their own law: 0.003 to 0.005."""


def masked(schedule: Any = None, **options: Any) -> MaskedDenoiser:
    return MaskedDenoiser(Looker(**options), Masked(schedule or Flow(), 5)).eval()


def of(name: str, length: int, schedule: Any = None) -> MaskedDenoiser:
    """A denoiser of so many tokens that the sampler walks: `planned` needs a plan."""
    if name != "planned":
        return masked(schedule)
    return MaskedDenoiser(Looker(), Planned([i % 3 for i in range(length)], 5, schedule)).eval()


def autoregressive() -> AutoregressiveDenoiser:
    return AutoregressiveDenoiser(Reader(), Masked(Flow(), 5)).eval()


def drawn_law(walk: Any, denoiser: Any, steps: int) -> Tensor:
    """The law of many samples."""
    rng, length = Many(DRAWS), denoiser.table.length
    times = grid("uniform", steps, denoiser.process.schedule)
    x = denoiser.process.prior((length,), rng)
    return law_of(last(walk(denoiser, x, times, rng=rng)).x, denoiser.table.p.shape)


# ------------------------------------------------------------------------------------------------------- their laws


@each_schedule
@pytest.mark.parametrize("length", [2, 3])
def test_the_law_converges_with_the_steps_at_order_1(schedule: Any, length: int) -> None:
    """What is wrong is that tokens which show in one step know nothing of each other: a share of 1 / n of all pairs."""
    denoiser = exact(length, schedule)

    def error(n: int) -> float:
        return total_variation(walked_law(denoiser, grid("uniform", n, schedule)), denoiser.table.p)

    assert error(1) > 0.1
    assert 0.9 < measured_order(error, (16, 32, 64)) < 1.1


@pytest.mark.parametrize("length", [2, 3])
def test_one_step_draws_each_token_alone(length: int) -> None:
    denoiser = exact(length)
    alone = torch.ones((), dtype=F64)
    for i in range(length):
        alone = alone[..., None] * denoiser.table.p.sum([j for j in range(length) if j != i])
    torch.testing.assert_close(walked_law(denoiser, grid("uniform", 1, Flow())), alone)


@pytest.mark.parametrize("walk", [ancestral, cached])
@pytest.mark.parametrize("steps", [1, 4])
def test_samples_have_the_law_that_is_summed_up(walk: Any, steps: int) -> None:
    denoiser = exact(3, MaskCosine())
    law = walked_law(denoiser, grid("uniform", steps, MaskCosine()))
    assert total_variation(drawn_law(walk, denoiser, steps), law) < NEAR
    assert total_variation(law, denoiser.table.p) > 5 * NEAR


@pytest.mark.parametrize("walk", [first_hitting, left_to_right])
@pytest.mark.parametrize("schedule", [Flow(), MaskCosine()])
def test_one_token_a_time_has_no_error(walk: Any, schedule: Any) -> None:
    """Whatever the grid, of which but the beginning is looked at."""
    denoiser = exact(3, schedule)
    assert total_variation(drawn_law(walk, denoiser, 1), denoiser.table.p) < NEAR


def test_first_hitting_shows_tokens_at_the_process_s_own_times() -> None:
    """The time of the first of 3 has the law of the largest of three: sigma(s)³ is uniform. So has the law every further one."""
    schedule = MaskCosine()
    steps = [
        list(
            first_hitting(
                exact(3, schedule), torch.full((1, 3), 3), grid("uniform", 1, schedule), rng=Streams([seed])
            )
        )
        for seed in range(2000)
    ]
    shares = torch.tensor(
        [[float(schedule.sigma(step.s) / schedule.sigma(step.t)) for step in walk] for walk in steps]
    )
    places = torch.tensor([(walk[0].x != 3)[0].tolist() for walk in steps]).double()
    for k, count in enumerate((3, 2)):
        u = (shares[:, k] ** count).sort().values
        assert float((u - (torch.arange(2000) + 0.5) / 2000).abs().max()) < 0.04  # Kolmogorov and Smirnov, 1 in 1000.
    assert all(walk[-1].s == 0 for walk in steps)
    assert float((places.mean(0) - 1 / 3).abs().max()) < 0.04


def test_certainty_alone_shows_the_surest_token_first() -> None:
    """Greedy in both, nothing is random: in each step the surest of all that is hidden is shown."""
    denoiser = exact(3)
    walk = confidence(
        denoiser, torch.full((1, 3), 3), grid("uniform", 3, Flow()), rng=None, temperature=0, choice_temperature=0
    )
    x = torch.full((1, 3), 3)
    for step in walk:
        logp = denoiser(x, step.t).logp[0]
        sure = torch.where(x[0] == 3, logp.max(-1).values, -torch.inf)
        x[0, sure.argmax()] = logp[sure.argmax()].argmax()
        assert torch.equal(step.x, x)


@each_schedule
@pytest.mark.parametrize("remask", [False, True])
def test_as_many_stay_hidden_as_the_schedule_says(schedule: Any, remask: bool) -> None:
    denoiser, rng = masked(schedule), Streams(SEEDS)
    x = torch.full((4, 24), 5)
    x[0, :9] = 2
    made = (x == 5).sum(1)
    for step in confidence(denoiser, x, grid("uniform", 6, schedule), rng=rng, remask=remask):
        wanted = (float(schedule.sigma(step.s)) * made + 1e-9).floor()
        assert torch.equal((step.x == 5).sum(1), wanted.long())


def test_what_was_shown_stays_unless_it_may_be_masked_again() -> None:
    changes = {}
    for remask in (False, True):
        x = torch.full((4, 24), 5)
        changes[remask] = 0
        for step in confidence(masked(), x, grid("uniform", 8, Flow()), rng=Streams(SEEDS), remask=remask):
            changes[remask] += int(((x != 5) & (step.x != x)).sum())
            x = step.x
        assert not (x == 5).any()
    assert changes[False] == 0 < changes[True]


@each_schedule
def test_cached_is_ancestral_with_fewer_evaluations(schedule: Any) -> None:
    """Bit for bit where the network is not told the time, and never asked for a sample more than L times."""
    times = grid("uniform", 40, schedule)
    asked, found = {}, {}
    for name in ("ancestral", "cached"):
        denoiser, rng = masked(schedule), Streams(SEEDS)
        found[name] = [step.x for step in SAMPLERS[name].walk(denoiser, torch.full((4, 6), 5), times, rng=rng)]
        asked[name] = sum(len(x) for x, _ in denoiser.network.seen)
    assert all(torch.equal(a, b) for a, b in zip(found["ancestral"], found["cached"], strict=True))
    assert asked["ancestral"] == 160 and asked["cached"] <= 4 * 7


def test_told_the_time_cached_believes_as_of_the_last_change() -> None:
    denoiser = masked(timed=True)
    list(cached(denoiser, torch.full((1, 6), 5), grid("uniform", 40, Flow()), rng=Streams([0])))
    assert len({float(level) for _, level in denoiser.network.seen}) == len(denoiser.network.seen) > 1


# ------------------------------------------------------------------------------------------------------- left to right


def tokens_of(
    denoiser: Any, walk: Any = left_to_right, cond: Any = None, x: Tensor | None = None, **options: Any
) -> Tensor:
    x = torch.full((4, 10), 5) if x is None else x
    rng = options.pop("rng", Streams(SEEDS[: len(x)]))
    return last(walk(denoiser, x, grid("uniform", 3, Flow()), cond, rng=rng, **options)).x


LABELS = {"label": torch.tensor([0, 1, 2, 0])}
NULL = {"label": torch.full((4,), 3)}


@pytest.mark.parametrize("scale", [1.0, 2.5, 0.0])
@pytest.mark.parametrize("options", [{}, {"temperature": 0.0}, {"top_k": 2}, {"top_p": 0.6, "temperature": 1.3}])
def test_with_memory_and_without_it_is_the_same(scale: float, options: dict[str, Any]) -> None:
    """Guided too: the beliefs are equal to rounding, so the tokens are the same; each is read once, and not ten times."""
    plain, remembering = autoregressive(), autoregressive()
    beliefs = []
    for denoiser in (Forgetful(plain), remembering):
        asked = Guided(denoiser, scale, NULL)
        walk = left_to_right(
            asked, torch.full((4, 10), 5), grid("uniform", 1, Flow()), LABELS, rng=Streams(SEEDS), **options
        )
        beliefs.append([(step.belief, step.x) for step in walk])
    for place, ((whole, x), (next_one, y)) in enumerate(zip(*beliefs, strict=True)):
        torch.testing.assert_close(whole.logp[:, place], next_one.here.logp[:, 0], rtol=1e-5, atol=1e-5)
        assert torch.equal(x, y)
        assert next_one.preview.shape == y.shape
    batch = 4 if scale == 1 else 8
    assert sum(remembering.network.reads) == batch * 10 and sum(plain.network.reads) == batch * 100


def test_guidance_that_does_not_always_act_forgets() -> None:
    """A memory of twice the batch knows no interval: then the denoiser is asked anew, and the interval holds."""
    denoiser = Guided(autoregressive(), 3.0, NULL, interval=(0.0, 0.55))
    assert denoiser.following is None and Guided(autoregressive(), 3.0, NULL).following is not None
    found, plain = tokens_of(denoiser, cond=LABELS), tokens_of(autoregressive(), cond=LABELS)
    assert torch.equal(found[:, :4], plain[:, :4]) and not torch.equal(found, plain)
    with pytest.raises(InputError, match="needs a condition to go towards"):
        tokens_of(Guided(autoregressive(), 3.0, NULL))


def test_a_prefix_is_read_at_once_and_given_tokens_stay() -> None:
    denoiser, x = autoregressive(), torch.full((4, 10), 5)
    x[:, :4] = torch.tensor([1, 2, 3, 4])
    x[1, 7] = 0
    found = tokens_of(denoiser, x=x)
    assert denoiser.network.reads == [4 * 5, 4, 4, 4, 4, 4]
    assert torch.equal(found[x != 5], x[x != 5]) and not (found == 5).any()
    assert torch.equal(found, tokens_of(Forgetful(autoregressive()), x=x))


def test_greedy_takes_the_likeliest_and_needs_no_stream() -> None:
    denoiser = autoregressive()
    found = tokens_of(denoiser, rng=None, temperature=0)
    assert torch.equal(denoiser(found, torch.zeros((), dtype=F64)).told(found, torch.tensor(False)).preview, found)
    logits = denoiser.logits(found, torch.zeros((), dtype=F64), None)
    assert torch.equal(logits.argmax(-1), found)
    assert torch.equal(tokens_of(denoiser, top_k=1), found)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"temperature": -0.1}, "temperature is -0.1; it is 0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_k": 0}, "top_k is 0; it is how many"),
        ({"top_k": 2.0}, "top_k is 2.0; it is how many"),
        ({"top_p": 0.0}, "top_p is 0.0; it is the share .* above 0 and at most 1"),
        ({"top_p": 1.1}, "top_p is 1.1"),
        ({"rng": None}, "needs the samples' random streams: pass rng, or temperature 0"),
    ],
)
def test_options_that_make_no_law_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        tokens_of(autoregressive(), **options)


# ------------------------------------------------------------------------------------------------------- all of them


@each_sampler
@pytest.mark.parametrize("remask", [False, True])
def test_samples_are_bit_equal_in_any_batch(name: str, remask: bool) -> None:
    """With given tokens in unlike places too."""
    if remask and name != "confidence":
        pytest.skip("only confidence masks again")
    walk = partial(SAMPLERS[name].walk, **({"remask": True} if remask else {}))
    denoiser, seeds = of(name, 7), list(range(100, 116))
    x = torch.full((16, 7), 5)
    x[torch.arange(16) % 3 == 0, 2] = 1
    x[:5, :2] = 4
    together = tokens_of(denoiser, walk, x=x, rng=Streams(seeds))
    for rows in (slice(0, 4), slice(4, 5), slice(10, 16)):
        assert torch.equal(tokens_of(denoiser, walk, x=x[rows], rng=Streams(seeds[rows])), together[rows])
    assert len({tuple(row) for row in together.tolist()}) > 12


@each_sampler
def test_every_walk_ends_without_a_mask_and_leaves_its_start_alone(name: str) -> None:
    for steps in (1, 2, 9):
        x, rng = torch.full((3, 4), 5), Streams(range(3))
        walk = list(SAMPLERS[name].walk(of(name, 4), x, grid("uniform", steps, Flow()), rng=rng))
        copies = [step.x.clone() for step in walk]
        assert bool((x == 5).all())
        assert not (walk[-1].x == 5).any() and walk[-1].s == 0
        assert all(step.t > step.s and step.t.ndim == step.s.ndim == 0 for step in walk)
        assert all(step.belief.preview.shape == x.shape and step.belief.preview.dtype == x.dtype for step in walk)
        assert [step.index for step in walk] == list(range(len(walk)))
        assert all(torch.equal(step.x, copy) for step, copy in zip(walk, copies, strict=True))
        assert walk[0].x.data_ptr() != x.data_ptr() and torch.is_grad_enabled()


@each_sampler
def test_where_nothing_is_hidden_nothing_changes(name: str) -> None:
    x = torch.tensor([[0, 1, 2], [3, 4, 0]])
    walk = list(SAMPLERS[name].walk(of(name, 3), x, grid("uniform", 3, Flow()), rng=Streams([0, 1])))
    assert walk and all(torch.equal(step.x, x) for step in walk)


@each_sampler
@each_schedule
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_given_tokens_never_change(name: str, schedule: Any, strength: float) -> None:
    """Under guidance, which would change beliefs, and with every option by way of Sampling, as a Model walks."""
    denoiser = of(name, 8, schedule)
    x0 = torch.randint(0, 5, (4, 8), generator=torch.Generator().manual_seed(1))
    made = torch.rand(4, 8, generator=torch.Generator().manual_seed(2)) < 0.6
    sampling = Sampling(name, 5, guidance_scale=2.0)
    condition = LabelCondition(("a", "b", "c"))
    edit = Edit(x0, made, strength)
    steps = list(sampling.walk(denoiser, condition, (8,), condition.ask(4, label=[0, 1, 2, 0]), SEEDS, edit))
    assert all(torch.equal(step.x[~made], x0[~made]) for step in steps)
    assert all(torch.equal(step.belief.preview[~made], x0[~made]) for step in steps)
    assert not (steps[-1].x == 5).any() and not torch.equal(steps[-1].x, x0)


@each_sampler
def test_noise_is_needed_where_declared(name: str) -> None:
    assert OF_TOKENS[name].stochastic
    with pytest.raises(InputError, match="needs the samples' random streams"):
        tokens_of(of(name, 10), SAMPLERS[name].walk, rng=None)
    one, other = (tokens_of(of(name, 10), SAMPLERS[name].walk, rng=Streams(seeds)) for seeds in (SEEDS, [5, 6, 7, 8]))
    assert torch.equal(one, tokens_of(of(name, 10), SAMPLERS[name].walk)) and not torch.equal(one, other)


@each_sampler
def test_temperature_0_leaves_nothing_to_the_draw(name: str) -> None:
    """In one step from nothing, all that is shown is the likeliest."""
    if name in ("first_hitting", "left_to_right", "planned"):
        pytest.skip("it never shows all at once")
    x = torch.full((4, 6), 5)
    step = next(SAMPLERS[name].walk(masked(), x, grid("uniform", 1, Flow()), rng=Streams(SEEDS), temperature=0.0))
    assert torch.equal(step.x, masked()(x, torch.ones((), dtype=F64)).preview)


# ------------------------------------------------------------------------------------------------------- who walks what


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name not in OF_TOKENS])
def test_samplers_of_numbers_refuse_tokens_in_a_sentence(name: str) -> None:
    with pytest.raises(
        InputError, match=r"walks numbers, and the process Masked is one of tokens; choose one of .*over\('tokens'\)"
    ):
        list(SAMPLERS[name].walk(masked(), torch.full((2, 3), 5), grid("uniform", 2, Flow()), rng=Streams([0, 1])))
    with pytest.raises(
        InputError, match=f"'{name}' walks numbers, and this model makes tokens; choose one of ancestral, cached"
    ):
        Sampling(name).check(masked(), NoCondition())


@pytest.mark.parametrize("name", [name for name in OF_TOKENS if name != "ancestral"])
def test_samplers_of_tokens_refuse_numbers_in_a_sentence(name: str) -> None:
    from toys import Elementwise

    denoiser = Elementwise(Flow())
    with pytest.raises(InputError, match=r"walks tokens.*, and the process Gaussian is one of numbers"):
        list(SAMPLERS[name].walk(denoiser, torch.zeros(2, 3), grid("uniform", 2, Flow()), rng=Streams([0, 1])))
    with pytest.raises(
        InputError, match=f"'{name}' walks tokens.*, and this model makes numbers; choose one of ancestral"
    ):
        list(Sampling(name).walk(denoiser, NoCondition(), (3,), None, [0, 1]))


def test_each_process_has_its_samplers() -> None:
    assert set(over(NUMBERS)) | set(over(TOKENS)) | set(over(PLANNED)) == set(SAMPLERS)
    assert set(over(PLANNED)) == {"ancestral", "cached", "planned"}
    assert set(over(ORDERED)) == {"left_to_right"}
    assert set(over(NUMBERS)) & set(over(TOKENS)) == {"ancestral"}
    assert heun in [sampler.walk for sampler in over(NUMBERS).values()]


def test_thresholds_and_rescaling_are_of_numbers() -> None:
    denoiser, condition = masked(), LabelCondition(("a", "b", "c"))
    cond = condition.ask(4, label=[0, 1, 2, 0])
    for options, said in (
        ({"threshold": {"kind": "static"}}, "tokens have none; leave it out, or choose threshold"),
        ({"guidance_scale": 2.0, "guidance_rescale": 0.5}, "tokens have none; leave guidance_rescale 0"),
    ):
        with pytest.raises(InputError, match=said):
            list(Sampling("ancestral", 2, **options).walk(denoiser, condition, (3,), cond, SEEDS))


def test_the_table_is_what_the_laws_think_it_is() -> None:
    assert float(table(3).p.min()) > 0
