"""Distillation: what it teaches is exact where the exact answer is known, and its runs are runs like any other."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from small import BATCH, CONTENT, differing, files_of, metrics, stepped
from torch import Tensor, nn

import carrara
from carrara import files
from carrara.beliefs import Point
from carrara.errors import InputError, RecipeError
from carrara.processes import Gaussian, like
from carrara.recipe import Recipe, changed, check
from carrara.rng import Streams
from carrara.training import run as run_module
from carrara.training.budget import Asked
from carrara.training.distill import CRITIC, CRITIC_AHEAD, STUDENT, Distillation, Lesson, Taught, pick, rms
from carrara.training.learner import seeded
from carrara.training.run import Run
from carrara.training.teacher import taught

IMAGES = 10 * BATCH


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, not to be changed, whose network has learnt more than nothing."""
    folder = tmp_path_factory.mktemp("teacher")
    for _ in Run(check(CONTENT), folder, Asked(images=2 * BATCH)).train():
        pass
    return folder


def recipe(teacher: Path, *changes: str) -> Recipe:
    """A student's, its sampling on the uniform grid so that its times are plain."""
    content = {
        "name": "student",
        "seed": 5,
        "trainable": {"kind": "distill", "pairs": 3 * BATCH + 5, "solver_steps": 3, "pair_images": 5 * BATCH},
        "training": CONTENT["training"],
        "sampling": {"sampler": "consistency", "steps": 2},
    }
    return check(taught(changed(content, changes), teacher))


def opened(folder: Path, teacher: Path, *changes: str) -> Run:
    return Run(recipe(teacher, *changes), folder, Asked(images=IMAGES))


def trained(folder: Path, teacher: Path, *changes: str, steps: int | None = None) -> Run:
    return stepped(opened(folder, teacher, *changes), steps)


def state(run: Run) -> dict[str, Tensor]:
    """Everything a run learns, by player and name."""
    learner = run.learner
    found = {f"buffer {key}": value for key, value in learner.buffers().items()}
    for player, named in learner.parameters.items():
        for key, parameter in named.items():
            found[f"weight {player} {key}"] = parameter.detach()
            found[f"average {player} {key}"] = learner.average[player][key]
        found |= {f"{player} {key}": value for key, value in learner.optimisers[player].moments().items()}
    return {key: value.clone() for key, value in found.items()}


class OneGaussian(nn.Module):
    """The exact belief where every number of the data is N(0, std²); or, `of_path`, the end of its ODE, which is linear."""

    def __init__(self, process: Gaussian, std: float, of_path: bool = False) -> None:
        super().__init__()
        self.process, self.of_path = process, of_path
        self.std = nn.Parameter(torch.tensor(std))
        self.device = torch.device("cpu")

    def forward(self, x_t: Tensor, t: Tensor, cond: Any = None) -> Point:
        alpha, sigma = (like(f(t), x_t) for f in (self.process.schedule.alpha, self.process.schedule.sigma))
        variance = alpha**2 * self.std**2 + sigma**2
        return Point((self.std / variance.sqrt() if self.of_path else alpha * self.std**2 / variance) * x_t)


@pytest.fixture
def lesson(tmp_path: Path, teacher: Path) -> Distillation:
    """A distillation whose teacher knows N(0, 0.6²) exactly, its paths walked in 40 steps."""
    found = opened(tmp_path, teacher, "trainable.solver_steps=40", "condition.dropout=0").trainable
    assert isinstance(found, Distillation)
    found.teacher = Taught(OneGaussian(found.process, 0.6), 1.0, lambda count: None)
    return found


def test_a_path_s_end_is_the_exact_one(lesson: Distillation) -> None:
    """The flow takes the law at t to N(0, 0.6²) linearly, whichever t the path begins at."""
    for t in lesson.asked:
        x, rng = Streams(range(5)).normal((1, 8, 8)), Streams(range(5))
        std = ((1 - t) ** 2 * 0.6**2 + t**2).sqrt().float()
        found = lesson.ends(Lesson(x, x, t.expand(5), None, rng))
        torch.testing.assert_close(found, 0.6 / std * x, rtol=1e-3, atol=1e-3)


def test_a_student_that_knows_the_ends_has_no_loss_and_no_other_has(lesson: Distillation) -> None:
    asked = lesson.lesson(range(16))
    exact = OneGaussian(lesson.process, 0.6, of_path=True)(asked.x, asked.t).x0.detach()
    for std in (0.6, 0.5):
        lesson.model.denoiser = OneGaussian(lesson.process, std, of_path=True)
        found = lesson.loss(STUDENT, 0, 16).detach()
        error = rms(lesson.model.denoiser(asked.x, asked.t).x0.detach() - exact)
        torch.testing.assert_close(found, error, rtol=0, atol=1e-3)
        # Every picture's: the one nearest to t = 0, where all students agree, has 0.018.
        assert found.shape == (16,) and bool((found < 0.01).all()) is (std == 0.6)
        assert bool((found > 0.01).all()) is (std == 0.5)
        assert (lesson.heldout()["heldout_loss"] > 0.02) is (std == 0.5)


