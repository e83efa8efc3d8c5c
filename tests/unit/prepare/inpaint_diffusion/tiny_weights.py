"""A weights folder in the published layout, tiny and random, written by the libraries' own save functions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNetMotionModel
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from splatomy.prepare.inpaint.diffusion.brushnet import BrushNet

TEXT_DIM = 16
UNET = {
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": [8, 16],
    "down_block_types": ["CrossAttnDownBlockMotion", "DownBlockMotion"],
    "up_block_types": ["UpBlockMotion", "CrossAttnUpBlockMotion"],
    "layers_per_block": 2,
    "norm_num_groups": 4,
    "cross_attention_dim": TEXT_DIM,
    "num_attention_heads": 2,
    "motion_num_attention_heads": 2,
    "motion_max_seq_length": 32,
    "use_motion_mid_block": True,
}
BRUSHNET = {
    "_class_name": "BrushNetModel",
    "in_channels": 4,
    "conditioning_channels": 5,
    "block_out_channels": [8, 16],
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "layers_per_block": 2,
    "norm_num_groups": 4,
    "cross_attention_dim": TEXT_DIM,
    "attention_head_dim": 2,
}
LORA = "PCM_Weights/sd15/pcm_sd15_smallcfg_2step_converted.safetensors"


def randomised(network: nn.Module, seed: int) -> None:
    """Small random numbers everywhere, so that no part can be left out unnoticed."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)


def _write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def _write_lora(root: Path, unet: nn.Module) -> None:
    generator = torch.Generator().manual_seed(5)
    tensors: dict[str, torch.Tensor] = {}
    for name, module in unet.named_modules():
        if not name.endswith(("attn1.to_q", "attn1.to_out.0", "conv1")) or "motion_modules" in name:
            continue
        weight = module.weight
        key = f"lora_unet_{name.replace('.', '_')}"
        rank = 2
        convolution = [1, 1] if weight.dim() == 4 else []
        tensors[f"{key}.lora_down.weight"] = torch.randn(rank, *weight.shape[1:], generator=generator) * 0.1
        tensors[f"{key}.lora_up.weight"] = (
            torch.randn(weight.shape[0], rank, *convolution, generator=generator) * 0.1
        )
        tensors[f"{key}.alpha"] = torch.tensor(1.0)
    (root / LORA).parent.mkdir(parents=True)
    save_file(tensors, root / LORA)


def write_tiny_weights(root: Path) -> None:
    """Every required file of the layout."""
    torch.manual_seed(3)
    unet = UNetMotionModel(**UNET)
    randomised(unet, 1)
    unet.save_pretrained(root / "diffinpaint/unet_main")
    brushnet = BrushNet(BRUSHNET)
    randomised(brushnet, 2)
    folder = root / "diffinpaint/brushnet"
    _write_json(folder / "config.json", BRUSHNET)
    save_file(brushnet.state_dict(), folder / "diffusion_pytorch_model.safetensors")
    autoencoder = AutoencoderKL(
        block_out_channels=(4, 4, 4, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=2,
        latent_channels=4,
        layers_per_block=1,
    )
    autoencoder.save_pretrained(root / "sd-vae-ft-mse")
    base = root / "stable-diffusion-v1-5"
    config = CLIPTextConfig(
        vocab_size=40, hidden_size=TEXT_DIM, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=8, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    CLIPTextModel(config).save_pretrained(base / "text_encoder")
    # The published file's names begin with text_model, those of newer libraries do not.
    encoder = base / "text_encoder/model.safetensors"
    tensors = {f"text_model.{k.removeprefix('text_model.')}": v for k, v in load_file(encoder).items()}
    save_file({**tensors, "text_model.embeddings.position_ids": torch.arange(8)[None]}, encoder)
    words = {"<|startoftext|>": 38, "<|endoftext|>": 39, "a": 0}
    _write_json(base / "tokenizer/vocab.json", words)
    (base / "tokenizer/merges.txt").write_text("#version: 0.2\n")
    _write_json(base / "tokenizer/tokenizer_config.json", {"pad_token": "<|endoftext|>"})
    _write_json(base / "model_index.json", {"_class_name": "StableDiffusionPipeline"})
    schedule = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    _write_json(base / "scheduler/scheduler_config.json", {**schedule, "num_train_timesteps": 1000})
    _write_lora(root, unet)
