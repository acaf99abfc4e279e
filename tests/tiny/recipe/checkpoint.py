"""Write the model the way the hub stores the full-size one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen3OmniMoeForConditionalGeneration, Qwen3OmniMoeProcessor

from recipe.media import SAMPLING_RATE
from recipe.tokenizer import build_tokenizer

PREPROCESSOR = {
    "dither": 0.0,
    "feature_extractor_type": "WhisperFeatureExtractor",
    "feature_size": 128,
    "hop_length": 160,
    "image_mean": [0.5, 0.5, 0.5],
    "image_processor_type": "Qwen2VLImageProcessor",
    "image_std": [0.5, 0.5, 0.5],
    "max_pixels": 128 * 128,
    "merge_size": 2,
    "min_pixels": 32 * 32,  # the usual 56 * 56 and more would enlarge small pictures
    "n_fft": 400,
    "n_samples": 4_800_000,
    "nb_max_frames": 30_000,
    "padding_side": "left",
    "padding_value": 0.0,
    "patch_size": 16,
    "processor_class": "Qwen3OmniMoeProcessor",
    "return_attention_mask": True,
    "sampling_rate": SAMPLING_RATE,
    "temporal_patch_size": 2,
}
"""One file for images, sound and video, as on the hub; `size` in pixels is an area there."""

CARD = Path(__file__).with_name("card.md")
"""Text of the model card; the word PARAMETERS stands for their number."""

_NOISE = (
    "_name_or_path",
    "chunk_size_feed_forward",
    "id2label",
    "is_encoder_decoder",
    "label2id",
    "output_attentions",
    "output_hidden_states",
    "problem_type",
    "return_dict",
)
"""Defaults of every transformers configuration that say nothing about this model."""


def write_json(path: Path, value: object) -> None:
    """Indented UTF-8 with a final newline."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_processor(folder: Path) -> Qwen3OmniMoeProcessor:
    """Write tokenizer, chat template and preprocessor, and load them as a processor."""
    build_tokenizer(folder)
    write_json(folder / "preprocessor_config.json", PREPROCESSOR)
    write_json(folder / "config.json", {"model_type": "qwen3_omni_moe"})  # tells AutoTokenizer which class to take
    return load_processor(folder)


def load_processor(folder: Path) -> Qwen3OmniMoeProcessor:
    """The processor of a checkpoint."""
    return Qwen3OmniMoeProcessor.from_pretrained(folder)


def clean_config(config: dict[str, Any]) -> dict[str, Any]:
    """Without the noise, and without settings that are null in parts and stated once for the whole."""
    kept = {key: clean_config(value) if isinstance(value, dict) else value for key, value in config.items()}
    return {
        key: value
        for key, value in kept.items()
        if key not in _NOISE and not (key in ("architectures", "dtype") and value is None)
    }


def write_checkpoint(model: Qwen3OmniMoeForConditionalGeneration, folder: Path) -> None:
    """Write weights as bfloat16, configuration, generation defaults, processor and model card to `folder`.

    Replaces the folder. The model is converted in place.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    model.to(torch.bfloat16).save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)  # written for its owner alone, which a wheel would carry on
    config = clean_config(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    config["talker_config"]["model_type"] = "qwen3_omni_moe_talker"  # as on the hub; its class has no type
    config["thinker_config"]["vision_config"].pop("rope_parameters", None)  # a default that older releases don't know
    processor = write_processor(folder)
    write_json(folder / "config.json", config)
    ids = processor.tokenizer.convert_tokens_to_ids
    generation = {"do_sample": False, "eos_token_id": ids("<|im_end|>"), "pad_token_id": ids("<|endoftext|>")}
    write_json(folder / "generation_config.json", generation)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    card = CARD.read_text(encoding="utf-8").replace("PARAMETERS", f"{parameters:,}")
    (folder / "README.md").write_text(card, encoding="utf-8")
