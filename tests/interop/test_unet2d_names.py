"""What of a UNet2DModel's configuration is refused, and how; what it gives is compared in tests/oracles."""

from typing import Any

import pytest
import torch

from carrara.errors import InputError
from carrara.interop import diffusers_unet as interop
from carrara.networks.unet2d import UNet2D

SMALL = {"widths": (8, 16), "groups": 4, "depth": 1, "size": 8, "classes": 2}


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"act_fn": "gelu"}, "act_fn is 'gelu'; allowed: 'silu', 'swish'"),
        ({"time_embedding_type": "fourier"}, "time_embedding_type is 'fourier'; allowed: 'positional'"),
        (
            {"downsample_type": "resnet", "add_attention": False},
            "downsample_type is 'resnet'.*add_attention is False",
        ),
        ({"num_class_embeds": 1}, "num_class_embeds is 1; allowed: None, or 2"),
        ({"time_embedding_dim": 7}, "time_embedding_dim is 7; allowed: None, 896"),
        ({"cross_attention_dim": 768}, "cross_attention_dim is unknown"),
        ({"down_block_types": ("SkipDownBlock2D",)}, "no SkipDownBlock2D.*allowed: DownBlock2D, AttnDownBlock2D"),
        ({"up_block_types": ("UpBlock2D",) * 4}, "the same resolutions on both ways"),
        ({"block_out_channels": (32, 64)}, "as many as block_out_channels"),
    ],
)
def test_a_configuration_that_it_cannot_be_is_refused(config: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        interop.options(config)


def test_what_a_file_says_of_itself_is_passed_over() -> None:
    told = {"_class_name": "UNet2DModel", "_diffusers_version": "0.4.0", "sample_size": [32, 24]}
    assert interop.options(told) == {**interop.options({}), "size": 32}


def test_the_names_of_old_files_are_read() -> None:
    options = {**interop.options({}), **SMALL, "head_width": None, "attend": None}
    state = interop.to_diffusers(UNet2D(**options).state_dict(), options)
    former = {new: old for old, new in interop.FORMER.items()}
    old = {}
    for name, tensor in state.items():
        for new, word in former.items():
            name = name.replace(f".{new}.", f".{word}.")
        old[name] = tensor
    assert old.keys() != state.keys() and any(".proj_attn." in name for name in old)
    read, expected = interop.to_carrara(old, options), interop.to_carrara(state, options)
    assert all(torch.equal(read[name], tensor) for name, tensor in expected.items())
