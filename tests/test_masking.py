"""The masked process: its forward law, its step back, and what it refuses."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from carrara.beliefs import Tokens
from carrara.errors import InputError
from carrara.masking import Masked
from carrara.processes import TOKENS, Gaussian
from carrara.rng import Streams
from carrara.schedules import EDM, SURVIVALS, Cosine, Flow, LinearBeta, MaskCosine, Polynomial, Schedule

F64 = torch.float64
CASES = {name: make() for name, make in SURVIVALS.items()}
each = pytest.mark.parametrize("schedule", CASES.values(), ids=CASES)
K = 4


def x0(count: int = 3, length: int = 5) -> Tensor:
    return torch.randint(0, K, (count, length), generator=torch.Generator().manual_seed(0))


def at(*times: float) -> Tensor:
    return torch.tensor(times[0] if len(times) == 1 else times, dtype=F64)


def nothing_known(count: int = 3, length: int = 5) -> Tokens:
    return Tokens.of(torch.zeros(count, length, K))


def test_the_prior_is_all_mask() -> None:
    process = Masked(Flow(), K)
    assert process.mask == K and process.made_of == TOKENS
    assert torch.equal(process.prior((2, 3), Streams(range(4))), torch.full((4, 2, 3), K))


@each
@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_each_token_is_hidden_by_itself(schedule: Schedule, t: float) -> None:
    """As often as sigma says, two of them as often as sigma²; what shows is what was there."""
    process, clean = Masked(schedule, K), x0(4, 20_000)
    x_t, hidden = process.corrupt(clean, at(t), Streams(range(4)))
    sigma = float(schedule.sigma(at(t)))
    assert float(hidden.double().mean()) == pytest.approx(sigma, abs=0.008)
    assert float((hidden[:, 1:] & hidden[:, :-1]).double().mean()) == pytest.approx(sigma**2, abs=0.008)
    assert torch.equal(hidden, process.hidden(x_t)) and torch.equal(x_t[~hidden], clean[~hidden])


def test_at_its_ends_all_is_shown_and_all_is_hidden() -> None:
    for schedule in CASES.values():
        x_t, hidden = Masked(schedule, K).corrupt(x0(), at(0.0, 1.0, 1.0), Streams(range(3)))
        assert hidden.tolist() == [[False] * 5, [True] * 5, [True] * 5] and torch.equal(x_t[0], x0()[0])


@each
def test_many_small_steps_back_are_one(schedule: Schedule) -> None:
    """What is hidden at t is hidden at s with probability sigma_s / sigma_t, however it gets there; at 0 all shows."""
    process = Masked(schedule, K)
    stays = [float(1 - process.reveal(at(t), at(s))) for t, s in ((0.9, 0.6), (0.6, 0.2), (0.9, 0.2))]
    assert stays[0] * stays[1] == pytest.approx(stays[2], rel=1e-12)
    assert float(process.reveal(at(0.3), at(0.0))) == 1
    alpha_t, alpha_s = schedule.alpha(at(0.7)), schedule.alpha(at(0.4))
    torch.testing.assert_close(process.reveal(at(0.7), at(0.4)), (alpha_s - alpha_t) / (1 - alpha_t))


@each
def test_rate_and_when(schedule: Schedule) -> None:
    """The rate is the limit of what a short step shows; `when` is sigma's inverse."""
    process, t, h = Masked(schedule, K), torch.linspace(0.05, 0.95, 19, dtype=F64), 1e-6
    torch.testing.assert_close(process.rate(t), process.reveal(t, t - h) / h, rtol=1e-4, atol=0)
    torch.testing.assert_close(process.when(schedule.sigma(t)), t)
    assert process.when(at(0.0, 1.0)).tolist() == [0, 1]
    assert torch.equal(process.level(t), schedule.sigma(t))


@each
def test_a_step_shows_as_many_as_it_says_and_only_what_was_hidden(schedule: Schedule) -> None:
    process, x = Masked(schedule, K), torch.full((4, 20_000), K)
    x[:, ::2] = 1
    t, s = at(0.8), at(0.5)
    y = process.step(x, nothing_known(4, 20_000), t, s, Streams(range(4)))
    assert torch.equal(y[:, ::2], x[:, ::2])
    assert float((y[:, 1::2] != K).double().mean()) == pytest.approx(float(process.reveal(t, s)), abs=0.01)
    drawn = y[:, 1::2][y[:, 1::2] != K]
    assert float((torch.bincount(drawn, minlength=K) / len(drawn) - 1 / K).abs().max()) < 0.02


