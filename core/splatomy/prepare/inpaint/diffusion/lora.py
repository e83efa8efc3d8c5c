"""Low-rank updates merged into a network's weights.

Both spellings are read: kohya's (``lora_unet_down_blocks_0_..._to_q.lora_down.weight`` with ``alpha``), which
the published few-step files have, and that of diffusers (``unet.down_blocks.0...to_q.lora_A.weight``).

Source: LoRA (Hu et al. 2021); few-step weights: Phased Consistency Model (Wang et al., NeurIPS 2024).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from splatomy.errors import InputError
from splatomy.prepare.inpaint.diffusion.checkpoint import listed

_ROLES = {
    "lora_down.weight": "down",
    "lora_up.weight": "up",
    "lora_A.weight": "down",
    "lora_B.weight": "up",
    "lora.down.weight": "down",
    "lora.up.weight": "up",
    "alpha": "alpha",
}
_NAME = re.compile(rf"(.+?)\.({'|'.join(re.escape(role) for role in _ROLES)})")


@torch.no_grad()
def merge(network: nn.Module, tensors: Mapping[str, Tensor], path: str) -> None:
    """Adds every update of the file ``path`` to the weight it is meant for: W + alpha / rank * up down.

    Raises:
        InputError: an update is meant for no weight of the network, is incomplete, or does not fit.
    """
    updates: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in tensors.items():
        match = _NAME.fullmatch(name)
        if match is None:
            raise _refused(path, [name], "are no low-rank updates")
        updates[match[1]][_ROLES[match[2]]] = tensor
    targets = {
        spelling: module
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
        for spelling in (f"lora_unet_{name.replace('.', '_')}", f"unet.{name}", name)
    }
    unknown = [name for name in updates if name not in targets]
    if unknown:
        raise _refused(path, unknown, "belong to no layer of the motion UNet")
    for name, update in updates.items():
        weight = targets[name].weight
        if "down" not in update or "up" not in update:
            raise _refused(path, [name], "are incomplete")
        down, up = update["down"].float(), update["up"].float()
        rank = down.shape[0]
        scale = float(update.get("alpha", torch.tensor(rank))) / rank
        change = up.flatten(1) @ down.flatten(1)
        if up.shape[1:].numel() != rank or change.numel() != weight.numel():
            raise _refused(path, [name], "differ in shape from their layers")
        weight += (scale * change.reshape(weight.shape)).to(weight)


def _refused(path: str, names: list[str], words: str) -> InputError:
    return InputError(
        f"{path} does not fit the motion UNet: {len(names)} of its entries {words} "
        f"({listed(names)}); expected the few-step weights for Stable Diffusion 1.5. "
        "Get the file again."
    )