def test_pairs_are_walked_once_and_come_again(lesson: Distillation) -> None:
    """Their ends are kept by number, and later batches are taught by them though the teacher has changed its mind."""
    lesson.model.denoiser = OneGaussian(lesson.process, 0.6, of_path=True)
    assert lesson.walked == 3 * BATCH == len(lesson.pairs.ends)
    for start in range(0, lesson.walked, BATCH):
        lesson.loss(STUDENT, start, BATCH)
    asked = lesson.lesson(range(lesson.walked))
    exact = lesson.model.denoiser(asked.x, asked.t).x0.detach()
    torch.testing.assert_close(lesson.pairs.ends, exact, rtol=1e-3, atol=1e-3)
    lesson.teacher = Taught(OneGaussian(lesson.process, 0.1), 1.0, lambda count: None)
    assert float(lesson.loss(STUDENT, lesson.walked, BATCH).detach().abs().max()) < 2e-3


class Brightness(nn.Module):
    """A critic whose output is its input times a factor: it holds the brightest picture for the realest."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(3.0))
        self.seen: list[tuple[Tensor, Tensor]] = []

    def raw(self, x_t: Tensor, t: Tensor, cond: Any) -> Tensor:
        self.seen.append((x_t.detach(), t))
        return self.factor * x_t


def test_a_critic_s_loss_is_the_hinge_under_the_same_noise(lesson: Distillation) -> None:
    lesson.critic = critic = Brightness()
    lesson.bounded = lambda x0: x0 - 1
    asked = lesson.lesson(range(8))
    found = lesson.loss(CRITIC, 0, 8).detach()
    (both, t), made = critic.seen[0], lesson.pictures(asked).detach()
    (real_t, made_t), alpha = both.chunk(2), like(lesson.process.schedule.alpha(t[:8]), made)
    torch.testing.assert_close(real_t - made_t, alpha * (asked.x0 - made), rtol=1e-4, atol=2e-4)
    assert t[:8].equal(t[8:]) and bool((t > 0.01).all()) and bool((t < 0.43).all())
    real, student = (3 * x.flatten(1).mean(1) for x in (real_t, made_t))
    torch.testing.assert_close(found, (1 - real).clamp(min=0) + (1 + student).clamp(min=0))


def test_a_picture_is_moved_to_where_the_score_rises(lesson: Distillation) -> None:
    """The gradient is the score's, seen through the noise; the critic itself gets none."""
    lesson.critic = critic = Brightness()
    asked, x0 = lesson.lesson(range(8)), torch.zeros(8, 1, 8, 8, requires_grad=True)
    found = lesson.passed(x0, asked)
    torch.autograd.backward(found.sum())
    x_t, t = critic.seen[0]
    torch.testing.assert_close(found.detach(), 3 * x_t.flatten(1).mean(1))
    assert x0.grad is not None and critic.factor.grad is None and critic.factor.requires_grad
    expected = 3 / 64 * like(lesson.process.schedule.alpha(t), x0).expand_as(x0)
    torch.testing.assert_close(x0.grad, expected.float())


def test_a_critic_learns_to_tell_pictures_apart(tmp_path: Path, teacher: Path) -> None:
    """While a student that is not taught stays where it is; at first it has the loss of one who cannot tell, 2."""
    run = opened(tmp_path, teacher, "trainable.critic_rate=1.0", "training.lr=0.003")
    lesson, learner = run.trainable, run.learner
    assert isinstance(lesson, Distillation)
    losses = []
    for start in range(0, 40 * BATCH, BATCH):
        loss = lesson.loss(CRITIC, start, BATCH).mean()
        torch.autograd.backward(loss)
        learner.optimisers[CRITIC].step(learner.settings.lr)
        learner.optimisers[CRITIC].forget()
        losses.append(float(loss.detach()))
    assert sum(losses[-5:]) / 5 < 0.75 * losses[0]


def test_a_critic_rests_until_it_is_needed(lesson: Distillation) -> None:
    lesson.alone = CRITIC_AHEAD + 5 * BATCH
    loss = lesson.loss(CRITIC, 0, BATCH)
    torch.autograd.backward(loss.sum())
    gradients = [p.grad for p in lesson.critic.parameters() if p.grad is not None]
    assert loss.shape == (BATCH,) and not bool(loss.any()) and not any(bool(found.any()) for found in gradients)
    assert bool(lesson.loss(CRITIC, 5 * BATCH, BATCH).all())


