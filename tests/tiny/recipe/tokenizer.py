"""A byte-level BPE tokenizer in the layout of the hub: every UTF-8 text has tokens, no text needs an unknown one."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import Qwen2Tokenizer

from recipe.task import PROMPTS, SYSTEMS

BPE_SIZE = 512
"""Upper limit: 256 bytes and the merges that make one token of each word of the prompts (which need fewer)."""

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<|audio_start|>",
    "<|audio_end|>",
    "<tts_pad>",
    "<tts_text_bos>",
    "<tts_text_eod>",
    "<tts_text_bos_single>",
    "<|audio_pad|>",
)
"""Names and order of the full-size model's."""

NAMED_TOKENS = {
    "image_token": "<|image_pad|>",
    "audio_token": "<|audio_pad|>",
    "video_token": "<|video_pad|>",
    "vision_bos_token": "<|vision_start|>",
    "vision_eos_token": "<|vision_end|>",
    "audio_bos_token": "<|audio_start|>",
    "audio_eos_token": "<|audio_end|>",
}

ROLES = ("system", "user", "assistant")

# Qwen2's own pattern, so that the words are cut as the full-size tokenizer cuts them.
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

CHAT_TEMPLATE = """\
{%- for message in messages -%}
    {{- '<|im_start|>' + message.role + '\\n' -}}
    {%- if message.content is string -%}
        {{- message.content -}}
    {%- else -%}
        {%- for part in message.content -%}
            {%- if part.type in ('image', 'image_url') -%}
                {{- '<|vision_start|><|image_pad|><|vision_end|>' -}}
            {%- elif part.type in ('audio', 'audio_url', 'input_audio') -%}
                {{- '<|audio_start|><|audio_pad|><|audio_end|>' -}}
            {%- elif part.type in ('video', 'video_url') -%}
                {{- '<|vision_start|><|video_pad|><|vision_end|>' -}}
            {%- elif part.type == 'text' -%}
                {{- part.text -}}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    {{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""
"""ChatML with one placeholder per image, audio or video; the processor repeats it once per embedding."""


def _corpus() -> list[str]:
    """Every wording with a lower-case stand-in for the key: capital letters stay single tokens.

    The role names come often enough to become one token each. `generate` finds the user's turn by those ids, and
    fails with an index error where "user" is two tokens.
    """
    sentences = [sentence.format(key="") for prompts in PROMPTS.values() for sentence in prompts.known]
    return [*sentences, *SYSTEMS * 50, *(f"\n{role}\n" for role in ROLES for _ in range(1000))]


def train_bpe() -> Tokenizer:
    """Byte-level BPE over the prompts; the same merges on every run (ties are broken by token id)."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=BPE_SIZE, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    return tokenizer


def build_tokenizer(folder: Path) -> Qwen2Tokenizer:
    """Train the tokenizer, write its files to `folder`, and load it from there.

    Files: `vocab.json` and `merges.txt` (what the hub has), `tokenizer.json` (the same, for readers without
    transformers), `tokenizer_config.json` and `chat_template.json`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    bpe = train_bpe()
    bpe.model.save(str(folder))
    size = bpe.get_vocab_size()
    added = {
        str(size + index): {
            "content": token,
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": True,
        }
        for index, token in enumerate(SPECIAL_TOKENS)
    }
    config = {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": added,
        "additional_special_tokens": list(SPECIAL_TOKENS[1:]),
        "bos_token": None,
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "extra_special_tokens": NAMED_TOKENS,
        **NAMED_TOKENS,
        "model_max_length": 2048,
        "pad_token": "<|endoftext|>",
        "processor_class": "Qwen3OmniMoeProcessor",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }
    _write_json(folder / "tokenizer_config.json", config)
    _write_json(folder / "chat_template.json", {"chat_template": CHAT_TEMPLATE})
    tokenizer = Qwen2Tokenizer.from_pretrained(folder)
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    return Qwen2Tokenizer.from_pretrained(folder)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
