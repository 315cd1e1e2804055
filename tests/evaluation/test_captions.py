"""CLIP score and R-precision: the papers' figures, from floor through chance to ceiling."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from carrara.errors import InputError, NonFinite
from carrara.evaluation import captions as room
from carrara.evaluation.captions import Captioned, ClipScore, RPrecision, clip_score, derangement, r_precision
from carrara.evaluation.clip import Clip

DIM = 12


@dataclasses.dataclass
class Numbers:
    """A Clip that sees the number painted on a picture, and reads it in a caption: "12" is the picture all 12."""

    name: str = "numbers@1"
    dim: int = DIM
    sha256: str = "0" * 64
    seen: int = 0

    def images(self, images: Tensor, /) -> Tensor:
        assert images.shape[1] == 3
        self.seen += len(images)
        return F.normalize(self._vectors(images[:, 0, 0, 0].tolist()) + 0.5, dim=1)

    def texts(self, texts: Sequence[str], /) -> Tensor:
        return F.normalize(self._vectors([int(text) for text in texts]) + 0.5, dim=1)

    def _vectors(self, numbers: Sequence[int]) -> Tensor:
        rows = [torch.randn(DIM, generator=torch.Generator().manual_seed(number)) for number in numbers]
        return torch.stack(rows)


def painted(numbers: Sequence[int], channels: int = 3) -> Tensor:
    return torch.tensor(numbers, dtype=torch.uint8)[:, None, None, None].expand(-1, channels, 4, 4)


def asked(numbers: Sequence[int], wanted: Sequence[int], **options: Tensor) -> Captioned:
    return Captioned.of(painted(numbers), [str(number) for number in wanted], Numbers(), **options)


def embedded(pictures: Tensor, sentences: Tensor, own: Sequence[int]) -> Captioned:
    sides = (F.normalize(side.double(), dim=1) for side in (pictures, sentences))
    return Captioned(*sides, torch.tensor(own), None, "none", "")


def test_the_score_is_the_papers() -> None:
    pictures, sentences = torch.randn(2, 20, 5, generator=torch.Generator().manual_seed(1)).unbind()
    found = clip_score(embedded(pictures, sentences, range(20)))
    values = [
        2.5 * max(float(F.cosine_similarity(p, s, dim=0)), 0.0) for p, s in zip(pictures, sentences, strict=True)
    ]
    mean = sum(values) / 20
    assert found.value == pytest.approx(mean, rel=1e-6) and min(values) == 0
    assert found.percent == pytest.approx(40 * mean, rel=1e-6)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / 19)
    assert found.error == pytest.approx(deviation / math.sqrt(20), rel=1e-6)


def test_own_captions_score_the_ceiling_and_strangers_the_floor() -> None:
    numbers = list(range(60))
    right = clip_score(asked(numbers, numbers, real=painted(numbers)))
    assert right.value == pytest.approx(2.5) == right.ceiling and right.above_floor == 1
    assert right.floor is not None and right.floor < 1.5
    strange = clip_score(asked([(number + 7) % 60 for number in numbers], numbers, real=painted(numbers)))
    assert strange.value == pytest.approx(right.floor, abs=0.4) and strange.ceiling == pytest.approx(2.5)
    assert strange.above_floor == pytest.approx(0.5, abs=0.2)


def test_the_more_is_right_the_higher_is_all() -> None:
    numbers = list(range(80))
    found = []
    for wrong in (80, 50, 20, 0):
        shown = [(number + 7) % 80 if number < wrong else number for number in numbers]
        both = asked(shown, numbers)
        found.append((clip_score(both).value, r_precision(both, 10).value))
    assert found == sorted(found) and found[0][1] < 0.3 and found[-1][1] == 1


@pytest.mark.parametrize("values", [3, 4_000_000])
@pytest.mark.parametrize("r", [2, 3, 5])
def test_r_precision_is_the_mean_over_all_choices(r: int, values: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every choice of the others, and every order of those that tie."""
    monkeypatch.setattr(room, "CHUNK_VALUES", values)
    rng = torch.Generator().manual_seed(2)
    sentences = torch.randint(-1, 2, (6, 3), generator=rng).double() + torch.tensor([0.0, 0.0, 2.0]).double()
    pictures, own = torch.randint(-1, 2, (9, 3), generator=rng).double() * 2 + 1, [0, 1, 2, 3, 4, 5, 0, 0, 3]
    given = embedded(pictures, sentences, own)
    cosines = (given.pictures @ given.sentences.T).tolist()

    def share(row: list[float], mine: int) -> float:
        credit = []
        for chosen in itertools.combinations([i for i in range(6) if i != mine], r - 1):
            best = [row[i] for i in chosen]
            ties = sum(value == row[mine] for value in best)
            credit.append(0.0 if max(best) > row[mine] else 1 / (1 + ties))
        return sum(credit) / len(credit)

    expected = [share(row, mine) for row, mine in zip(cosines, own, strict=True)]
    found = r_precision(given, r)
    assert found.value == pytest.approx(sum(expected) / 9, rel=1e-12) and 0 < found.value < 1
    assert found.chance == 1 / r and found.candidates == r


def test_a_clip_that_sees_nothing_is_at_chance() -> None:
    blind = embedded(torch.ones(7, 3), torch.ones(300, 3), range(7))
    assert r_precision(blind).value == pytest.approx(0.01, rel=1e-9) == r_precision(blind).chance
    score = clip_score(embedded(torch.ones(7, 3), torch.ones(7, 3), range(7)))
    assert score.above_floor == 0.5 and score.floor == score.value == pytest.approx(2.5)


