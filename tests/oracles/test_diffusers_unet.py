"""`unet2d` with a UNet2DModel's weights is that model: its outputs, and every gradient."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from carrara.errors import InputError
from carrara.interop import diffusers_unet as interop
from carrara.networks.unet2d import UNet2D

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")]

LOWER = {
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    "block_out_channels": (32, 64, 32),
}
ONE = {
    "down_block_types": ("AttnDownBlock2D",),
    "up_block_types": ("AttnUpBlock2D",),
    "block_out_channels": (16,),
    "norm_num_groups": 8,
}
NONE = {
    "down_block_types": ("DownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "UpBlock2D"),
    "block_out_channels": (8, 16),
    "norm_num_groups": 4,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "9 M": {"block_out_channels": (64, 128, 128, 128)},
    "attention below": LOWER,
    "one resolution, three blocks": {**ONE, "layers_per_block": 3},
    "attention in the middle alone": {**NONE, "layers_per_block": 1},
    "odd channels": {**NONE, "block_out_channels": (9, 15), "norm_num_groups": 3, "attention_head_dim": 5},
    "heads that leave channels out": {**LOWER, "block_out_channels": (20, 12, 28), "norm_num_groups": 4},
    "classes": {**LOWER, "num_class_embeds": 5},
    "as published in 2020": {
        **LOWER,
        "downsample_padding": 0,
        "attention_head_dim": None,
        "freq_shift": 1,
        "flip_sin_to_cos": False,
        "norm_eps": 1e-6,
        "dropout": 0.1,
    },
    "scale and shift, variance": {**LOWER, "resnet_time_scale_shift": "scale_shift", "out_channels": 6},
}


def peer(config: dict[str, Any]) -> nn.Module:
    """Their model, in evaluation mode."""
    from diffusers import UNet2DModel

    torch.manual_seed(0)
    model: nn.Module = UNet2DModel(**config).eval()
    return model


def inputs(config: dict[str, Any], side: int = 16) -> tuple[Tensor, Tensor, Tensor | None]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, config.get("in_channels", 3), side, side, generator=generator)
    label = torch.tensor([0, 3, 4]) if "num_class_embeds" in config else None
    return x, torch.tensor([0, 417, 999]), label


def results(network: nn.Module, call: Any, x: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """The output, the gradient to x and those to the parameters of one fixed linear function of the output."""
    x = x.clone().requires_grad_()
    out = call(x)
    (out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)).sum().backward()
    assert x.grad is not None
    return out.detach(), x.grad, {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


def both(
    config: dict[str, Any], dtype: torch.dtype, side: int = 16
) -> list[tuple[Tensor, Tensor, dict[str, Tensor]]]:
    """What theirs and ours give; the gradients under our names."""
    theirs = peer(config).to(dtype)
    ours = interop.unet2d(theirs.config, theirs.state_dict()).to(dtype)  # type: ignore[arg-type]
    x, number, label = inputs(config, side)
    told = {} if label is None else {"class_labels": label}
    out, to_x, gradients = results(theirs, lambda x: theirs(x, number, **told).sample, x.to(dtype))
    named = interop.to_carrara(gradients, interop.options(theirs.config))  # type: ignore[arg-type]
    return [(out, to_x, named), results(ours, lambda x: ours.at(x, number, label), x.to(dtype))]


@pytest.mark.parametrize("name", CONFIGS)
def test_outputs_and_all_gradients_are_equal(name: str) -> None:
    """In float64, where what is not the same formula shows."""
    (out, to_x, gradients), (our_out, our_to_x, our_gradients) = both(CONFIGS[name], torch.float64)
    assert out.std() > 1e-2
    torch.testing.assert_close(our_out, out, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(our_to_x, to_x, rtol=1e-7, atol=1e-9)
    assert our_gradients.keys() == gradients.keys()
    for key, gradient in gradients.items():
        torch.testing.assert_close(
            our_gradients[key], gradient, rtol=1e-7, atol=1e-8, msg=lambda m, k=key: f"{k}: {m}"
        )


@pytest.mark.parametrize("name", ["9 M", "classes", "odd channels"])
def test_in_single_precision_they_are_equal_to_its_rounding(name: str) -> None:
    (out, to_x, gradients), (our_out, our_to_x, our_gradients) = both(CONFIGS[name], torch.float32)
    torch.testing.assert_close(our_out, out, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(our_to_x, to_x, rtol=1e-5, atol=1e-5)
    # Biases before a norm have no gradient but the rounding of what cancels: hence beside the largest of all.
    largest = float(torch.stack([gradient.abs().max() for gradient in gradients.values()]).max())
    for key, gradient in gradients.items():
        assert (our_gradients[key] - gradient).abs().max() <= 1e-5 * largest, key


@pytest.mark.parametrize("name", CONFIGS)
def test_the_way_there_and_back_changes_nothing(name: str) -> None:
    theirs = peer(CONFIGS[name])
    options = interop.options(theirs.config)  # type: ignore[arg-type]
    state = theirs.state_dict()
    again = interop.to_diffusers(interop.to_carrara(state, options), options)
    assert again.keys() == state.keys() and all(torch.equal(again[key], value) for key, value in state.items())
    rebuilt = peer(interop.config(options))
    rebuilt.load_state_dict(again)
    assert interop.options(rebuilt.config) == options  # type: ignore[arg-type]


def test_a_network_of_ours_becomes_theirs() -> None:
    options = {**interop.options({}), "widths": (16, 32), "groups": 8, "attend": (0,), "classes": 3, "size": 16}
    ours = UNet2D(**options).eval()
    nn.init.normal_(ours.leave.weight)
    theirs = peer(interop.config(options))
    theirs.load_state_dict(interop.to_diffusers(ours.state_dict(), options))
    x, number, label = torch.randn(2, 3, 16, 16), torch.tensor([3.0, 500.5]), torch.tensor([0, 3])
    expected = theirs(x, number, class_labels=label).sample
    torch.testing.assert_close(ours.at(x, number, label), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours(x, number / 1000, {"label": label}), expected, rtol=1e-4, atol=1e-4)


def test_what_their_constructor_takes_by_default_is_known() -> None:
    import inspect

    from diffusers import UNet2DModel

    theirs = {name: p.default for name, p in inspect.signature(UNet2DModel).parameters.items()}
    assert theirs.keys() == interop.DEFAULTS.keys() | interop.ONLY.keys()
    assert {name: theirs[name] for name in interop.DEFAULTS} == interop.DEFAULTS
    assert all(theirs[name] in allowed for name, allowed in interop.ONLY.items())


def test_a_state_dict_that_does_not_fit_is_refused_with_every_key() -> None:
    theirs = peer(CONFIGS["attention below"])
    options = interop.options(theirs.config)  # type: ignore[arg-type]
    state = dict(theirs.state_dict())
    del state["mid_block.attentions.0.to_k.bias"], state["conv_in.weight"]
    state["down_blocks.0.attentions.0.to_q.weight"] = torch.zeros(1)
    state["conv_out.bias"] = torch.zeros(4)
    with pytest.raises(InputError) as refused:
        interop.to_carrara(state, options)
    for words in (
        "lacks mid_block.attentions.0.to_k.bias",
        "lacks conv_in.weight",
        "no place for down_blocks.0.attentions.0.to_q.weight",
        "conv_out.bias is (4,) and not (3,)",
    ):
        assert words in str(refused.value)
