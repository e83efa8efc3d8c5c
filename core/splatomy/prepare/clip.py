"""CLIP from a folder: how alike pictures are, and how well a word fits them.

Source: Radford et al. 2021; used by O2-Recon for choosing views and for its semantic loss.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from splatomy.errors import InputError
from splatomy.prepare.inpaint.diffusion._packages import package

_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


class Clip:
    """A frozen CLIP; gradients reach the pictures."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        """Loads the model and its tokenizer.

        Raises:
            InputError: a file is missing or damaged.
            MissingBackendError: transformers is not installed.
        """
        transformers = package("transformers")
        try:
            model = transformers.CLIPModel.from_pretrained(
                str(folder), local_files_only=True, use_safetensors=True
            )
            self._tokenizer: Any = transformers.CLIPTokenizer.from_pretrained(
                str(folder), local_files_only=True
            )
        except Exception as error:  # noqa: BLE001 - the package's errors have no common base
            reason = str(error).replace(str(folder), folder.name).split("\n")[0][:160]
            raise InputError(
                f"CLIP in {folder.name} cannot be loaded ({reason}); expected config.json, model.safetensors "
                "and the tokenizer's files: get the folder again from where it was published."
            ) from None
        self._model = model.to(device).eval().requires_grad_(False)
        self.device = device
        self.side_px = int(model.config.vision_config.image_size)

    def of_pictures(self, pictures: Tensor) -> Tensor:
        """Unit features (N, F) of sRGB pictures (N, 3, H, W) in [0, 1]; differentiable."""
        size = (self.side_px, self.side_px)
        sized = nn.functional.interpolate(pictures, size, mode="bicubic", antialias=True, align_corners=False)
        mean, std = (sized.new_tensor(v).reshape(1, 3, 1, 1) for v in (_MEAN, _STD))
        pooled = self._model.vision_model(pixel_values=(sized - mean) / std).pooler_output
        return nn.functional.normalize(self._model.visual_projection(pooled), dim=1)

    def of_text(self, text: str) -> Tensor:
        """Unit features (1, F) of a few words."""
        most = int(self._model.config.text_config.max_position_embeddings)
        asked = self._tokenizer([text], return_tensors="pt", truncation=True, max_length=most)
        with torch.no_grad():
            pooled = self._model.text_model(**{k: v.to(self.device) for k, v in asked.items()}).pooler_output
            return nn.functional.normalize(self._model.text_projection(pooled), dim=1)
