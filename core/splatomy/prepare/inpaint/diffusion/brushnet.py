"""BrushNet with cross attention: a copy of the UNet that sees the masked picture and steers the main one.

Its features, each through a 1x1 convolution that starts at zero, are added to every feature of the main
UNet's way down, middle and way up.

Source: BrushNet (Ju et al., ECCV 2024), in the variant with text attention of DiffuEraser (2025); names of
the tensors as published.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from splatomy.prepare.inpaint.diffusion._packages import package

_EPSILON = 1e-5


@dataclass(frozen=True)
class Features:
    """What is added to the main UNet: down (input, then every layer), mid, and up (every layer), in order."""

    down: tuple[Tensor, ...]
    mid: Tensor
    up: tuple[Tensor, ...]


def _per_level(value: Any, count: int) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value] * count


class BrushNet(nn.Module):
    """The steering copy.

    settings: the published config.json.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        embeddings = package("diffusers.models.embeddings")
        channels = list(settings["block_out_channels"])
        levels = len(channels)
        layers = int(settings.get("layers_per_block", 2))
        heads = settings.get("num_attention_heads") or settings.get("attention_head_dim", 8)
        conditions = int(settings.get("in_channels", 4)) + int(settings.get("conditioning_channels", 5))
        depth = _per_level(settings.get("transformer_layers_per_block", 1), levels)
        only_cross = _per_level(settings.get("only_cross_attention", False), levels)
        shared = {
            "temb_channels": channels[0] * 4,
            "resnet_eps": settings.get("norm_eps", _EPSILON),
            "resnet_act_fn": settings.get("act_fn", "silu"),
            "resnet_groups": settings.get("norm_num_groups", 32),
            "cross_attention_dim": settings.get("cross_attention_dim", 1280),
            "use_linear_projection": settings.get("use_linear_projection", False),
            "upcast_attention": settings.get("upcast_attention", False),
            "resnet_time_scale_shift": settings.get("resnet_time_scale_shift", "default"),
        }
        of_level = [
            {
                "num_attention_heads": number,
                "attention_head_dim": number,
                "transformer_layers_per_block": depth[level],
                "only_cross_attention": only_cross[level],
            }
            for level, number in enumerate(_per_level(heads, levels))
        ]
        self.conv_in_condition = nn.Conv2d(conditions, channels[0], 3, padding=1)
        self.time_proj = embeddings.Timesteps(
            channels[0], settings.get("flip_sin_to_cos", True), settings.get("freq_shift", 0)
        )
        self.time_embedding = embeddings.TimestepEmbedding(
            channels[0], channels[0] * 4, act_fn=settings.get("act_fn", "silu")
        )
        self._build_down(settings, channels, layers, shared, of_level)
        self._build_mid(settings, channels[-1], shared, of_level[-1])
        self._build_up(settings, channels[::-1], layers + 1, shared, of_level[::-1])

    def _build_down(
        self, settings: Mapping[str, Any], channels: list[int], layers: int, shared: Any, of_level: Any
    ) -> None:
        blocks = package("diffusers.models.unets.unet_2d_blocks")
        made, ends = [], [_end(channels[0])]
        for level, kind in enumerate(settings["down_block_types"]):
            last = level == len(channels) - 1
            made.append(
                blocks.get_down_block(
                    kind,
                    num_layers=layers,
                    in_channels=channels[max(level - 1, 0)],
                    out_channels=channels[level],
                    add_downsample=not last,
                    downsample_padding=settings.get("downsample_padding", 1),
                    **shared,
                    **of_level[level],
                )
            )
            ends += [_end(channels[level]) for _ in range(layers + (not last))]
        self.down_blocks = nn.ModuleList(made)
        self.brushnet_down_blocks = nn.ModuleList(ends)

    def _build_mid(
        self, settings: Mapping[str, Any], channels: int, shared: Any, of_level: Mapping[str, Any]
    ) -> None:
        blocks = package("diffusers.models.unets.unet_2d_blocks")
        self.mid_block = blocks.get_mid_block(
            settings.get("mid_block_type", "UNetMidBlock2DCrossAttn"),
            in_channels=channels,
            output_scale_factor=settings.get("mid_block_scale_factor", 1),
            **shared,
            **{name: value for name, value in of_level.items() if name != "only_cross_attention"},
        )
        self.brushnet_mid_block = _end(channels)

    def _build_up(
        self, settings: Mapping[str, Any], channels: list[int], layers: int, shared: Any, of_level: Any
    ) -> None:
        blocks = package("diffusers.models.unets.unet_2d_blocks")
        made, ends = [], []
        for level, kind in enumerate(settings["up_block_types"]):
            last = level == len(channels) - 1
            made.append(
                blocks.get_up_block(
                    kind,
                    num_layers=layers,
                    in_channels=channels[min(level + 1, len(channels) - 1)],
                    out_channels=channels[level],
                    prev_output_channel=channels[max(level - 1, 0)],
                    add_upsample=not last,
                    resolution_idx=level,
                    **shared,
                    **of_level[level],
                )
            )
            ends += [_end(channels[level]) for _ in range(layers + (not last))]
        self.up_blocks = nn.ModuleList(made)
        self.brushnet_up_blocks = nn.ModuleList(ends)

    def forward(self, state: Tensor, timestep: Tensor, text: Tensor, condition: Tensor) -> Features:
        """The features to be added.

        state: latents (F, 4, h, w). timestep: scalar. text: (F, L, D). condition: (F, 5, h, w), the latents
        of the masked picture and the mask, 1 = known.
        """
        embedded = self.time_proj(timestep.expand(len(state)).to(state.device)).to(state.dtype)
        time = self.time_embedding(embedded)
        sample = self.conv_in_condition(torch.cat([state, condition], 1))
        skips: tuple[Tensor, ...] = (sample,)
        for block in self.down_blocks:
            more = {"encoder_hidden_states": text} if _attends(block) else {}
            sample, found = block(hidden_states=sample, temb=time, **more)
            skips += tuple(found)
        down = tuple(end(skip) for end, skip in zip(self.brushnet_down_blocks, skips, strict=True))
        if self.mid_block is not None:
            more = {"encoder_hidden_states": text} if _attends(self.mid_block) else {}
            sample = self.mid_block(sample, time, **more)
        mid = self.brushnet_mid_block(sample)
        passed: list[Tensor] = []
        for block in self.up_blocks:
            sample, skips = _way_up(block, sample, skips, time, text, passed)
        up = tuple(end(one) for end, one in zip(self.brushnet_up_blocks, passed, strict=True))
        return Features(down, mid, up)


def _end(channels: int) -> nn.Conv2d:
    convolution = nn.Conv2d(channels, channels, 1)
    for parameter in convolution.parameters():
        nn.init.zeros_(parameter)
    return convolution


def _attends(block: Any) -> bool:
    return bool(getattr(block, "has_cross_attention", False))


def _way_up(
    block: Any, sample: Tensor, skips: tuple[Tensor, ...], time: Tensor, text: Tensor, passed: list[Tensor]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One block of the way up, and the skip connections left for the next ones.

    It goes layer by layer, since each layer's output is wanted; they are appended to ``passed``.
    """
    for layer, resnet in enumerate(block.resnets):
        sample = resnet(torch.cat([sample, skips[-1]], 1), time)
        skips = skips[:-1]
        if _attends(block):
            sample = block.attentions[layer](sample, encoder_hidden_states=text, return_dict=False)[0]
        passed.append(sample)
    if block.upsamplers is not None:
        # Of odd sizes, twice the half is not the whole.
        sample = block.upsamplers[0](sample, tuple(skips[-1].shape[-2:]))
        passed.append(sample)
    return sample, skips
