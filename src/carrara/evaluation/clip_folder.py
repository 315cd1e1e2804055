"""Any CLIP on the disk in the layout of `transformers`: weights, tokenizer and preprocessing, from its own files.

    config.json                    model_type: clip
    model.safetensors              or several, with model.safetensors.index.json
    preprocessor_config.json       or processor_config.json with an image_processor in it
    tokenizer.json, …              what AutoTokenizer reads

Nothing is fetched: what is not in the folder is an error. Pictures are resized by Pillow in 8 bits, as when such
networks were trained. Source: Learning Transferable Visual Models From Natural Language Supervision, Radford et al., 2021.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from carrara import files
from carrara.errors import DamagedFile, InputError, MissingExtra
from carrara.evaluation.clip import checked_rgb

BATCH = 16
TOKENIZERS = (("tokenizer.json",), ("vocab.json", "merges.txt"))
# What CLIP was trained with, and what a preprocessor_config.json leaves out when it does not differ.
SIDE = 224
BICUBIC = 3
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes the network's input: resized, its middle cut out, scaled to [0, 1], normalised."""

    resize: int | tuple[int, int] | None
    """The short side in pixels, or (height, width); None leaves the size as it is."""
    crop: tuple[int, int] | None
    """(height, width) cut from the middle, black where the picture is smaller; None keeps all."""
    resample: int
    """Pillow's number of the filter; 3 is bicubic."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @classmethod
    def read(cls, folder: Path) -> Preprocessing:
        """What the folder's own preprocessor_config.json, or else processor_config.json, says; otherwise InputError."""
        path = next(
            (p for name in ("preprocessor", "processor") if (p := folder / f"{name}_config.json").is_file()), None
        )
        if path is None:
            raise InputError(
                f"{folder} has no preprocessor_config.json: without it nobody knows how its pictures are resized and "
                "normalised. Copy it from where the model came from."
            )
        words = files.read_json(path)
        try:
            return cls._of(words.get("image_processor", words))
        except (TypeError, ValueError, AttributeError, LookupError) as error:
            raise InputError(f"{path} describes no preprocessing of CLIP's kind ({error}).") from error

    @classmethod
    def _of(cls, words: Mapping[str, Any]) -> Preprocessing:
        if not (words.get("do_rescale", True) and words.get("do_normalize", True)):
            raise ValueError("it leaves out rescaling or normalising")
        if abs(words.get("rescale_factor", 1 / 255) * 255 - 1) > 1e-6:
            raise ValueError(f"rescale_factor {words['rescale_factor']} is not 1/255")
        resample = int(words.get("resample", BICUBIC))
        Image.Resampling(resample)
        return cls(
            _short_side(words.get("size", SIDE)) if words.get("do_resize", True) else None,
            _both_sides(words.get("crop_size", SIDE)) if words.get("do_center_crop", True) else None,
            resample,
            _colour(words.get("image_mean", MEAN)),
            _colour(words.get("image_std", STD)),
        )

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of what comes out, where that is the same for every picture; otherwise InputError."""
        fixed = self.crop or (self.resize if isinstance(self.resize, tuple) else None)
        if fixed is None:
            raise InputError("this preprocessing neither crops nor resizes to a rectangle; a CLIP needs one size.")
        return fixed

    def __call__(self, images: Tensor) -> Tensor:
        """Float32 (B, 3, *size) of uint8 images (B, 3, H, W)."""
        pixels = np.stack([self._fitted(image) for image in images.permute(0, 2, 3, 1).numpy()])
        scaled = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        mean, std = (torch.tensor(row)[:, None, None] for row in (self.mean, self.std))
        return (scaled - mean) / std

    def _fitted(self, pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        image = Image.fromarray(np.ascontiguousarray(pixels))
        if self.resize is not None:
            image = image.resize(_resized(image.size, self.resize), Image.Resampling(self.resample))
        if self.crop is not None:
            (width, height), (tall, wide) = image.size, self.crop
            left, top = (width - wide) // 2, (height - tall) // 2
            image = image.crop((left, top, left + wide, top + tall))
        return np.asarray(image, dtype=np.uint8)

    def __str__(self) -> str:
        filter_name = Image.Resampling(self.resample).name.lower()
        resize = "as they are" if self.resize is None else f"Pillow {filter_name} {_said(self.resize)}"
        return resize if self.crop is None else f"{resize}, the middle {_said(self.crop)}"


@dataclass(frozen=True)
class FolderClip:
    """The Clip of a folder; `resizer` says how it brings pictures to its input size."""

    name: str
    dim: int
    sha256: str
    resizer: str
    prepare: Preprocessing = field(repr=False)
    tokenize: Callable[[list[str]], Mapping[str, Tensor]] = field(repr=False)
    network: Any = field(repr=False)

    @torch.inference_mode()
    def _images(self, images: Tensor) -> Tensor:
        seen = self.network.vision_model(pixel_values=self.prepare(images))
        return F.normalize(self.network.visual_projection(seen.pooler_output), dim=1)

    @torch.inference_mode()
    def _texts(self, texts: list[str]) -> Tensor:
        read = self.network.text_model(**self.tokenize(texts))
        return F.normalize(self.network.text_projection(read.pooler_output), dim=1)

    def images(self, images: Tensor, /) -> Tensor:
        """Float32 unit vectors (B, dim) of uint8 images (B, 3, H, W); InputError on anything else."""
        images = checked_rgb(images)
        vectors = torch.empty(len(images), self.dim)
        for start in range(0, len(images), BATCH):
            vectors[start : start + BATCH] = self._images(images[start : start + BATCH])
        return vectors

    def texts(self, texts: Sequence[str], /) -> Tensor:
        """Float32 unit vectors (B, dim) of sentences, cut after as many tokens as the network reads."""
        vectors = torch.empty(len(texts), self.dim)
        for start in range(0, len(texts), BATCH):
            vectors[start : start + BATCH] = self._texts(list(texts[start : start + BATCH]))
        return vectors


def load_clip(folder: Path) -> FolderClip:
    """The Clip in a folder of `transformers`' layout (see above), in float32 on the CPU.

    Raises MissingExtra without `carrara[text]`, InputError where the folder holds no CLIP or lacks a file,
    DamagedFile where its weights are not the network's.
    """
    folder = Path(folder).expanduser()
    _check_layout(folder)
    _check_words(folder)
    transformers = _transformers()
    prepare = Preprocessing.read(folder)
    with quiet(transformers):
        network = _network(transformers, folder)
        tokenize = _tokenizer(transformers, folder, network.config.text_config)
    _check_size(folder, prepare, network.config.vision_config.image_size)
    name = f"{folder.resolve().name}@{prepare.size[0]}"
    dim = int(network.config.projection_dim)
    return FolderClip(name, dim, weights_hash(folder), str(prepare), prepare, tokenize, network)


def _check_layout(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder} is no folder of a transformers CLIP: it has no config.json.")
    kind = files.read_json(folder / "config.json").get("model_type")
    if kind != "clip":
        raise InputError(f"{folder} holds a model of type {kind!r}; a CLIP is needed, whose model_type is 'clip'.")
    if not weights_files(folder):
        raise InputError(
            f"{folder} has no model.safetensors. Weights in other files, such as pytorch_model.bin, can run code when "
            "they are opened; save the model as safetensors first."
        )


def _check_words(folder: Path) -> None:
    # Without these files AutoTokenizer makes a tokenizer that knows no word, and says nothing.
    if not any(all((folder / name).is_file() for name in names) for names in TOKENIZERS):
        raise InputError(
            f"{folder} has no tokenizer: neither tokenizer.json nor vocab.json and merges.txt. "
            "Copy it from where the model came from."
        )


def _transformers() -> Any:
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise MissingExtra("transformers", "text", "Reading a CLIP from a folder") from error


def _network(transformers: Any, folder: Path) -> Any:
    try:
        network, told = transformers.CLIPModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
    except Exception as error:  # Its readers, and safetensors', raise nearly anything on damaged files.
        raise DamagedFile(f"the CLIP in {folder} cannot be loaded: {' '.join(str(error).split())[:300]}") from error
    # Old files carry the numbers of positions, 0, 1, 2, …, which are no weights.
    odd = [key for word in ("missing_keys", "unexpected_keys") for key in told[word] if "position_ids" not in key]
    if odd:
        raise DamagedFile(
            f"the weights in {folder} are not those of the network in its config.json: {len(odd)} tensors are missing "
            f"or belong elsewhere, such as {odd[0]}."
        )
    return network.eval().requires_grad_(False)


def _tokenizer(transformers: Any, folder: Path, config: Any) -> Callable[[list[str]], Mapping[str, Tensor]]:
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        raise InputError(
            f"the tokenizer in {folder} cannot be read ({' '.join(str(error).split())[:200]}). "
            "Copy tokenizer.json and tokenizer_config.json from where the model came from."
        ) from error
    if len(tokenizer) > config.vocab_size:
        raise InputError(
            f"the tokenizer in {folder} knows {len(tokenizer)} tokens, but the network {config.vocab_size}: "
            "they belong to different models."
        )
    most = int(config.max_position_embeddings)

    def tokenize(texts: list[str]) -> Mapping[str, Tensor]:
        found = tokenizer(texts, padding=True, truncation=True, max_length=most, return_tensors="pt")
        return {word: found[word] for word in ("input_ids", "attention_mask")}

    return tokenize


def _check_size(folder: Path, prepare: Preprocessing, size: int) -> None:
    if prepare.size != (size, size):
        raise InputError(
            f"the preprocessing in {folder} gives pictures of {_said(prepare.size)}, but the network takes "
            f"{size} x {size}: its files belong to different models."
        )


def weights_files(folder: Path) -> list[Path]:
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    return sorted(folder.glob("model-*-of-*.safetensors"))


def weights_hash(folder: Path) -> str:
    """The SHA-256 of the weights file; of several, that of their hashes one after the other."""
    hashes = [files.sha256(path) for path in weights_files(folder)]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


@contextmanager
def quiet(transformers: Any) -> Iterator[None]:
    """Within, transformers draws no bar and gives no advice; afterwards it is as it was."""
    voice = transformers.utils.logging
    level, bar = voice.get_verbosity(), voice.is_progress_bar_enabled()
    voice.set_verbosity(logging.CRITICAL)
    voice.disable_progress_bar()
    try:
        yield
    finally:
        voice.set_verbosity(level)
        if bar:
            voice.enable_progress_bar()


def _short_side(size: Any) -> int | tuple[int, int]:
    if isinstance(size, Mapping) and "shortest_edge" in size:
        return _positive(size["shortest_edge"])
    return _both_sides(size) if isinstance(size, Mapping) else _positive(size)


def _both_sides(size: Any) -> tuple[int, int]:
    if isinstance(size, Mapping):
        return _positive(size["height"]), _positive(size["width"])
    return _positive(size), _positive(size)


def _positive(side: Any) -> int:
    if isinstance(side, bool) or not isinstance(side, int) or side < 1:
        raise ValueError(f"a side of {side!r} pixels")
    return side


def _colour(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _resized(size: tuple[int, int], target: int | tuple[int, int]) -> tuple[int, int]:
    """(width, height) after resizing a picture of (width, height); the long side is rounded down."""
    if isinstance(target, tuple):
        return target[1], target[0]
    width, height = size
    long = int(target * max(size) / min(size))
    return (target, long) if width <= height else (long, target)


def _said(size: int | tuple[int, int]) -> str:
    return f"short side {size}" if isinstance(size, int) else f"{size[0]} x {size[1]}"
