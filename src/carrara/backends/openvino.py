"""The network compiled by OpenVINO, with `pip install 'carrara[openvino]'`.

The network is exported by torch, for batches of any size, and read by OpenVINO's PyTorch front end. What was compiled is kept
in the cache folder under the weights, the versions, the processor and the precision.

OpenVINO reports to its makers that it was imported and what it converts, unless its package openvino_telemetry is not there.
carrara talks to nobody, so that package is hidden while it imports the other.
"""

from __future__ import annotations

import functools
import importlib
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from carrara import __version__, about, native, tensors
from carrara.backends.running import Inputs, Precision
from carrara.denoisers import Cond, Network
from carrara.errors import InputError, MissingExtra
from carrara.evaluation import cache
from carrara.files import cache_dir

BLOB = "blob"
TELEMETRY = "openvino_telemetry"
HINTS: dict[Precision, str] = {"float32": "f32", "bfloat16": "bf16"}


def fastest(network: nn.Module, example: Inputs) -> tuple[Network, Precision]:
    """The network in bf16 where the processor computes in it, else in float32."""
    capable = "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return _either(network, example, "bfloat16" if capable else "float32")


def float32(network: nn.Module, example: Inputs) -> tuple[Network, Precision]:
    """The network in float32."""
    return _either(network, example, "float32")


class Compiled:
    """A compiled network, called like the network itself, from one thread at a time."""

    def __init__(self, compiled: Any, blob: bytes | None, null: dict[str, Tensor]) -> None:
        """`blob`: what it was read from, if from a blob, which has to stay as long as it does. `null`: the condition of one sample
        that says nothing, taken where none is given.
        """
        self._blob = blob
        self._request, self._null = compiled.create_infer_request(), null
        self._lock = threading.Lock()

    def __call__(self, x: Tensor, level: Tensor, cond: Cond | None = None) -> Tensor:
        given = [(cond or self._null)[name].expand(len(x), *null.shape[1:]) for name, null in self._null.items()]
        inputs = [value.detach().contiguous().numpy() for value in (x.float(), level.float(), *given)]
        # One request has one set of buffers, so that its output is copied before another thread may ask.
        with self._lock:
            out = self._request.infer(inputs, share_inputs=True)[0].copy()
        return torch.from_numpy(out).to(x.dtype)


class Flat(nn.Module):
    """A network that takes its condition as positional tensors, as an exported one must."""

    def __init__(self, network: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.network, self.names = network, names

    def forward(self, x: Tensor, level: Tensor, *cond: Tensor) -> Tensor:
        out: Tensor = self.network(x, level, dict(zip(self.names, cond, strict=True)) if self.names else None)
        return out


def _either(network: nn.Module, example: Inputs, precision: Precision) -> tuple[Network, Precision]:
    if example.x.device.type != "cpu":
        raise InputError(f"OpenVINO computes on the CPU, and this model is on {example.x.device}; load it on the CPU")
    null = {name: value[-1:].clone() for name, value in (example.cond or {}).items()}
    return Compiled(*_compiled(network, example, precision), null), precision


def _compiled(network: nn.Module, example: Inputs, precision: Precision) -> tuple[Any, bytes | None]:
    """The compiled network: from the cache, and what it was read from there, or compiled now and kept there."""
    core, key, folder = _core(), _key(network, example, precision), cache_dir() / "openvino"
    options = {
        "INFERENCE_PRECISION_HINT": HINTS[precision],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    kept = cache.find(key, folder)
    if kept is not None:
        blob = kept[BLOB].numpy().tobytes()
        return core.import_model(blob, "CPU", options), blob
    compiled = core.compile_model(_converted(network, example), "CPU", options)
    exported = bytearray(compiled.export_model().getvalue())
    cache.keep(key, {BLOB: torch.frombuffer(exported, dtype=torch.uint8)}, folder)
    return compiled, None


def _key(network: nn.Module, example: Inputs, precision: Precision) -> dict[str, str | int]:
    """All that decides what is compiled."""
    return {
        "weights": tensors.sha256(network.state_dict()),
        "network": repr(network),
        "x": str(tuple(example.x.shape[1:])),
        "precision": precision,
        "threads": torch.get_num_threads(),
        "processor": about.processor(),
        "carrara": __version__,
        "torch": torch.__version__,
        "openvino": _openvino().__version__,
    }


def _converted(network: nn.Module, example: Inputs) -> Any:
    """OpenVINO's model of the network, for any batch. Raises InputError where there is none."""
    openvino, frontend = _openvino(), importlib.import_module("openvino.frontend")
    decoder = importlib.import_module("openvino.frontend.pytorch.fx_decoder").TorchFXPythonDecoder
    with _quiet():
        try:
            program = decoder.from_exported_program(_exported(network, example.first(2)))
            reader = frontend.FrontEndManager().load_by_framework("pytorch")
            converted = reader.convert(reader.load(program))
        except Exception as error:  # Neither torch nor OpenVINO says what it raises for a network it does not know.
            first = str(error).strip().partition("\n")[0].partition("! For more")[0]
            raise InputError(f"OpenVINO cannot compute this network ({first}); use the backend torch") from error
    shapes = [openvino.PartialShape([-1, *given.shape[1:]]) for given in _given(example)]
    converted.reshape(dict(enumerate(shapes)))
    return converted


def _exported(network: nn.Module, example: Inputs) -> torch.export.ExportedProgram:
    """The network as a graph whose batch may be of any size."""
    names, any_size = tuple(example.cond or {}), {0: torch.export.Dim("batch", min=1)}
    shapes = {"x": any_size, "level": any_size, **({"cond": (any_size,) * len(names)} if names else {})}
    with native.chosen("torch"):  # OpenVINO has kernels of its own, and does not know ours.
        return torch.export.export(Flat(network, names).eval(), _given(example), dynamic_shapes=shapes)


def _given(example: Inputs) -> tuple[Tensor, ...]:
    return (example.x, example.level, *(example.cond or {}).values())


@contextmanager
def _quiet() -> Iterator[None]:
    """Within, nothing is said of operations that the front end looked for and this torch has not."""

    def silent(record: logging.LogRecord) -> bool:
        return False

    root = logging.getLogger()
    root.addFilter(silent)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.removeFilter(silent)


@functools.cache
def _core() -> Any:
    """One for the whole process: when the last of several goes, its plugin is unloaded, and the next signal ends the process."""
    return _openvino().Core()


def _openvino() -> Any:
    """The package. Raises MissingExtra without it."""
    try:
        with unreported():
            return importlib.import_module("openvino")
    except ImportError as error:
        raise MissingExtra("openvino", "openvino", "The backend openvino") from error


@contextmanager
def unreported() -> Iterator[None]:
    """Within, openvino_telemetry cannot be imported, in whose place OpenVINO has a stub that does nothing."""
    if TELEMETRY in sys.modules or "openvino" in sys.modules:  # Somebody else has imported them, and decided.
        yield
        return
    sys.modules[TELEMETRY] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[TELEMETRY]