def test_a_step_takes_as_much_of_a_stream_whatever_it_shows() -> None:
    process = Masked(Flow(), K)
    after = []
    for x in (torch.full((2, 5), K), torch.zeros(2, 5, dtype=torch.int64)):
        for s in (0.999, 0.0):
            rng = Streams([3, 4])
            process.step(x, nothing_known(2), at(1.0), at(s), rng)
            after.append(rng.uniform())
    assert all(torch.equal(after[0], other) for other in after)


def test_times_may_be_each_sample_s_own() -> None:
    process, x = Masked(MaskCosine(), K), torch.full((2, 5), K)
    t, s = at(0.9, 0.5), at(0.3, 0.0)
    both = process.step(x, nothing_known(2), t, s, Streams([3, 4]))
    for i in range(2):
        one = process.step(x[i : i + 1], nothing_known(1), t[i], s[i], Streams([[3, 4][i]]))
        assert torch.equal(one[0], both[i])


def test_temperature_0_takes_the_likeliest() -> None:
    belief = Tokens.of(torch.randn(3, 5, K, generator=torch.Generator().manual_seed(1)))
    x = torch.full((3, 5), K)
    found = Masked(Flow(), K).step(x, belief, at(1.0), at(0.0), Streams(range(3)), temperature=0)
    assert torch.equal(found, belief.preview)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda p: p.step(x0(), nothing_known(), at(0.5), at(0.2), Streams(range(3)), eta=0.5),
            "there is only eta = 1",
        ),
        (lambda p: p.step(x0(), nothing_known(), at(0.5), at(0.2), None), "random streams: pass rng"),
        (
            lambda p: p.step(
                p.prior((5,), Streams(range(3))), nothing_known(), at(1.0), at(0.0), Streams(range(3)), 1, -1
            ),
            "temp",
        ),
        (lambda p: p.start(x0() + K, at(1.0), torch.tensor([False]), Streams(range(3))), "must be marked as made"),
        (lambda p: p.start(x0() - K, at(0.5), None, Streams(range(3))), "tokens are 0 to 3"),
    ],
)
def test_steps_that_are_none_are_refused(call: Callable[[Masked], object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        call(Masked(Flow(), K))


class Late(Flow):
    """Of which a little shows at t = 1."""

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - 0.99 * t

    def sigma(self, t: Tensor) -> Tensor:
        return 0.99 * t


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        (
            Cosine(),
            "under the schedule Cosine alpha \\+ sigma is not 1.*choose the schedule flow, polynomial, mask_cosine",
        ),
        (EDM(), "under the schedule EDM alpha \\+ sigma is not 1"),
        (LinearBeta(), "is not 1"),
        (Late(), "a share of 0.01 of the tokens still shows at t = 1.*choose the schedule flow"),
    ],
)
def test_schedules_that_hide_no_shares_are_refused(schedule: Schedule, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Masked(schedule, K)


@pytest.mark.parametrize("vocab", [0, -1, 2.0, True, None])
def test_vocabularies_that_are_none_are_refused(vocab: object) -> None:
    with pytest.raises(InputError, match=r"vocab is .*a whole number above 0"):
        Masked(Flow(), vocab)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------- a start


def test_what_is_kept_shows_from_the_beginning_and_what_is_made_has_its_time_s_masks() -> None:
    process, made = Masked(Polynomial(), K), torch.tensor([True, True, False, True, False])
    for t in (0.4, 1.0):
        plain, _ = process.corrupt(x0(), at(t), Streams(range(3)))
        found = process.start(x0(), at(t), made, Streams(range(3)))
        assert torch.equal(found[:, ~made], x0()[:, ~made]) and torch.equal(found[:, made], plain[:, made])
        assert torch.equal(process.start(x0(), at(t), None, Streams(range(3))), plain)
    assert bool((found[:, made] == K).all())


def test_where_all_is_hidden_anything_may_stand() -> None:
    process, x = Masked(Flow(), K), x0()
    x[:, 3:] = K
    made = torch.arange(5) >= 3
    assert bool((process.start(x, at(1.0), made, Streams(range(3)))[:, 3:] == K).all())
    assert torch.equal(process.shown(x, at(0.5)), x)


def test_the_gaussian_start_is_noise_of_its_time() -> None:
    """Bit for bit the prior at t = 1, where it is made, whatever x0 is there."""
    process, clean = Gaussian(Flow()), torch.randn(3, 1, 2, 2)
    made = torch.tensor([True, False])
    eps = Streams(range(3)).normal((1, 2, 2))
    assert torch.equal(process.start(clean, at(0.4), made, Streams(range(3))), process.mix(clean, eps, at(0.4)))
    found = process.start(clean, at(1.0), made, Streams(range(3)))
    assert torch.equal(found[..., 0], process.prior((1, 2, 2), Streams(range(3)))[..., 0])
