"""The published route with tiny random weights in the true layout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UNetMotionModel
from safetensors.torch import load_file, save_file
from tiny_weights import LORA, write_tiny_weights

from splatomy.errors import InputError
from splatomy.events import Progress, finish
from splatomy.prepare.inpaint import OBSERVED, SYNTHESISED, Inpainting
from splatomy.prepare.inpaint.diffusion.brushnet import Features
from splatomy.prepare.inpaint.diffusion.lora import merge
from splatomy.prepare.inpaint.diffusion.motion_unet import denoise, with_motion
from splatomy.prepare.inpaint.diffusion.published import PublishedDiffusion, load_published
from splatomy.weights import open_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("weights")
    write_tiny_weights(root)
    return root


@pytest.fixture(scope="module")
def networks(weights: Path) -> PublishedDiffusion:
    return load_published(open_weights(weights))


@pytest.fixture
def copied(weights: Path, tmp_path: Path) -> Callable[[str], Path]:
    """The folder with one file that is the test's own."""

    def copy(name: str) -> Path:
        for path in weights.rglob("*"):
            if path.is_file():
                target = tmp_path / path.relative_to(weights)
                target.parent.mkdir(parents=True, exist_ok=True)
                if str(path.relative_to(weights)) == name:
                    target.write_bytes(path.read_bytes())
                else:
                    target.symlink_to(path)
        return tmp_path / name

    return copy


def _clip(frames: int, height: int, width: int) -> tuple[Inpainting, np.ndarray, np.ndarray]:
    """A filled clip: of the hidden square one half is unsure, one half sure."""
    rng = np.random.default_rng(2)
    images = rng.uniform(0.2, 0.8, (frames, height, width, 3)).astype(np.float32)
    occluded = np.zeros((frames, height, width), bool)
    occluded[:, 10:40, 8:44] = True
    confidence = np.ones(occluded.shape, np.float32)
    confidence[:, 10:40, 8:26] = 0.0
    provenance = np.where(occluded, 1, OBSERVED).astype(np.int16)
    return Inpainting(images.copy(), provenance, confidence), images, occluded


def test_a_clip_of_any_length_and_size_is_filled_and_what_was_seen_stays_bit_equal(
    networks: PublishedDiffusion,
) -> None:
    for frames, height, width in ((1, 48, 50), (47, 45, 61)):
        filled, images, occluded = _clip(frames, height, width)
        before = filled.images.copy()
        events = list(networks.improve(filled, images, occluded))
        assert all(isinstance(event, Progress) for event in events)
        assert np.array_equal(filled.images[~occluded], before[~occluded])
        unsure = np.zeros_like(occluded)
        unsure[:, 18:32, 16:24] = True
        assert (np.abs(filled.images - before)[unsure].max(-1) > 0).mean() > 0.9
        sure = occluded & (filled.confidence == 1)
        assert np.array_equal(filled.images[sure], before[sure])
        assert np.isfinite(filled.images).all()
        assert (filled.provenance == SYNTHESISED).any()


def test_the_same_seed_gives_the_same_pictures(networks: PublishedDiffusion) -> None:
    made = []
    for seed in (0, 0, 1):
        filled, images, occluded = _clip(3, 48, 50)
        finish(networks.improve(filled, images, occluded, seed))
        made.append(filled.images)
    assert np.array_equal(made[0], made[1])
    assert not np.array_equal(made[0], made[2])


def test_every_feature_of_brushnet_reaches_the_unet(weights: Path, networks: PublishedDiffusion) -> None:
    unet = UNetMotionModel.from_pretrained(weights / "diffinpaint/unet_main", low_cpu_mem_usage=False).eval()
    rng = torch.Generator().manual_seed(1)
    state = torch.randn(3, 4, 8, 8, generator=rng)
    text, step = torch.randn(3, 8, 16, generator=rng), torch.tensor(500)
    condition = torch.randn(3, 5, 8, 8, generator=rng)
    with torch.no_grad():
        features = networks._brushnet(state, step, text, condition)
        plain = unet(state.permute(1, 0, 2, 3)[None], step, encoder_hidden_states=text).sample
        nothing = Features(
            tuple(torch.zeros_like(f) for f in features.down),
            torch.zeros_like(features.mid),
            tuple(torch.zeros_like(f) for f in features.up),
        )
        assert torch.allclose(
            denoise(unet, state, step, text, nothing), plain[0].permute(1, 0, 2, 3), atol=1e-6
        )
        base = denoise(unet, state, step, text, nothing)
        for part in ("down", "mid", "up"):
            old = getattr(nothing, part)
            for n in range(1 if part == "mid" else len(old)):
                new: Any = torch.randn(features.mid.shape, generator=rng)
                if part != "mid":
                    new = tuple(
                        torch.randn(f.shape, generator=rng) if k == n else f for k, f in enumerate(old)
                    )
                one = Features(**{**nothing.__dict__, part: new})
                assert not torch.allclose(denoise(unet, state, step, text, one), base, atol=1e-6), (part, n)
        # The hooks are gone afterwards.
        again = unet(state.permute(1, 0, 2, 3)[None], step, encoder_hidden_states=text).sample
    assert torch.equal(again, plain)


