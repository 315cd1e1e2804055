"""What computes a model's network while it is sampled; the samplers, the guidance and the random streams stay as they are.

A backend is a function (network, example) -> (what is called in the network's place, the precision it computes in).
"""

from __future__ import annotations

from carrara.backends.running import TORCH, Backend, Inputs, Running, running

__all__ = ["BACKENDS", "TORCH", "Backend", "Inputs", "Running", "running"]

BACKENDS: dict[str, str] = {
    TORCH: "carrara.backends.eager:float32",
    "torch-bf16": "carrara.backends.eager:bf16",
    "openvino": "carrara.backends.openvino:fastest",
    "openvino-f32": "carrara.backends.openvino:float32",
}
