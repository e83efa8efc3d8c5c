"""The main UNet with motion modules, and the places where BrushNet's features enter it.

diffusers has the UNet, but no input for features at every layer; they are added by forward hooks. The first
one enters after the first skip connection has left, as in the published code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from splatomy.prepare.inpaint.diffusion._packages import package
from splatomy.prepare.inpaint.diffusion.brushnet import Features

_MOTION = ".motion_modules."


def make_motion_unet(settings: Mapping[str, Any]) -> Any:
    """The UNet of a published config.json, with random weights."""
    return package("diffusers").UNetMotionModel.from_config(dict(settings))


def with_motion(tensors: Mapping[str, Tensor], adapter: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    """The UNet's tensors, with the motion modules of an adapter if the UNet came without its own."""
    if adapter is None or any(_MOTION in name for name in tensors):
        return dict(tensors)
    return {**tensors, **{name: tensor for name, tensor in adapter.items() if _MOTION in name}}


def _layers(block: Any) -> list[nn.Module]:
    """The modules of a block whose outputs are its features, in order."""
    ends: list[nn.Module] = list(block.motion_modules)
    samplers = getattr(block, "downsamplers", None) or getattr(block, "upsamplers", None)
    return ends + (list(samplers) if samplers is not None else [])


@contextmanager
def steered(unet: Any, features: Features) -> Iterator[None]:
    """While it lasts, the features are added to those of the UNet.

    Raises:
        ValueError: their numbers differ.
    """
    down = [layer for block in unet.down_blocks for layer in _layers(block)]
    up = [layer for block in unet.up_blocks for layer in _layers(block)]
    if len(down) + 1 != len(features.down) or len(up) != len(features.up):
        raise ValueError(
            f"the UNet has {len(down) + 1} and {len(up)} features on its ways down and up, BrushNet "
            f"{len(features.down)} and {len(features.up)}"
        )
    handles: list[RemovableHandle] = [
        unet.down_blocks[0].register_forward_pre_hook(_at_entrance(features.down[0]), with_kwargs=True),
        unet.mid_block.register_forward_hook(_at_exit(features.mid)),
    ]
    for layer, feature in zip((*down, *up), (*features.down[1:], *features.up), strict=True):
        handles.append(layer.register_forward_hook(_at_exit(feature)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _at_exit(feature: Tensor) -> Any:
    def add(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        return output + feature

    return add


def _at_entrance(feature: Tensor) -> Any:
    def add(_module: nn.Module, inputs: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return inputs, {**named, "hidden_states": named["hidden_states"] + feature}

    return add


def denoise(unet: Any, state: Tensor, timestep: Tensor, text: Tensor, features: Features) -> Tensor:
    """The noise that the UNet sees in one window of latents (F, 4, h, w); text: (F, L, D)."""
    clip = state.permute(1, 0, 2, 3)[None]
    with steered(unet, features):
        noise: Tensor = unet(clip, timestep, encoder_hidden_states=text).sample
    return noise[0].permute(1, 0, 2, 3)
