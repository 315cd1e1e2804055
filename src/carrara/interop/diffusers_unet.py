"""diffusers' UNet2DModel as carrara's `unet2d`, and back: the same numbers under other names.

A pretrained one, in the files that diffusers writes (config.json and diffusion_pytorch_model.safetensors):

    network = unet2d(json.loads(config.read_text()), tensors.load(weights))
    out = network.at(x, timestep, label)

Strict both ways: a configuration that `unet2d` cannot be, and every name that finds no place, raise InputError.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from carrara.errors import InputError
from carrara.networks.unet2d import UNet2D

PARTS = {
    "enter": "conv_in",
    "level.0": "time_embedding.linear_1",
    "level.2": "time_embedding.linear_2",
    "label": "class_embedding",
    "norm": "conv_norm_out",
    "leave": "conv_out",
}
INNER = {"modulate": "time_emb_proj", "skip": "conv_shortcut", "norm": "group_norm", "out": "to_out.0"}
FUSED = ("to_q", "to_k", "to_v")
"""Three linear layers there, one here: their rows one after the other."""

FORMER = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""What diffusers before 0.17 called them, in files that are still about."""

DEFAULTS: dict[str, Any] = {
    "sample_size": None,
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    "block_out_channels": (224, 448, 672, 896),
    "layers_per_block": 2,
    "attention_head_dim": 8,
    "norm_num_groups": 32,
    "norm_eps": 1e-5,
    "dropout": 0.0,
    "downsample_padding": 1,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "resnet_time_scale_shift": "default",
    "num_class_embeds": None,
    "time_embedding_dim": None,
}
"""UNet2DModel's own, for what a configuration leaves out."""

ONLY: dict[str, tuple[Any, ...]] = {
    "center_input_sample": (False,),
    "time_embedding_type": ("positional",),
    "mid_block_type": ("UNetMidBlock2D",),
    "mid_block_scale_factor": (1,),
    "downsample_type": ("conv",),
    "upsample_type": ("conv",),
    "act_fn": ("silu", "swish"),
    "attn_norm_num_groups": (None,),
    "resnet_time_scale_shift": ("default", "scale_shift"),
    "add_attention": (True,),
    "class_embed_type": (None,),
    "num_train_timesteps": (None,),
}
"""What `unet2d` is in each of these ways; it has no other."""