def test_beliefs_are_kept_in_the_bounds_of_the_sampling(tmp_path: Path, teacher: Path) -> None:
    """A student that believes in less than black is right where the path's end is black."""
    lesson = opened(tmp_path, teacher, "sampling.threshold.kind=static", "sampling.threshold.bound=0.5").trainable
    assert isinstance(lesson, Distillation)
    asked = lesson.lesson(range(32))
    lesson.teacher = Taught(OneGaussian(lesson.process, 2.0), 1.0, lambda count: None)
    lesson.model.denoiser = OneGaussian(lesson.process, 20.0, of_path=True)
    for found in (lesson.ends(asked), lesson.pictures(asked).detach()):
        assert float(found.abs().max()) == 0.5


def test_checkpointing_changes_no_gradient(tmp_path: Path, teacher: Path) -> None:
    found = []
    for on in ("false", "true"):
        run = opened(tmp_path / on, teacher, f"training.checkpointing={on}", "training.precision=float32")
        lesson = run.trainable
        assert isinstance(lesson, Distillation)
        with seeded(0):
            torch.autograd.backward(lesson.loss(STUDENT, lesson.alone, BATCH).mean())
        found.append([p.grad for p in lesson.model.denoiser.parameters()])
    assert all(a is not None and b is not None and a.equal(b) for a, b in zip(*found, strict=True))


def test_a_student_is_asked_at_the_times_of_its_grids(lesson: Distillation) -> None:
    assert lesson.asked.tolist() == [1.0, 0.75, 0.5, 0.25]
    asked = lesson.lesson(range(2000))
    shares = [float((asked.t == t).double().mean()) for t in lesson.asked]
    assert shares == pytest.approx([0.6, 0.4 / 3, 0.4 / 3, 0.4 / 3], abs=0.03)
    x0 = lesson.model.codec.encode(torch.from_numpy(lesson.dataset.train.media[:1000].copy()))
    for t, expected in ((1.0, 1.0), (0.5, 0.25 * float(x0.var()) + 0.25)):
        assert float(asked.x[asked.t == t].var()) == pytest.approx(expected, rel=0.05)
    assert pick(torch.tensor([0.0, 0.99]), 1.0, 1).tolist() == [0, 0]


def test_guidance_goes_into_the_teacher(lesson: Distillation) -> None:
    class Labelled:
        process = lesson.process

        def __call__(self, x_t: Tensor, t: Tensor, cond: Any = None) -> Point:
            return Point(like(cond["label"], x_t).expand_as(x_t))

    x, t, cond = torch.zeros(2, 1, 8, 8), torch.tensor([0.5, 0.9]), {"label": torch.tensor([1, 4])}
    guided = Taught(Labelled(), 3.0, lambda count: {"label": torch.full((count,), 2)})(x, t, cond)
    assert guided.x0[:, 0, 0, 0].tolist() == [2 + 3 * (1 - 2), 2 + 3 * (4 - 2)]


def test_both_players_learn_and_the_teacher_does_not(tmp_path: Path, teacher: Path) -> None:
    run = opened(tmp_path, teacher)
    assert list(run.trainable.players) == [CRITIC, STUDENT]
    frozen = {key: value.clone() for key, value in run.trainable.teacher.denoiser.state_dict().items()}
    run.learner.step(IMAGES)
    before = state(run)
    for _ in range(5):
        run.learner.step(IMAGES)
    weights = {name for name in differing(before, state(run)) if name.startswith("weight")}
    balanced = (
        f"weight {CRITIC} network.leave.bias"  # It moves the score of real pictures and of the student's alike.
    )
    assert weights | {balanced} == {name for name in before if name.startswith("weight")}
    assert differing(frozen, dict(run.trainable.teacher.denoiser.state_dict())) == []


