"""Weights that complete an object in still pictures: an inpainting pipeline, CLIP, normals."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from splatomy.errors import InputError
from splatomy.weights.licences import Licence

_PIPELINE = "StableDiffusionInpaintPipeline"
_BLOCK_BYTES = 1 << 24
_PIPELINE_LICENCE = Licence(
    "inpainting pipeline",
    "as its publisher says (Stable Diffusion: OpenRAIL, restrictions of use)",
    restricted=True,
)
_CLIP_LICENCE = Licence("CLIP", "as its publisher says (OpenAI's: MIT)")
_NORMALS_LICENCE = Licence("network of normals", "as its publisher says")


@dataclass(frozen=True)
class StillWeights:
    """Folders in the published layouts, None = not given.

    pipeline: diffusers' StableDiffusionInpaintPipeline (model_index.json beside unet/, vae/, text_encoder/,
    tokenizer/, scheduler/). clip: transformers' CLIP (config.json, model.safetensors, tokenizer). normals: an
    ONNX network of normals.
    """

    pipeline: Path | None = None
    clip: Path | None = None
    normals: Path | None = None

    @property
    def licences(self) -> str:
        """Under which terms the weights stand that are used, in one line; empty without any."""
        return "; ".join(dict.fromkeys(licence.text for _, licence in self._files()))

    def record(self) -> Generator[str, None, list[dict[str, str]]]:
        """What a run says of the files it used: name, hash and licence; yields while it reads them."""
        made = []
        for path, licence in self._files():
            digest = hashlib.sha256()
            with path.open("rb") as source:
                while block := source.read(_BLOCK_BYTES):
                    digest.update(block)
                    yield path.name
            made.append(
                {
                    "file": f"{path.parent.name}/{path.name}",
                    "sha256": digest.hexdigest(),
                    "name": licence.name,
                    "licence": licence.terms,
                }
            )
        return made

    def _files(self) -> list[tuple[Path, Licence]]:
        files = (
            [(p, _PIPELINE_LICENCE) for p in sorted(self.pipeline.rglob("*.safetensors"))]
            if self.pipeline
            else []
        )
        if self.clip is not None:
            files += [(p, _CLIP_LICENCE) for p in sorted(self.clip.glob("*.safetensors"))]
        return files + ([(self.normals, _NORMALS_LICENCE)] if self.normals is not None else [])


def find_still_weights(folder: Path | None) -> StillWeights:
    """What a folder and the folders directly in it hold; nothing without a folder.

    Raises:
        InputError: it holds none of them, or a description is damaged.
    """
    if folder is None:
        return StillWeights()
    if not folder.is_dir():
        raise InputError(f"{folder.name} is no folder; expected a folder of weights: check --weights.")
    places = [folder, *sorted(p for p in folder.iterdir() if p.is_dir())]
    pipeline = next(
        (p for p in places if _json(p / "model_index.json").get("_class_name") == _PIPELINE), None
    )
    clip = next(
        (p for p in places if p != pipeline and _json(p / "config.json").get("model_type") == "clip"), None
    )
    onnx = next((f for p in places for f in sorted(p.glob("*normal*.onnx"))), None)
    if pipeline is None and clip is None and onnx is None:
        raise InputError(
            f"{folder.name} holds no weights that complete objects; expected a folder of diffusers' "
            f"{_PIPELINE} (model_index.json), one of transformers' CLIP (config.json), or a *normal*.onnx: "
            "check --weights."
        )
    return StillWeights(pipeline, clip, onnx)


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise InputError(
            f"{path.parent.name}/{path.name} is damaged: expected JSON; get it again from where it was "
            "published."
        ) from None
    return value if isinstance(value, dict) else {}
