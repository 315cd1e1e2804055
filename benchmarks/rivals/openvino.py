"""A peer's network compiled by OpenVINO for bf16, where it is installed."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from carrara.backends.openvino import unreported


def compiled(net: nn.Module, inputs: tuple[Any, ...]) -> Callable[[], Any]:
    """A call that evaluates the network once on `inputs` (tensors), in bf16. Raises ImportError without OpenVINO."""
    if importlib.util.find_spec("openvino") is None:
        raise ImportError("openvino is not installed: pip install 'carrara[bench]'")
    with unreported():
        import openvino

    with warnings.catch_warnings():
        # The tracer names what it takes for constant; all of that is decided by the shape of the pictures, which stays.
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)  # type: ignore[attr-defined]
        found = openvino.convert_model(net, example_input=inputs)
    options = {"INFERENCE_PRECISION_HINT": "bf16", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    request = openvino.compile_model(found, "CPU", options)
    given = [value.numpy() for value in inputs]
    return lambda: request(given)
