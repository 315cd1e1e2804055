"""The critic beside another loss: its hinge, its push, and that it does nothing before its time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from carrara.networks.patches import Patches
from carrara.training.adversarial import AHEAD, Adversary, shown


class Brightness(nn.Module):
    """A critic to whom the bright pixel is real, pixel for pixel."""

    def __init__(self, factor: float = 3.0) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor([factor]))

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


def pictures(seed: int, count: int = 5) -> Tensor:
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2.4 - 1.2


def error(y: Tensor, x: Tensor) -> Tensor:
    return (y - x).square().mean((1, 2, 3))


def test_a_critic_s_loss_is_the_hinge_of_each_part() -> None:
    made, x = pictures(0), pictures(1).clamp(-1, 1)
    found = Adversary(Brightness(), 1.0).missed(made, x, 0)
    expected = [
        [
            max(0, 1 - 3 * float(a)) + max(0, 1 + 3 * max(-1, min(1, float(b))))
            for a, b in zip(one, other, strict=True)
        ]
        for one, other in zip(x.flatten(1), made.flatten(1), strict=True)
    ]
    torch.testing.assert_close(found.detach(), torch.tensor(expected).mean(1))


def test_made_pictures_get_no_gradient_of_the_critic_s_loss() -> None:
    made, adversary = pictures(0).requires_grad_(), Adversary(Brightness(), 1.0)
    torch.autograd.backward(adversary.missed(made, pictures(1), 0).sum())
    assert made.grad is None and adversary.critic.get_parameter("factor").grad is not None


@pytest.mark.parametrize("factor", [1e-3, 3.0, 1e3])
@pytest.mark.parametrize("weight", [0.5, 2.0])
def test_the_push_is_weight_times_as_long_as_the_other_gradient(factor: float, weight: float) -> None:
    """However steep the critic is, picture for picture, and where a pixel is less than black there is none."""
    x, made = pictures(1), pictures(0).requires_grad_()
    adversary = Adversary(Brightness(factor), weight)
    loss = adversary.pushed(lambda y: error(y, x), made)
    torch.testing.assert_close(loss.detach(), error(made.detach(), x))
    torch.autograd.backward(loss.sum())
    assert made.grad is not None and adversary.critic.get_parameter("factor").grad is None
    assert adversary.critic.get_parameter("factor").requires_grad
    own = 2 * (made.detach() - x) / 64
    push, inside = own - made.grad, (made.detach().abs() <= 1).float()
    longest = weight * own.flatten(1).norm(dim=1) / inside.flatten(1).sum(1).sqrt()
    torch.testing.assert_close(push, longest[:, None, None, None] * inside, rtol=1e-4, atol=1e-6)


def test_no_picture_s_push_depends_on_those_beside_it() -> None:
    x, made = pictures(1), pictures(0)
    torch.manual_seed(0)
    adversary = Adversary(Patches(1, 8), 0.5)

    def pushed(rows: slice) -> Tensor:
        y = made[rows].clone().requires_grad_()
        return torch.autograd.grad(adversary.pushed(lambda each: error(each, x[rows]), y).sum(), y)[0]

    torch.testing.assert_close(torch.cat([pushed(slice(2)), pushed(slice(2, 5))]), pushed(slice(5)))


def test_a_critic_without_a_slope_pushes_nowhere() -> None:
    x, made = pictures(1), pictures(0).requires_grad_()
    loss = Adversary(Brightness(0.0), 1.0).pushed(lambda y: error(y, x), made)
    (found,) = torch.autograd.grad(loss.sum(), made)
    torch.testing.assert_close(found, 2 * (made.detach() - x) / 64)


def test_it_learns_to_tell_stripes_from_their_mean() -> None:
    """Both have the same brightness; and held-out stripes are scored above it in every picture."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)

    def stripes(count: int) -> Tensor:
        shift = torch.randint(0, 4, (count, 1, 1, 1), generator=generator)
        return torch.where((torch.arange(16) + shift) // 2 % 2 == 0, 0.5, -0.5).expand(count, 1, 16, 16)

    adversary = Adversary(Patches(1, 8), 1.0)
    optimiser, losses = torch.optim.AdamW(adversary.critic.parameters(), 1e-2), []
    for _ in range(40):
        loss = adversary.missed(torch.zeros(16, 1, 16, 16), stripes(16), 0).mean()
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.25 * losses[0]
    with torch.no_grad():
        assert bool((adversary.score(stripes(8)) > adversary.score(torch.zeros(1, 1, 16, 16))).all())


def test_before_its_time_it_does_nothing() -> None:
    adversary = Adversary(Brightness(), 1.0, begins=100)
    loss = adversary.missed(pictures(0), pictures(1), 99)
    torch.autograd.backward(loss.sum())
    gradient = adversary.critic.get_parameter("factor").grad
    assert loss.shape == (5,) and not bool(loss.any()) and not (gradient is not None and bool(gradient.any()))
    assert [adversary.rate(start) for start in (99, 100)] == [0, 1]
    assert [adversary.listened(100 + AHEAD - 1), adversary.listened(100 + AHEAD)] == [False, True]
    assert bool(adversary.missed(pictures(0), pictures(1), 100).all())


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (28, 28), (13, 30)])
def test_a_score_for_each_four_by_four(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    x = torch.rand(3, 3, *size)
    critic = Patches(3, 8)
    scores = critic(x)
    assert scores.shape == (3, 1, *(-(-side // 4) for side in size))
    torch.testing.assert_close(critic(x[1:2]), scores[1:2], rtol=1e-4, atol=1e-6)
    assert bool(torch.isfinite(scores).all())


def test_less_than_black_is_shown_as_black() -> None:
    assert shown(torch.tensor([-1.5, -1.0, 0.25, 2.0])).tolist() == [-1, -1, 0.25, 1]