def unet2d(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> UNet2D:
    """The network of a UNet2DModel's configuration and state dict, in evaluation mode.

    Of its class embeddings the last becomes the null. Raises InputError where `options` or `to_carrara` does.
    """
    given = options(config)
    network = UNet2D(**given)
    network.load_state_dict(to_carrara(state, given))
    return network.eval()


def options(config: Mapping[str, Any]) -> dict[str, Any]:
    """What UNet2D's constructor is given for a UNet2DModel's configuration (its config.json, or what was passed to it).

    Raises InputError for what `unet2d` cannot be, and for a key that UNet2DModel does not have.
    """
    given = {key: value for key, value in config.items() if not key.startswith("_")}
    _check(given)
    full = {**DEFAULTS, **given}
    classes = full["num_class_embeds"]
    return {
        "channels": full["in_channels"],
        "size": _longest(full["sample_size"]),
        "classes": 0 if classes is None else classes - 1,
        "widths": tuple(full["block_out_channels"]),
        "depth": full["layers_per_block"],
        "attend": _attend(full),
        "head_width": full["attention_head_dim"],
        "groups": full["norm_num_groups"],
        "dropout": full["dropout"],
        "scale_shift": full["resnet_time_scale_shift"] == "scale_shift",
        "down_padding": full["downsample_padding"],
        "eps": full["norm_eps"],
        "cos_first": full["flip_sin_to_cos"],
        "freq_shift": full["freq_shift"],
        "outputs": full["out_channels"],
    }


def config(options: Mapping[str, Any]) -> dict[str, Any]:
    """What UNet2DModel's constructor is given for all of UNet2D's options, as `options` returns them."""
    widths, levels = tuple(options["widths"]), len(options["widths"])
    attend = range(1, levels) if options["attend"] is None else options["attend"]
    down = tuple("AttnDownBlock2D" if i in attend else "DownBlock2D" for i in range(levels))
    up = tuple("AttnUpBlock2D" if i in attend else "UpBlock2D" for i in reversed(range(levels)))
    return {
        "sample_size": options["size"] or None,
        "in_channels": options["channels"],
        "out_channels": options["outputs"] or options["channels"],
        "down_block_types": down,
        "up_block_types": up,
        "block_out_channels": widths,
        "layers_per_block": options["depth"],
        "attention_head_dim": options["head_width"],
        "norm_num_groups": options["groups"],
        "norm_eps": options["eps"],
        "dropout": options["dropout"],
        "downsample_padding": options["down_padding"],
        "flip_sin_to_cos": options["cos_first"],
        "freq_shift": options["freq_shift"],
        "resnet_time_scale_shift": "scale_shift" if options["scale_shift"] else "default",
        "num_class_embeds": options["classes"] + 1 if options["classes"] else None,
    }


def to_carrara(state: Mapping[str, Tensor], options: Mapping[str, Any]) -> dict[str, Tensor]:
    """UNet2D's state dict from a UNet2DModel's. Raises InputError naming every key that is lacking, left over or misshapen."""
    state = {_newer(name): tensor for name, tensor in state.items()}
    shapes = _shapes(options)
    sources = {name: _theirs(name, options["depth"]) for name in shapes}
    wanted = {source: _share(shapes[name], len(names)) for name, names in sources.items() for source in names}
    _check_state(state, wanted)
    return {name: torch.cat([state[source] for source in names]) for name, names in sources.items()}


def to_diffusers(state: Mapping[str, Tensor], options: Mapping[str, Any]) -> dict[str, Tensor]:
    """UNet2DModel's state dict from a UNet2D's. Raises InputError naming every key that is lacking, left over or misshapen."""
    _check_state(state, _shapes(options))
    made: dict[str, Tensor] = {}
    for name, tensor in state.items():
        targets = _theirs(name, options["depth"])
        made |= zip(targets, tensor.chunk(len(targets)), strict=True)
    return made


def _theirs(name: str, depth: int) -> list[str]:
    """diffusers' names of what is one tensor of ours."""
    module, _, kind = name.rpartition(".")
    if module in PARTS:
        return [f"{PARTS[module]}.{kind}"]
    room, index, first, *rest = module.split(".")
    place = _place(room, int(index), depth)
    if first == "conv":
        return [f"{place}.conv.{kind}"]
    place = place.format("attentions" if first == "attention" else "resnets")
    inner = FUSED if rest == ["qkv"] else (INNER.get(rest[0], rest[0]),)
    return [f"{place}.{part}.{kind}" for part in inner]


def _place(room: str, index: int, depth: int) -> str:
    """The block that is number `index` of `down`, `middle` or `up`; `{}` stands for resnets or attentions."""
    if room == "middle":
        return f"mid_block.{{}}.{index}"
    each, sampler = (depth + 1, "downsamplers") if room == "down" else (depth + 2, "upsamplers")
    block, at = divmod(index, each)
    return f"{room}_blocks.{block}." + (f"{sampler}.0" if at == each - 1 else f"{{}}.{at}")


def _newer(name: str) -> str:
    """The name as diffusers writes it today."""
    return re.sub(r"(?<=\.)(query|key|value|proj_attn)(?=\.(weight|bias)$)", lambda found: FORMER[found[1]], name)


def _shapes(options: Mapping[str, Any]) -> dict[str, torch.Size]:
    """The shape of each of UNet2D's tensors, none of them made."""
    with torch.device("meta"):
        network = UNet2D(**options)
    return {name: tensor.shape for name, tensor in network.state_dict().items()}


def _share(shape: torch.Size, parts: int) -> torch.Size:
    """The shape of each of so many equal parts, one above the other."""
    return torch.Size([shape[0] // parts, *shape[1:]])


def _check_state(state: Mapping[str, Tensor], wanted: Mapping[str, torch.Size]) -> None:
    """Raises InputError naming every tensor that is lacking, has no place, or is of another shape than its place."""
    told = [f"it lacks {name}" for name in sorted(wanted.keys() - state.keys())]
    told += [f"there is no place for {name}" for name in sorted(state.keys() - wanted.keys())]
    told += [
        f"{name} is {tuple(state[name].shape)} and not {tuple(shape)}"
        for name, shape in wanted.items()
        if name in state and state[name].shape != shape
    ]
    if told:
        raise InputError(f"the state dict is not that of this configuration: {'; '.join(told)}")


def _check(given: Mapping[str, Any]) -> None:
    """Raises InputError naming every key and value of a configuration that `unet2d` cannot be."""
    wrong = [f"{key} is unknown" for key in given if key not in DEFAULTS and key not in ONLY]
    for key, allowed in ONLY.items():
        if key in given and given[key] not in allowed:
            wrong.append(f"{key} is {given[key]!r}; allowed: {', '.join(map(repr, allowed))}")
    full = {**DEFAULTS, **given}
    wide = 4 * full["block_out_channels"][0]
    if full["time_embedding_dim"] not in (None, wide):
        wrong.append(f"time_embedding_dim is {full['time_embedding_dim']!r}; allowed: None, {wide}")
    if full["num_class_embeds"] is not None and full["num_class_embeds"] < 2:
        wrong.append(
            f"num_class_embeds is {full['num_class_embeds']!r}; allowed: None, or 2 and more, the last the null"
        )
    if wrong:
        raise InputError(f"unet2d cannot be a UNet2DModel of this configuration: {'; '.join(wrong)}")


def _attend(full: Mapping[str, Any]) -> tuple[int, ...]:
    """The resolutions with attention. Raises InputError where the way up has others than the way down, or other blocks."""
    down, up = full["down_block_types"], full["up_block_types"]
    allowed = {"DownBlock2D": False, "AttnDownBlock2D": True}, {"UpBlock2D": False, "AttnUpBlock2D": True}
    for key, kinds, known in zip(("down_block_types", "up_block_types"), (down, up), allowed, strict=True):
        if strange := [kind for kind in kinds if kind not in known]:
            raise InputError(f"unet2d has no {', '.join(strange)} ({key}); allowed: {', '.join(known)}")
    there = [allowed[0][kind] for kind in down]
    if there != [allowed[1][kind] for kind in reversed(up)] or len(there) != len(full["block_out_channels"]):
        raise InputError(
            f"unet2d has attention at the same resolutions on both ways, as many as block_out_channels; "
            f"given: down_block_types {tuple(down)}, up_block_types {tuple(up)}"
        )
    return tuple(i for i, attends in enumerate(there) if attends)


def _longest(size: Any) -> int:
    """sample_size as one number of pixels, 0 where it is not said: the network is the same for every size."""
    return size if isinstance(size, int) else max(size or (0,))
