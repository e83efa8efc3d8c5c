"""The folder of weights that Diff2DGS publishes, file by file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from splatomy.errors import InputError
from splatomy.weights.files import PICKLED, FileFacts, read_facts
from splatomy.weights.licences import licence_of

Need = Literal["required", "optional", "unused"]
State = Literal["present", "pickled", "missing", "damaged"]

_DIFFUSERS = (
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.fp16.safetensors",
    "diffusion_pytorch_model.bin",
    "diffusion_pytorch_model.fp16.bin",
)
_TRANSFORMERS = (
    "model.safetensors",
    "model.fp16.safetensors",
    "pytorch_model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.fp16.bin",
)
_PCM = (
    "pcm_sd15_smallcfg_2step_converted.safetensors",
    "pcm_sd15_smallcfg_4step_converted.safetensors",
    "pcm_sd15_smallcfg_8step_converted.safetensors",
    "pcm_sd15_smallcfg_16step_converted.safetensors",
    "pcm_sd15_normalcfg_4step_converted.safetensors",
    "pcm_sd15_normalcfg_8step_converted.safetensors",
    "pcm_sd15_normalcfg_16step_converted.safetensors",
    "pcm_sd15_lcmlike_lora_converted.safetensors",
)


@dataclass(frozen=True)
class Part:
    """One file of the layout: it may have any of ``names`` (the first found counts) in ``folder``."""

    folder: str
    names: tuple[str, ...]
    purpose: str
    need: Need = "required"


DIFF2DGS: tuple[Part, ...] = (
    Part("diffinpaint/brushnet", ("config.json",), "settings of BrushNet"),
    Part("diffinpaint/brushnet", _DIFFUSERS, "BrushNet with cross attention"),
    Part("diffinpaint/unet_main", ("config.json",), "settings of the motion UNet"),
    Part("diffinpaint/unet_main", _DIFFUSERS, "motion UNet"),
    Part("stable-diffusion-v1-5", ("model_index.json",), "index of Stable Diffusion 1.5"),
    Part("stable-diffusion-v1-5/scheduler", ("scheduler_config.json",), "noise schedule"),
    Part("stable-diffusion-v1-5/tokenizer", ("vocab.json",), "vocabulary of the prompt"),
    Part("stable-diffusion-v1-5/tokenizer", ("merges.txt",), "merges of the prompt"),
    Part("stable-diffusion-v1-5/tokenizer", ("tokenizer_config.json",), "settings of the tokenizer"),
    Part("stable-diffusion-v1-5/tokenizer", ("special_tokens_map.json",), "special tokens", "optional"),
    Part("stable-diffusion-v1-5/text_encoder", ("config.json",), "settings of the text encoder"),
    Part("stable-diffusion-v1-5/text_encoder", _TRANSFORMERS, "text encoder"),
    Part(
        "stable-diffusion-v1-5/feature_extractor",
        ("preprocessor_config.json",),
        "image preparation",
        "unused",
    ),
    Part("stable-diffusion-v1-5/safety_checker", _TRANSFORMERS, "safety checker", "unused"),
    Part("sd-vae-ft-mse", ("config.json",), "settings of the image autoencoder"),
    Part("sd-vae-ft-mse", _DIFFUSERS, "image autoencoder"),
    Part("PCM_Weights/sd15", _PCM, "few-step LoRA"),
    Part("propainter", ("ProPainter.pth",), "prior video of ProPainter", "unused"),
    Part("propainter", ("raft-things.pth",), "optical flow of ProPainter", "unused"),
    Part("propainter", ("recurrent_flow_completion.pth",), "flow completion of ProPainter", "unused"),
    Part("animatediff-motion-adapter-v1-5-2", ("config.json",), "settings of the motion adapter", "optional"),
    Part("animatediff-motion-adapter-v1-5-2", _DIFFUSERS, "motion adapter", "optional"),
)
"""Source: the weights folder of Diff2DGS as its README and loader name it. ProPainter's prior video is not
used: ours is the propagation along optical flow, which needs no weights."""


@dataclass(frozen=True)
class CheckedFile:
    """One part of the layout as found.

    path: relative to the folder, with forward slashes; of a missing part its first name. state: "pickled" =
    whole, but to be converted before use. problem: one sentence, or None.
    """

    path: str
    purpose: str
    need: Need
    state: State
    facts: FileFacts | None = None
    problem: str | None = None

    @property
    def usable(self) -> bool:
        """Whether nothing needs to be done about this file."""
        return self.need == "unused" or self.state == "present" or self._may_be_missing

    @property
    def _may_be_missing(self) -> bool:
        return self.need == "optional" and self.state == "missing"

    def json(self) -> dict[str, Any]:
        """The file as a JSON object."""
        facts = self.facts
        return {
            "path": self.path,
            "purpose": self.purpose,
            "need": self.need,
            "state": self.state,
            "size_bytes": facts.size_bytes if facts else None,
            "dtypes": list(facts.dtypes) if facts else [],
            "num_tensors": facts.num_tensors if facts else None,
            "num_parameters": facts.num_parameters if facts else None,
            "name": licence_of(self.path).name,
            "licence": licence_of(self.path).terms,
            "problem": self.problem,
        }


@dataclass(frozen=True)
class WeightsCheck:
    """A weights folder, file by file in the layout's order."""

    files: tuple[CheckedFile, ...]

    @property
    def complete(self) -> bool:
        """Whether inpainting with these weights can start."""
        return all(file.usable for file in self.files)

    @property
    def sentence(self) -> str:
        """What is wrong and what to do next, or that nothing is wrong."""
        if self.complete:
            return "The weights folder is complete."
        for state, words, advice in (
            ("damaged", "damaged", "get them again from where they were published"),
            ("missing", "missing", "put them where the list says"),
            ("pickled", "pickled", "run `splatomy weights convert` to make safetensors of them"),
        ):
            names = [file.path for file in self.files if file.state == state and not file.usable]
            if names:
                more = f" and {len(names) - 3} more" if len(names) > 3 else ""
                return (
                    f"The weights folder cannot be used yet: {words} {', '.join(names[:3])}{more}; {advice}."
                )
        raise ValueError("an incomplete folder must have a file that is not usable")

    def json(self) -> dict[str, Any]:
        """The check as a JSON object."""
        return {
            "contract": 1,
            "layout": "diff2dgs",
            "complete": self.complete,
            "files": [file.json() for file in self.files],
        }