def test_random_pictures_are_at_chance_within_the_error() -> None:
    pictures, sentences = torch.randn(2, 400, 6, generator=torch.Generator().manual_seed(3)).unbind()
    found = r_precision(embedded(pictures, sentences, range(400)))
    assert found.candidates == 100 and abs(found.value - 0.01) < 3 * found.error


def test_among_fewer_captions_than_asked_all_are_candidates() -> None:
    found = r_precision(asked(range(7), range(7), real=painted(range(7))))
    assert (found.candidates, found.chance, found.value, found.ceiling) == (7, 1 / 7, 1, 1)
    assert "chance 0.143" in str(found) and "1 of 7 captions, n = 7, numbers@1" in str(found)


def test_a_caption_is_no_stranger_to_its_own_words() -> None:
    """Two pictures with one caption: it is counted once among the candidates, and never as the floor's other."""
    wanted = [number // 4 for number in range(40)]
    given = asked(wanted, wanted)
    assert len(given.sentences) == 10 and r_precision(given).value == 1
    strangers = derangement(given.own)
    assert strangers is not None and (given.own[strangers] != given.own).all()


@pytest.mark.parametrize("counts", [[1] * 5, [1, 1], [3, 3], [4, 1, 1, 2], [2, 2, 2], [1, 2, 3, 4]])
def test_a_derangement_gives_everyone_a_stranger_and_takes_each_once(counts: list[int]) -> None:
    own = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    own = own[torch.randperm(len(own))]
    found = [derangement(own, seed) for seed in range(30)]
    for others in found:
        assert others is not None and others.sort().values.tolist() == list(range(len(own)))
        assert (own[others] != own).all()
    assert torch.equal(found[3], derangement(own, 3))  # type: ignore[arg-type]
    if len(own) > 2:
        assert len({tuple(others.tolist()) for others in found if others is not None}) > 1


def test_where_nearly_all_captions_are_one_there_is_no_floor() -> None:
    assert derangement(torch.tensor([0, 0, 0, 1, 2])) is None
    found = clip_score(asked([1, 1, 1, 2], [1, 1, 1, 2]))
    assert found.floor is None and found.above_floor is None and "floor unknown" in str(found)
    with pytest.raises(InputError, match="from 1 different ones"):
        r_precision(asked([1, 1, 1], [1, 1, 1]))


def test_the_floor_depends_on_the_seed_and_on_nothing_else() -> None:
    given = asked(range(30), range(30))
    state = torch.get_rng_state()
    assert clip_score(given) == clip_score(given) != clip_score(given, seed=1)
    assert torch.equal(torch.get_rng_state(), state)


def test_grey_pictures_and_batches_are_as_others(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = list(range(20))
    whole = asked(numbers, numbers)
    monkeypatch.setattr(room, "BATCH", 3)
    words = [str(number) for number in numbers]
    parts = Captioned.of(painted(numbers, channels=1), words, Numbers())
    torch.testing.assert_close(parts.pictures, whole.pictures)
    torch.testing.assert_close(parts.sentences, whole.sentences)


def test_progress_rises_to_its_total() -> None:
    calls: list[tuple[int, int]] = []
    numbers = [number % 90 for number in range(200)]
    words = [str(number) for number in numbers]
    Captioned.of(painted(numbers), words, Numbers(), real=painted(numbers), progress=lambda *c: calls.append(c))
    assert [done for done, _ in calls] == sorted({done for done, _ in calls}) and calls[-1] == (490, 490)


def test_the_results_are_kept_as_json() -> None:
    given = asked(range(9), range(9), real=painted(range(9)))
    for found, kind in ((clip_score(given), ClipScore), (r_precision(given), RPrecision)):
        kept = json.loads(json.dumps(found.as_dict()))
        kept.pop("percent", None)
        assert kind(**kept) == found
    line = str(clip_score(given))
    assert (
        line.startswith("CLIP score 2.500 ± ") and "ceiling 2.500; 2.5 · max(cos, 0), 100.0 % cosine; n = 9" in line
    )
    assert clip_score(given).as_dict()["percent"] == pytest.approx(100)


def test_the_space_is_a_clips() -> None:
    assert isinstance(Numbers(), Clip)


def test_what_cannot_be_scored_is_refused() -> None:
    words = ["1", "2", "3"]
    with pytest.raises(InputError, match="3 samples need as many captions, one each; got 2"):
        Captioned.of(painted([1, 2, 3]), words[:2], Numbers())
    with pytest.raises(InputError, match="got one string"):
        Captioned.of(painted([1, 2, 3]), "abc", Numbers())
    with pytest.raises(InputError, match="at least 2 pictures; got 1"):
        Captioned.of(painted([1]), words[:1], Numbers())
    with pytest.raises(InputError, match=r"the 3 captions were written for, one each; got 2"):
        Captioned.of(painted([1, 2, 3]), words, Numbers(), real=painted([1, 2]))
    with pytest.raises(InputError, match="uint8"):
        Captioned.of(painted([1, 2, 3]).float(), words, Numbers())
    with pytest.raises(InputError, match="among 1 captions"):
        r_precision(asked([1, 2], [1, 2]), 1)
    broken = Numbers()
    broken.texts = lambda texts: torch.full((len(texts), DIM), torch.nan)  # type: ignore[method-assign]
    with pytest.raises(NonFinite, match="embeddings of numbers@1"):
        Captioned.of(painted([1, 2, 3]), words, broken)
