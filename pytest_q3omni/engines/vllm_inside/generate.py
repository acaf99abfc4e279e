"""Greedy answers of one checkpoint, by vLLM's own engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

_CACHE_GIB = "1"


def answers(request: dict[str, Any], step: Callable[..., Any]) -> list[dict[str, Any]]:
    """The answers to the request's questions, in their order: token ids and text.

    A question is {"text", "images": [{"file", "width", "height"}], "audios": [{"file", "rate"}]}; files hold RGB bytes
    and float32 samples.
    """
    import os

    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", _CACHE_GIB)
    from vllm import LLM, SamplingParams

    questions = request["questions"]
    limits = {kind: max(len(question[f"{kind}s"]) for question in questions) for kind in ("image", "audio")}
    options: dict[str, Any] = {
        "enforce_eager": True,
        "limit_mm_per_prompt": {**limits, "video": 0},
        "load_format": "safetensors",  # never a pickle
        "max_model_len": request["max_model_len"],
        "max_num_seqs": 4,
        "seed": 0,
    }
    engine = step("load", lambda: LLM(model=request["model"], **options))
    greedy = SamplingParams(temperature=0.0, max_tokens=request["max_tokens"])
    render = engine.get_tokenizer().apply_chat_template
    given = step("answer", lambda: engine.generate([prompt_of(q, render) for q in questions], greedy, use_tqdm=False))
    return [{"tokens": list(one.outputs[0].token_ids), "text": one.outputs[0].text} for one in given]


def prompt_of(question: dict[str, Any], render: Callable[..., str]) -> dict[str, Any]:
    """A question as vLLM takes it: the text that the chat template renders, and what is to be seen and heard."""
    import numpy as np
    from PIL import Image

    parts = [{"type": kind} for kind in ("image", "audio") for _ in question[f"{kind}s"]]
    message = {"role": "user", "content": [*parts, {"type": "text", "text": question["text"]}]}
    prompt = render([message], tokenize=False, add_generation_prompt=True)
    data: dict[str, Any] = {}
    if question["images"]:
        data["image"] = [
            Image.frombytes("RGB", (image["width"], image["height"]), Path(image["file"]).read_bytes())
            for image in question["images"]
        ]
    if question["audios"]:
        data["audio"] = [(np.fromfile(audio["file"], np.float32), audio["rate"]) for audio in question["audios"]]
    return {"prompt": prompt, **({"multi_modal_data": data} if data else {})}