def check(folder: Path) -> WeightsCheck:
    """What is there of the published weights, what is missing and what is damaged.

    Raises:
        InputError: no such folder, or nothing in it belongs to the layout.
    """
    if not folder.is_dir():
        raise InputError(
            "The weights folder does not exist: expected a folder with diffinpaint, stable-diffusion-v1-5, "
            "PCM_Weights and sd-vae-ft-mse; check the path."
        )
    if not any((folder / part.folder).is_dir() for part in DIFF2DGS):
        raise InputError(
            "The folder holds no known weights: expected diffinpaint, stable-diffusion-v1-5, PCM_Weights and "
            "sd-vae-ft-mse in it; give the folder that contains these."
        )
    return WeightsCheck(tuple(_checked(folder, part) for part in DIFF2DGS))


def _checked(folder: Path, part: Part) -> CheckedFile:
    found = next((name for name in part.names if (folder / part.folder / name).is_file()), None)
    path = f"{part.folder}/{found or part.names[0]}"
    if found is None:
        return CheckedFile(path, part.purpose, part.need, "missing")
    try:
        facts = read_facts(folder / path)
    except InputError as error:
        return CheckedFile(path, part.purpose, part.need, "damaged", problem=str(error))
    state: State = "pickled" if Path(found).suffix in PICKLED else "present"
    return CheckedFile(path, part.purpose, part.need, state, facts)
