"""An inpainting pipeline and a CLIP in the published layouts, tiny and random."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionInpaintPipeline, UNet2DConditionModel
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPTokenizer

TEXT_DIM = 16
WORDS = {"<|startoftext|>": 38, "<|endoftext|>": 39, "a": 0, "b": 1, "a</w>": 2, "object</w>": 3}


def write_tokenizer(folder: Path) -> CLIPTokenizer:
    """A tokenizer of a few letters."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(WORDS))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"pad_token": "<|endoftext|>", "model_max_length": 8, "unk_token": "<|endoftext|>"})
    )
    return CLIPTokenizer.from_pretrained(str(folder))


def write_pipeline(folder: Path) -> None:
    """StableDiffusionInpaintPipeline.save_pretrained of random networks that work on 32 px."""
    torch.manual_seed(2)
    tokenizer = write_tokenizer(folder.parent / "words")
    text = CLIPTextConfig(
        vocab_size=40, hidden_size=TEXT_DIM, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=8, bos_token_id=38, eos_token_id=39,
    )  # fmt: skip
    autoencoder = AutoencoderKL(
        block_out_channels=(4, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=2,
        latent_channels=4,
        layers_per_block=1,
    )
    unet = UNet2DConditionModel(
        sample_size=16, in_channels=9, out_channels=4, block_out_channels=(8, 16), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), norm_num_groups=4,
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), cross_attention_dim=TEXT_DIM,
        attention_head_dim=2,
    )  # fmt: skip
    pipeline = StableDiffusionInpaintPipeline(
        vae=autoencoder, text_encoder=CLIPTextModel(text), tokenizer=tokenizer, unet=unet,
        scheduler=DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(folder)


def write_clip(folder: Path) -> None:
    """CLIPModel.save_pretrained of a random network that sees 32 px, and its tokenizer."""
    torch.manual_seed(3)
    config = CLIPConfig(
        text_config={
            "vocab_size": 40, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
            "num_attention_heads": 2, "max_position_embeddings": 8, "bos_token_id": 38, "eos_token_id": 39,
        },
        vision_config={
            "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
            "image_size": 32, "patch_size": 8,
        },
        projection_dim=12,
    )  # fmt: skip
    CLIPModel(config).save_pretrained(folder)
    write_tokenizer(folder)
