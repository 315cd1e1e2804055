"""The C files of this folder as one library, compiled for this processor when it is first wanted and kept in the cache."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from carrara.files import cache_dir

log = logging.getLogger(__name__)

OFF = "CARRARA_NATIVE"
"""The environment variable that, set to "off", does without compiled kernels; set to "vectors", without matrix tiles."""
HERE = Path(__file__).parent
FLAGS = (
    "-std=gnu11", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-fPIC", "-shared",
)  # fmt: skip
COMPILE_S = 300
TYPES = {"p": ctypes.c_void_p, "i": ctypes.c_int, "f": ctypes.c_float, "z": ctypes.c_ssize_t}
SIGNATURES = {
    "carrara_coarse": ("", ctypes.c_int),
    "carrara_packed": ("iii", ctypes.c_size_t),
    "carrara_bits": ("pzi", ctypes.c_uint64),
    "carrara_pack": ("pzzzzpiiii", None),
    "carrara_convolve": ("pppppiiiiiiii", ctypes.c_int),
    "carrara_weights": ("ppppiiiiiiii", ctypes.c_int),
    "carrara_group_norm": ("pppipppiiiifiii", ctypes.c_int),
    "carrara_group_norm_adjoint": ("ppppipppppiiiiiii", ctypes.c_int),
    "carrara_attend": ("pppippippiiiiiii", ctypes.c_int),
    "carrara_attend_adjoint": ("pppippipppppppiiiiiii", ctypes.c_int),
    "carrara_silu": ("pppziii", None),
    "carrara_silu_adjoint": ("pppppziii", ctypes.c_int),
    "carrara_gated": ("pppppiiiii", None),
    "carrara_gated_adjoint": ("pppppppiiiii", None),
    "carrara_layer_norm": ("pppipppiiifiii", None),
    "carrara_layer_norm_adjoint": ("pppipppppiiiiii", None),
}
"""For each function its arguments' types, a letter each, and its result's."""


@functools.cache
def library() -> ctypes.CDLL | None:
    """The kernels; None, and the reason in the log, where there are none: no C compiler, or CARRARA_NATIVE=off."""
    if os.environ.get(OFF, "").lower() in ("off", "0", "no"):
        return None
    try:
        return _typed(ctypes.CDLL(str(built())))
    except (OSError, subprocess.SubprocessError, AttributeError) as error:
        detail = getattr(error, "stderr", None) or str(error)
        log.info("carrara's own kernels cannot be compiled here, torch's are used: %s", detail.strip())
        return None


def built() -> Path:
    """The compiled library, made where it is not there yet.

    Raises OSError where there is no compiler, no room, or a processor that gains nothing by them, SubprocessError where it fails.
    """
    _check_vectors()
    compiler = _compiler()
    path = cache_dir() / "native" / f"{_key(compiler)}.so"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as folder:
            made = Path(folder) / "made.so"
            command = [*compiler, *FLAGS, "-o", str(made), *map(str, sorted(HERE.glob("*.c"))), "-lm"]
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=COMPILE_S)
            made.replace(path)
    return path


def _check_vectors() -> None:
    """Raises OSError on an x86 processor without AVX2: the kernels' vectors would be pieced together, slowly, and take minutes to
    compile."""
    flags = next((line for line in _processor() if line.startswith("flags")), "avx2")
    if platform.machine() in ("x86_64", "AMD64") and "avx2" not in flags.split():
        raise OSError("this processor has no AVX2")


def _compiler() -> list[str]:
    """The command of the C compiler: CC, or the first of the usual names that is there."""
    if given := os.environ.get("CC"):
        return shlex.split(given)
    for name in ("cc", "gcc", "clang"):
        if found := shutil.which(name):
            return [found]
    raise OSError("there is no C compiler (cc, gcc or clang); install one, or set CC")


def _key(compiler: list[str]) -> str:
    """What the compiled library depends on, as a hash: sources, compiler, flags, processor."""
    version = subprocess.run([*compiler, "--version"], check=True, capture_output=True, text=True, timeout=60).stdout
    digest = hashlib.sha256(repr((version, FLAGS, platform.machine(), _processor())).encode())
    for path in sorted(HERE.glob("*.[ch]")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:24]


def _processor() -> list[str]:
    """What this processor is and can do."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else [platform.processor()]
    return sorted(
        {line for line in lines if line.startswith(("model", "cpu family", "flags", "Features", "CPU part"))}
    )


def _typed(made: ctypes.CDLL) -> ctypes.CDLL:
    for name, (letters, result) in SIGNATURES.items():
        function = getattr(made, name)
        function.argtypes = [TYPES[letter] for letter in letters]
        function.restype = result
    return made
