"""The tiny model's configuration: every stage of Qwen3-Omni, each as small as its number formats allow.

NVFP4 needs `in_features` in multiples of 16; the kernels that serve it want more: Marlin takes 128 x 64 tiles, CUTLASS
32 x 32. So the thinker is 128 wide with experts of 64, and no Linear that can be packed has an odd size.
"""

from __future__ import annotations

from transformers import Qwen2Tokenizer, Qwen3OmniMoeConfig

from recipe.task import CODE_GROUPS, CODES

TALKER_VOCABULARY = CODES + 1024
"""`generate` suppresses the last 1024 ids as control tokens, so the codes must come on top of them."""

_ROPE = {"rope_type": "default", "rope_theta": 1_000_000.0}
_MROPE = {**_ROPE, "mrope_interleaved": True, "mrope_section": [6, 5, 5]}  # sums to head_dim / 2
_INIT = {"initializer_range": 0.05}  # 0.02 is for widths of thousands


def padded(size: int) -> int:
    """The vocabulary's size in the weights: the next multiple of 64, as in the full-size model (padded, too)."""
    return -(-size // 64) * 64


def _audio() -> dict:
    return {
        "num_mel_bins": 128,
        "d_model": 64,
        "encoder_layers": 2,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 128,
        "downsample_hidden_size": 16,
        "output_dim": 128,
        "n_window": 50,  # the processor counts audio tokens with this value
        "n_window_infer": 800,
        **_INIT,
    }


def _vision() -> dict:
    return {
        "depth": 2,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_heads": 2,
        "patch_size": 16,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "out_hidden_size": 128,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0],
        "image_size": 128,  # vLLM reads this and the next, transformers does not
        "apply_vit_abs_pos_embed": True,
        "tokens_per_second": 2,
        **_INIT,
    }


def _thinker_text(tokenizer: Qwen2Tokenizer) -> dict:
    return {
        "vocab_size": padded(len(tokenizer)),
        "hidden_size": 128,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "moe_intermediate_size": 64,
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "norm_topk_prob": True,
        "max_position_embeddings": 2048,
        "rope_parameters": _MROPE,
        "tie_word_embeddings": False,
        "eos_token_id": tokenizer.convert_tokens_to_ids("<|im_end|>"),
        **_INIT,
    }


def _talker_text() -> dict:
    return {
        "vocab_size": TALKER_VOCABULARY,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "moe_intermediate_size": 64,
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "norm_topk_prob": True,
        "shared_expert_intermediate_size": 64,
        "max_position_embeddings": 2048,
        "rope_parameters": _MROPE,
        "tie_word_embeddings": False,
        **_INIT,
    }


def _code_predictor() -> dict:
    return {
        "vocab_size": CODES,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "num_code_groups": CODE_GROUPS,
        "max_position_embeddings": 2048,
        "rope_parameters": _ROPE,
        **_INIT,
    }


def _code2wav() -> dict:
    return {
        "codebook_size": CODES,
        "num_quantizers": CODE_GROUPS,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "sliding_window": 72,
        "upsample_rates": [8, 5, 4, 3],  # the full-size model's: 1920 samples of 24 kHz per frame of codes
        "upsampling_ratios": [2, 2],
        "decoder_dim": 64,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
        **_INIT,
    }


def build_config(tokenizer: Qwen2Tokenizer) -> Qwen3OmniMoeConfig:
    """The whole configuration; every token id in it is looked up in the tokenizer."""
    ids = tokenizer.get_vocab()
    media = {
        "audio_token_id": ids["<|audio_pad|>"],
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
        "audio_start_token_id": ids["<|audio_start|>"],
        "audio_end_token_id": ids["<|audio_end|>"],
        "position_id_per_seconds": 13,
        "seconds_per_chunk": 2,
        **_INIT,
    }
    talker = {
        "text_config": _talker_text(),
        "code_predictor_config": _code_predictor(),
        "num_code_groups": CODE_GROUPS,
        "thinker_hidden_size": 128,
        "accept_hidden_layer": 1,
        "spatial_merge_size": 2,
        # In the order and with the gaps of the full-size model, which starts them at 2148.
        "codec_pad_id": CODES + 100,
        "codec_bos_id": CODES + 101,
        "codec_eos_token_id": CODES + 102,
        "codec_nothink_id": CODES + 107,
        "codec_think_bos_id": CODES + 108,
        "codec_think_eos_id": CODES + 109,
        "speaker_id": {"chelsie": CODES + 253, "ethan": CODES + 254, "aiden": CODES + 255},
    }
    return Qwen3OmniMoeConfig(
        architectures=["Qwen3OmniMoeForConditionalGeneration"],
        dtype="bfloat16",
        enable_audio_output=True,
        thinker_config={
            "audio_config": _audio(),
            "vision_config": _vision(),
            "text_config": _thinker_text(tokenizer),
            "user_token_id": ids["user"],
            **media,
        },
        talker_config={**talker, **media},
        code2wav_config=_code2wav(),
        im_start_token_id=ids["<|im_start|>"],
        im_end_token_id=ids["<|im_end|>"],
        tts_pad_token_id=ids["<tts_pad>"],
        tts_bos_token_id=ids["<tts_text_bos>"],
        tts_eos_token_id=ids["<tts_text_eod>"],
        system_token_id=ids["system"],
        user_token_id=ids["user"],
        assistant_token_id=ids["assistant"],
        **_INIT,
    )
