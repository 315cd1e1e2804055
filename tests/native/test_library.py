"""The compiled library: made once, and done without where it cannot be."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from carrara.native import common, convolution, library

TRY = """
import logging, torch
logging.basicConfig(level="INFO")
from carrara.native.common import usable
from carrara.networks.unet import UNet
torch.manual_seed(0)
net = UNet(1, 28)
for p in net.parameters():
    torch.nn.init.normal_(p, std=0.05)
x = torch.linspace(-1, 1, 8 * 784).reshape(8, 1, 28, 28)
print(usable(), float(net(x, torch.linspace(0, 1, 8)).double().square().sum()))
"""


def tried(**environment: str) -> tuple[str, float, str]:
    done = subprocess.run(
        [sys.executable, "-c", TRY], capture_output=True, text=True, check=True, env={**os.environ, **environment}
    )
    there, number = done.stdout.split()
    return there, float(number), done.stderr


@pytest.mark.skipif(library.library() is None, reason="there is no C compiler here")
def test_without_the_kernels_everything_is_as_it_is_with_them(tmp_path: Path) -> None:
    there, number, _ = tried()
    assert there == "True"
    for how in ({"CARRARA_NATIVE": "off"}, {"CC": "false", "CARRARA_CACHE": str(tmp_path)}):
        off, plain, said = tried(**how)
        assert off == "False" and plain == pytest.approx(number, rel=1e-4)
        assert ("torch's are used" in said) == ("CC" in how)


@pytest.mark.skipif(library.library() is None, reason="there is no C compiler here")
def test_the_trial_is_in_float32_wherever_it_is_made() -> None:
    common.usable.cache_clear()
    with torch.autocast("cpu", torch.bfloat16):
        assert common.usable()


@pytest.mark.skipif(library.library() is None, reason="there is no C compiler here")
def test_a_kernel_that_computes_something_else_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution, "convolve", lambda x, w, *_: torch.conv2d(x, w, padding=1) * 1.01)
    common.usable.cache_clear()
    assert not common.usable()
    common.usable.cache_clear()


@pytest.mark.skipif(library.library() is None, reason="there is no C compiler here")
def test_it_is_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARRARA_CACHE", str(tmp_path))
    monkeypatch.setattr(library, "FLAGS", (*library.FLAGS, "-O0"))  # Made well it takes half a minute.
    made = library.built()
    stamp = made.stat().st_mtime_ns
    assert library.built() == made and made.stat().st_mtime_ns == stamp
    assert [p.name for p in made.parent.iterdir()] == [made.name]


def test_another_compiler_or_processor_is_another_library(monkeypatch: pytest.MonkeyPatch) -> None:
    first = library._key(["echo", "one"])
    assert first != library._key(["echo", "two"])
    monkeypatch.setattr(library, "_processor", lambda: ["another"])
    assert first != library._key(["echo", "one"])


def test_no_compiler_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(library.shutil, "which", lambda name: None)
    with pytest.raises(OSError, match="install one, or set CC"):
        library._compiler()
