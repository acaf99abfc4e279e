"""What a field that is not written out means: the defaults of transformers 5.19.0's classes, where answers depend on
them.

Configs: `Qwen3OmniMoeConfig` and `Qwen3MoeConfig`, in the spelling of `omni/config.py`. Fields that the weights' shapes
depend on are left out, since a config without them is refused, and those whose default differs between releases
(`n_window`). Processors: `Qwen2VLImageProcessor`, `Qwen2VLVideoProcessor` and `WhisperFeatureExtractor`, in the
spelling of `verify/companions.py`. `tests/verify/test_class_defaults.py` compares all with the installed release.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_q3omni.omni.config import MODEL_TYPE, TEXT_TYPE, THINKER_TYPE

_ROUTED = {"num_experts_per_tok": 8, "rms_norm_eps": 1e-06, "hidden_act": "silu"}
_MROPE = {"rope_parameters.mrope_section": None, "rope_parameters.mrope_interleaved": False}
"""vLLM's reading: without a section, positions have one dimension. transformers takes [24, 20, 20]."""
_TEXT = {**_ROUTED, **_MROPE, "norm_topk_prob": True, "rope_parameters.rope_theta": 1000000.0}
_TALKER_TEXT = {**_ROUTED, **_MROPE, "norm_topk_prob": False, "rope_parameters.rope_theta": 10000.0}
_PREDICTOR = {"head_dim": 128, "rms_norm_eps": 1e-06, "hidden_act": "silu", "rope_parameters.rope_theta": 10000.0}
_AUDIO = {
    "encoder_attention_heads": 20,
    "max_source_positions": 1500,
    "activation_function": "gelu",
    "scale_embedding": False,
}
_VISION = {"num_heads": 16, "hidden_act": "gelu_pytorch_tanh"}
_MEDIA = {"audio_token_id": 151646, "image_token_id": 151655, "video_token_id": 151656, "position_id_per_seconds": 25}
_CODEC = {
    "codec_eos_token_id": 4198,
    "codec_nothink_id": 4203,
    "codec_think_bos_id": 4204,
    "codec_think_eos_id": 4205,
    "codec_pad_id": 4196,
    "codec_bos_id": 4197,
}
_VOCODER = {
    "num_attention_heads": 16,
    "rms_norm_eps": 1e-05,
    "sliding_window": 72,
    "hidden_act": "silu",
    "rope_parameters.rope_theta": 10000.0,
}


def _under(place: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{place}.{key}": value for key, value in values.items()}


_THINKER = {
    **{**_MEDIA, "audio_start_token_id": 151647, "user_token_id": 872},
    **_under("text_config", _TEXT),
    **_under("audio_config", _AUDIO),
    **_under("vision_config", _VISION),
}
_TALKER = {
    **{**_MEDIA, **_CODEC, "audio_start_token_id": 151669, "vision_start_token_id": 151652, "accept_hidden_layer": 18},
    **_under("text_config", _TALKER_TEXT),
    **_under("code_predictor_config", _PREDICTOR),
}
_ROLES = {
    "im_start_token_id": 151644,
    "im_end_token_id": 151645,
    "tts_pad_token_id": 151671,
    "tts_bos_token_id": 151672,
    "tts_eos_token_id": 151673,
    "system_token_id": 8948,
    "user_token_id": 872,
    "assistant_token_id": 77091,
}

CONFIG: Mapping[str, Mapping[str, Any]] = {
    MODEL_TYPE: {
        **_ROLES,
        **_under("thinker_config", _THINKER),
        **_under("talker_config", _TALKER),
        **_under("code2wav_config", _VOCODER),
    },
    THINKER_TYPE: _THINKER,
    TEXT_TYPE: {**_ROUTED, "norm_topk_prob": False, "rope_parameters.rope_theta": 10000.0},
}
"""Model type -> dotted field -> default."""

_PICTURES = {
    "do_resize": True,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "do_convert_rgb": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "patch_size": 14,
    "temporal_patch_size": 2,
    "merge_size": 2,
}
_SOUND = {
    "feature_size": 80,
    "sampling_rate": 16000,
    "hop_length": 160,
    "chunk_length": 30,
    "n_fft": 400,
    "padding_value": 0.0,
    "dither": 0.0,
}
PROCESSOR: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "image_processor": ("Qwen2VLImageProcessor", {**_PICTURES, "min_pixels": 56 * 56, "max_pixels": 28 * 28 * 1280}),
    "video_processor": ("Qwen2VLVideoProcessor", _PICTURES),
    "feature_extractor": ("WhisperFeatureExtractor", _SOUND),
}
"""Part of the processor -> (its class, by which the name in a file begins, field -> default)."""