@pytest.mark.parametrize(
    "changes",
    [(), ("trainable.critic_weight=0.0",), ("training.precision=bf16", "trainable.guidance_scale=2.0")],
    ids=["critic", "pairs", "guided"],
)
def test_a_split_run_equals_the_whole_run(
    tmp_path: Path, teacher: Path, changes: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut while paths are still walked, at the last of them, and when their ends come again."""
    monkeypatch.setattr(run_module, "LOG_STEPS", 3)
    monkeypatch.setattr(files, "flush", lambda path: None)
    trained(tmp_path / "whole", teacher, *changes)
    for steps in (1, 2, 3):
        trained(tmp_path / "split", teacher, *changes, steps=steps)
    trained(tmp_path / "split", teacher, *changes)
    one, other = (opened(tmp_path / name, teacher, *changes) for name in ("split", "whole"))
    assert one.finished and differing(state(one), state(other)) == []
    assert metrics(tmp_path / "split") == metrics(tmp_path / "whole")
    assert files_of(tmp_path / "split") == files_of(tmp_path / "whole")


def test_a_student_stands_alone(tmp_path: Path, teacher: Path) -> None:
    moved = tmp_path / "teacher"
    shutil.copytree(teacher, moved)
    run = trained(tmp_path / "run", moved)
    shutil.rmtree(moved)
    model = carrara.load(tmp_path / "run")
    assert model.facts["teacher_weights_sha256"] == run.recipe.sections["trainable"]["teacher_sha256"]
    assert (model.sampling.sampler, model.sampling.steps) == ("consistency", 2)
    pictures = [model.sample(3, steps=steps) for steps in (1, 2, 4)]
    assert all(found.shape == (3, 1, 8, 8) for found in pictures) and not torch.equal(*pictures[:2])


def test_another_teacher_is_refused(tmp_path: Path, teacher: Path) -> None:
    other = tmp_path / "other"
    for _ in Run(check({**CONTENT, "seed": 4}), other, Asked(images=BATCH)).train():
        pass
    trained(tmp_path / "run", teacher, steps=1)
    with pytest.raises(InputError, match=r"another recipe \(trainable\.teacher was .*choose another folder"):
        opened(tmp_path / "run", other)
    shutil.copytree(teacher, tmp_path / "kept")
    begun = recipe(tmp_path / "kept")
    shutil.rmtree(tmp_path / "kept")
    shutil.copytree(other, tmp_path / "kept")
    with pytest.raises(InputError, match=r"has other weights .* than the run began with"):
        Run(begun, tmp_path / "new", Asked(images=IMAGES))


def test_what_cannot_teach_is_refused(tmp_path: Path, teacher: Path) -> None:
    with pytest.raises(InputError, match=r"there is no teacher in .*nowhere: no such folder.*--teacher"):
        recipe(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"there is no teacher in .*: it holds no finished model"):
        recipe(tmp_path)
    student = tmp_path / "student"
    trained(student, teacher)
    with pytest.raises(InputError, match="is itself a student"):
        recipe(student)


def test_a_student_is_what_its_teacher_is(tmp_path: Path, teacher: Path) -> None:
    found = recipe(teacher).sections
    assert found["network"] == check(CONTENT).sections["network"] and found["data"]["kind"] == "digits"
    wrong = check({**recipe(teacher).as_dict(), "network": {"kind": "unet", "width": 16, "depth": 1}})
    with pytest.raises(InputError, match=r"the student's network is .*'width': 16.* its teacher's is .*'width': 8"):
        Run(wrong, tmp_path, Asked(images=IMAGES))


@pytest.mark.parametrize(
    "change",
    [
        "evaluations=[]",
        "evaluations=[0]",
        "first=0.0",
        "pairs=-1",
        "solver_steps=0",
        "critic_weight=-1.0",
        "critic_rate=0.0",
    ],
)
def test_options_that_teach_nothing_are_refused(tmp_path: Path, teacher: Path, change: str) -> None:
    with pytest.raises(RecipeError, match=rf"^trainable\.{change.partition('=')[0]} is "):
        opened(tmp_path, teacher, f"trainable.{change}")


def test_a_batch_in_parts_is_refused(tmp_path: Path, teacher: Path) -> None:
    with pytest.raises(RecipeError, match=r"training\.accumulate is 2; .* must be 1"):
        opened(tmp_path, teacher, "training.accumulate=2")


def test_a_student_needs_something_to_learn_from(tmp_path: Path, teacher: Path) -> None:
    with pytest.raises(RecipeError, match="neither pairs nor a critic to teach"):
        opened(tmp_path, teacher, "trainable.critic_weight=0.0", "trainable.pairs=0")


def test_pairs_teach_first_and_faster(lesson: Distillation) -> None:
    """Until `pair_images` a student that knows the ends has no loss; then it listens to the critic, and learns slower."""
    lesson.model.denoiser = OneGaussian(lesson.process, 0.6, of_path=True)
    for start in range(0, lesson.alone, BATCH):
        assert float(lesson.loss(STUDENT, start, BATCH).detach().abs().max()) < 2e-3
    assert [lesson.rate(STUDENT, start) for start in (0, lesson.alone - 1, lesson.alone)] == [1.0, 1.0, 0.2]
    assert lesson.rate(CRITIC, 0) == lesson.rate(CRITIC, lesson.alone) == 0.2
    lesson.critic_weight = 10.0
    assert float(lesson.loss(STUDENT, lesson.alone, BATCH).detach().abs().max()) > 2e-3


def test_without_a_critic_there_is_one_player(tmp_path: Path, teacher: Path) -> None:
    assert list(opened(tmp_path, teacher, "trainable.critic_weight=0.0").trainable.players) == [STUDENT]