def test_updates_are_merged_by_alpha_over_rank_in_both_spellings() -> None:
    linear = torch.nn.ModuleDict({"attn": torch.nn.Linear(4, 3, bias=False)})
    start = linear["attn"].weight.detach().clone()
    down, up = torch.randn(2, 4), torch.randn(3, 2)
    merge(linear, {"unet.attn.lora_A.weight": down, "unet.attn.lora_B.weight": up}, "file")
    assert torch.allclose(linear["attn"].weight, start + up @ down, atol=1e-6)
    kohya = {"lora_unet_attn.lora_down.weight": down, "lora_unet_attn.lora_up.weight": up}
    merge(linear, {**kohya, "lora_unet_attn.alpha": torch.tensor(1.0)}, "file")
    assert torch.allclose(linear["attn"].weight, start + 1.5 * up @ down, atol=1e-6)
    convolution = torch.nn.ModuleDict({"conv": torch.nn.Conv2d(4, 3, 3, bias=False)})
    start = convolution["conv"].weight.detach().clone()
    small, large = torch.randn(2, 4, 3, 3), torch.randn(3, 2, 1, 1)
    merge(
        convolution, {"lora_unet_conv.lora_down.weight": small, "lora_unet_conv.lora_up.weight": large}, "f"
    )
    wanted = start + torch.einsum("or,rikl->oikl", large[..., 0, 0], small)
    assert torch.allclose(convolution["conv"].weight, wanted, atol=1e-6)


def test_motion_modules_come_from_the_adapter_only_when_the_unet_has_none() -> None:
    own, other = torch.zeros(1), torch.ones(1)
    name = "down_blocks.0.motion_modules.0.norm.weight"
    adapter = {name: other, "conv_in.weight": other}
    assert with_motion({"conv_in.weight": own}, adapter) == {"conv_in.weight": own, name: other}
    assert with_motion({name: own}, adapter) == {name: own}


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("diffinpaint/brushnet/diffusion_pytorch_model.safetensors", "drop", "1 tensors are missing"),
        ("diffinpaint/unet_main/diffusion_pytorch_model.safetensors", "add", r"unknown \(own.weight\)"),
        ("sd-vae-ft-mse/diffusion_pytorch_model.safetensors", "shape", "differ in shape"),
        ("stable-diffusion-v1-5/text_encoder/model.safetensors", "drop", "are missing"),
        (LORA, "lora", r"belong to no layer of the motion UNet \(lora_unet_nowhere\)"),
        ("diffinpaint/unet_main/config.json", "config", "does not describe a network"),
        ("stable-diffusion-v1-5/tokenizer/vocab.json", "words", "lacks <|startoftext|>"),
    ],
)
def test_a_file_that_does_not_fit_is_named_in_one_sentence(
    copied: Callable[[str], Path], name: str, change: str, words: str, tmp_path: Path
) -> None:
    path = copied(name)
    if path.suffix == ".json":
        value = json.loads(path.read_text())
        value |= {"down_block_types": ["Nothing"], "block_out_channels": [8]}
        path.write_text(json.dumps({"a": 0} if change == "words" else value))
    else:
        tensors = load_file(path)
        first = sorted(tensors)[0]
        if change == "drop":
            tensors.pop(first)
        elif change == "shape":
            tensors[first] = torch.zeros(7)
        else:
            tensors["lora_unet_nowhere.alpha" if change == "lora" else "own.weight"] = torch.zeros(1)
        save_file(tensors, path)
    with pytest.raises(InputError, match=words.replace("<|", r"<\|").replace("|>", r"\|>")) as error:
        load_published(open_weights(tmp_path))
    assert name in str(error.value)
    assert str(tmp_path) not in str(error.value)
