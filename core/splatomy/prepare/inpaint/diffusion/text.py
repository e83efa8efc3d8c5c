"""The embedding of an empty prompt, which is all that inpainting needs of the text encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from splatomy.errors import InputError
from splatomy.prepare.inpaint.diffusion._packages import package
from splatomy.prepare.inpaint.diffusion.checkpoint import built, fill
from splatomy.weights import WeightsFolder

_START, _END = "<|startoftext|>", "<|endoftext|>"
_PREFIX = "text_model."


def empty_prompt(weights: WeightsFolder) -> Tensor:
    """The text encoder's output for an empty prompt, (1, L, D) float32.

    Raises:
        InputError: vocabulary, settings and tensors do not belong together.
        MissingBackendError: transformers is not installed.
    """
    transformers = package("transformers")
    settings_file = weights.file("settings of the text encoder").path
    settings = weights.settings("settings of the text encoder")
    encoder = built(
        lambda: transformers.CLIPTextModel(transformers.CLIPTextConfig.from_dict(settings)), settings_file
    )
    tensors = weights.tensors("text encoder")
    fill(encoder, _as_named(tensors, encoder.state_dict()), weights.file("text encoder").path)
    words = weights.settings("vocabulary of the prompt")
    limit = int(encoder.config.vocab_size)
    start, end = words.get(_START), words.get(_END)
    pad = words.get(_padding(weights.settings("settings of the tokenizer")), end)
    ids = (start, end, pad)
    if any(not isinstance(number, int) or not 0 <= number < limit for number in ids):
        raise InputError(
            f"{weights.file('vocabulary of the prompt').path} lacks {_START} or {_END}, or numbers them "
            f"beyond the {limit} words of the text encoder: expected the vocabulary of Stable Diffusion 1.5. "
            "Get it again."
        )
    length = int(encoder.config.max_position_embeddings)
    prompt = torch.tensor([[start, end, *[pad] * (length - 2)]])
    with torch.no_grad():
        embedded: Tensor = encoder.eval()(prompt).last_hidden_state
    return embedded


def _padding(settings: Mapping[str, Any]) -> str:
    """The word that fills up a prompt; older files give it with its properties."""
    word = settings.get("pad_token", _END)
    return str(word.get("content", _END) if isinstance(word, dict) else word)


def _as_named(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under the names of the installed transformers, which dropped or added a common prefix.

    Position numbers, which older files hold, are no weights and left out.
    """
    prefixed = any(name.startswith(_PREFIX) for name in wanted)
    made = {}
    for name, tensor in tensors.items():
        if not name.endswith("position_ids") or name in wanted:
            bare = name.removeprefix(_PREFIX)
            made[_PREFIX + bare if prefixed else bare] = tensor
    return made
