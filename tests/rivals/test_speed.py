"""The figures that the speed benchmark takes from its rows, the operations it counts, and what it leaves out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from benchmarks import lanes
from benchmarks.lanes import Lane, Ours, gflop, pictures, prepare, present, recipe_of, walked
from benchmarks.peak_memory import forget_peak, held_mb
from benchmarks.rivals.ours import learner
from benchmarks.speed import best, leanest, middle, over, row, summary
from benchmarks.timing import spread
from torch import nn

from carrara.model import build
from carrara.training.computing import Computing


def rated(network: str, mode: str, median: float, share: float = 0.0) -> dict[str, object]:
    return {"network": network, "mode": mode, "median": median, "share": share}


ROWS = [
    rated("unet2d", "float32", 12.0),
    rated("unet2d", "bf16", 30.0),
    rated("diffusers", "float32", 10.0),
    rated("diffusers", "bf16", 20.0),
    rated("unet 28", "float32", 100.0, 0.4),
    rated("unet 28", "bf16", 200.0, 0.6),
]


def test_ratios_are_of_the_fastest_modes() -> None:
    found = summary(ROWS)
    assert found["ratio_fp32_peer"] == 3.0
    assert found["ratio_fp32_both"] == 1.2
    assert found["ratio_best_peer"] == 1.5
    assert found["fraction_of_peak"] == 0.6


def test_what_was_not_timed_has_no_figure() -> None:
    assert summary(ROWS)["fraction_of_peak_transformer"] is None
    assert summary(ROWS[2:])["ratio_best_peer"] is None
    assert best(ROWS, "nobody") is None
    assert over(1.0, None) is None


def test_a_share_is_operations_a_second_over_the_peak() -> None:
    lane = Lane("unet", "bf16", 64, gflop=0.5, parameters=7, call=lambda: None)
    found = row(lane, spread([200.0, 190.0, 210.0]), peaks=[400.0, 300.0, 600.0])
    assert found["share"] == 0.25  # Each turn over the peak of its own moment: 100 of 400, 95 of 300, 105 of 600.
    assert (found["network"], found["mode"], found["median"], found["rounds"]) == ("unet", "bf16", 200.0, 3)
    assert found["peak"] == 400.0 and "each" not in found


def test_operations_are_counted_as_two_a_multiply_add() -> None:
    convolution = nn.Conv2d(3, 5, 3, padding=1)
    assert gflop(convolution, (torch.zeros(1, 3, 8, 8),)) == pytest.approx(2 * 3 * 5 * 9 * 64 / 1e9)


def test_attention_is_counted() -> None:
    class Attend(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.scaled_dot_product_attention(x, x, x)

    assert gflop(Attend(), (torch.zeros(1, 2, 16, 8),)) == pytest.approx(2 * 2 * (2 * 16 * 16 * 8) / 1e9)


def test_networks_that_are_not_there_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    skipped: dict[str, str] = {}
    monkeypatch.setattr(lanes, "OURS", {"here": Ours("unet", (1, 8, 8), 4), "later": Ours("nonesuch", (1, 8, 8), 4)})
    assert list(present(skipped)) == ["here"]
    assert list(skipped) == ["later"]
    assert "nonesuch" in skipped["later"]


def test_ours_is_carraras_own_step_and_walk() -> None:
    ours = Ours("unet", (1, 8, 8), 4)
    taught = learner(recipe_of(ours), pictures(ours.shape, 20), Computing())
    assert taught.step(None).images == 4
    model = build(recipe_of(ours), ours.shape, tuple("0123456789"))
    prepare(model, "float32")
    assert walked(model, 5).shape == (5, 1, 8, 8)


def test_the_peak_is_read_in_millions_of_bytes(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tx\nVmPeak:\t  9 kB\nVmHWM:\t   2000 kB\n")
    assert held_mb("VmHWM", status) == pytest.approx(2.048)


def test_each_side_s_memory_is_that_of_its_leanest_mode() -> None:
    memory = {"carrara float32": 30.0, "carrara bf16": 10.0, "carrara openvino": None, "diffusers float32": 40.0}
    assert (leanest(memory, "carrara"), leanest(memory, "diffusers"), leanest({}, "carrara")) == (10.0, 40.0, None)


def test_a_mode_s_memory_is_the_middle_of_some_processes() -> None:
    assert middle([30.0, 10.0, 20.0]) == 20.0
    assert middle([30.0, None, 20.0]) is None


def test_the_peak_is_of_what_is_held_from_now_on() -> None:
    block = torch.zeros(30_000_000)
    most = held_mb("VmHWM")
    del block
    forget_peak()
    assert held_mb("VmHWM") < most - 60 and held_mb("VmRSS") <= held_mb("VmHWM")
