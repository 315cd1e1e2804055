"""OpenVINO computes what the network does, at any batch; its second start reads what the first has compiled."""

from __future__ import annotations

import gc
import importlib.util
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

from carrara.backends import openvino as backend
from carrara.backends.running import Inputs
from carrara.errors import InputError, MissingExtra
from carrara.model import Model, build
from carrara.recipe import changed, check

needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="needs the package openvino (the extra `openvino`)"
)
SETTINGS: dict[str, Any] = {
    "name": "tiny",
    "data": {"kind": "digits"},
    "network": {"kind": "unet", "width": 8, "depth": 1},
    "sampling": {"sampler": "heun", "steps": 3},
}


def refused(*_: object, **__: object) -> NoReturn:
    raise AssertionError("refused")


@pytest.fixture(scope="module", autouse=True)
def cached(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache for this file, for compiling takes seconds. All the while nothing can be sent anywhere."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CARRARA_CACHE", str(folder))
        patch.setattr(socket.socket, "connect", refused)
        yield folder / "openvino"


def made(*changes: str, classes: tuple[str, ...] = ("cat", "dog", "owl"), side: int = 8) -> Model:
    """A model whose every parameter is drawn at random."""
    model = build(check(changed(SETTINGS, changes)), (1, side, side), classes)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.denoiser.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


@needs_openvino
@pytest.mark.parametrize(
    ("changes", "side"),
    [
        ((), 8),
        (("sampling.guidance_scale=2",), 8),
        (("condition.kind=none", "variance.kind=learned"), 8),
        ((), 30),
        (("network={kind: dit, width: 16, depth: 1, head_width: 8}",), 8),
        (("network={kind: unet2d, widths: [8, 8], groups: 4}",), 8),
    ],
)
def test_float32_draws_the_same_pictures(
    changes: tuple[str, ...], side: int, capfd: pytest.CaptureFixture[str]
) -> None:
    model = made(*changes, side=side)
    wanted = model.sample(5, batch=2, exact=False)
    model.use("openvino-f32")
    assert model.backend is not None and model.backend.precision == "float32" and model.backend.error < 1e-4
    # Batches of 2 and 1 and, guided, of 4 and 2: the last is not the size that was exported.
    assert (model.sample(5, batch=2, exact=False).int() - wanted.int()).abs().max() <= 1
    assert capfd.readouterr() == ("", "")


@needs_openvino
def test_the_fastest_is_near() -> None:
    model = made()
    exact = model.sample(6)
    model.use("openvino")
    assert model.backend is not None and model.backend.error < 0.08
    assert (model.sample(6).int() - exact.int()).abs().float().mean() < 8


@needs_openvino
def test_without_a_condition_it_is_asked_for_the_null() -> None:
    model = made()
    network = model.denoiser.network.eval()
    model.use("openvino-f32")
    assert model.backend is not None
    with torch.no_grad():
        x, level = torch.randn(3, 1, 8, 8), torch.full((3,), 0.5)
        assert torch.allclose(model.backend(x, level), network(x, level), atol=1e-4)


@needs_openvino
def test_signals_are_heard_when_the_compiled_networks_are_gone() -> None:
    """With a core for each, the plugin was unloaded with the last of them, and the next signal was a segmentation fault."""
    for _ in range(2):
        made().use("openvino-f32")
        gc.collect()
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    os.kill(os.getpid(), signal.SIGINT)
    signal.signal(signal.SIGINT, before)
    assert heard == [signal.SIGINT]


@needs_openvino
def test_the_second_start_compiles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made()
    model.use("openvino-f32")
    pictures = model.sample(3)
    monkeypatch.setattr(backend, "_converted", refused)
    model.use("openvino-f32")
    assert torch.equal(model.sample(3), pictures)


@needs_openvino
def test_other_weights_networks_and_damaged_files_are_compiled_anew(
    cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made().use("openvino-f32")
    monkeypatch.setattr(backend, "_converted", refused)
    made().use("openvino-f32")
    with pytest.raises(AssertionError, match="refused"):
        made("network.width=16").use("openvino-f32")
    model = made()
    with torch.no_grad():
        next(model.denoiser.network.parameters()).add_(0.1)
    with pytest.raises(AssertionError, match="refused"):
        model.use("openvino-f32")
    for path in cached.iterdir():
        path.write_bytes(path.read_bytes()[:-100] + bytes(100))
    with pytest.raises(AssertionError, match="refused"):
        made().use("openvino-f32")


REPORTED = """
from pathlib import Path
(Path(__file__).parent / "imported").touch()
"""
IMPORTS = """
from carrara.backends import openvino
assert openvino._openvino().Core and openvino.TELEMETRY not in __import__("sys").modules
"""


@needs_openvino
def test_openvino_reports_nothing(tmp_path: Path) -> None:
    telemetry = tmp_path / f"{backend.TELEMETRY}.py"
    telemetry.write_text(REPORTED)
    paths = [str(tmp_path), *sys.path]
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not (tmp_path / "imported").exists()


@needs_openvino
def test_a_network_that_cannot_be_exported_is_refused_in_a_sentence() -> None:
    class Fickle(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(()))

        def forward(self, x: torch.Tensor, level: torch.Tensor, cond: Any = None) -> torch.Tensor:
            return x * self.weight if bool(x.sum() > 0) else x

    example = Inputs(torch.randn(6, 1, 8, 8), torch.rand(6), None)
    with pytest.raises(InputError, match=r"OpenVINO cannot compute this network \(.+\); use the backend torch$"):
        backend.float32(Fickle(), example)


def test_on_another_device_it_is_refused() -> None:
    example = Inputs(torch.zeros(6, 1, 8, 8, device="meta"), torch.zeros(6), None)
    with pytest.raises(InputError, match="OpenVINO computes on the CPU, and this model is on meta"):
        backend.float32(torch.nn.Identity(), example)


@pytest.mark.parametrize("name", ["openvino", "openvino-f32"])
def test_without_the_package_it_says_what_to_install(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtra, match=r"needs the package openvino.*pip install 'carrara\[openvino\]'"):
        made().use(name)
