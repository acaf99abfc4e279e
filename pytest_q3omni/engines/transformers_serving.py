"""transformers as a serving engine: the same questions as to vLLM, answered eagerly, on any machine with torch.

It serves nobody in earnest: packed weights are dequantized when the model opens. It is the same way walked on a CPU,
and a second opinion on log-probabilities. Run as a module, this file is the engine's process.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pytest_q3omni.engines.engine_process import EngineProcess, environment
from pytest_q3omni.engines.serving_process import ServingProcess
from pytest_q3omni.omni.extras import missing_extra

NAME = "transformers"


class TransformersEngine(ServingProcess):
    """transformers with one checkpoint, in a process of its own. device: "cpu" or "cuda"; without it as `ModelHandle`.

    numerics: "w4a16" or "w4a4"; without it, what the files are made for. noise: a seed; the inputs of all layers then
    move by one BF16 step here and there (`w4a4.add_noise`).

    Raises:
        MissingDependency: torch or transformers is not installed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        numerics: str | None = None,
        device: str | None = None,
        noise: int | None = None,
    ) -> None:
        try:
            found = version(NAME)
        except ImportError as error:  # PackageNotFoundError is one
            raise missing_extra(NAME, "running the model", error) from error
        place = Path(path).absolute()

        def request(folder: Path) -> Mapping[str, Any]:  # noqa: ARG001  # of vLLM's copy of the checkpoint
            return {"model": str(place), "numerics": numerics, "device": device, "noise": noise}

        super().__init__(f"transformers {found}", place, "real", self._begin, request)

    def _begin(self, folder: Path) -> EngineProcess:
        python = Path(sys.executable)
        return EngineProcess(self.name, [str(python), "-m", __name__], folder, environment(python))


def serve(reading: int, writing: int) -> None:
    """Answer requests until the pipe ends: a line of JSON each way, as `EngineProcess` says."""
    from pytest_q3omni.engines.transformers import one_line
    from pytest_q3omni.engines.vllm_inside.surroundings import end_with_asker

    end_with_asker(reading)
    engine = _Served()
    with os.fdopen(reading, encoding="utf-8") as requests, os.fdopen(writing, "w", encoding="utf-8") as answers:
        for line in requests:
            request = json.loads(line)
            work: Callable[..., Any] = getattr(engine, f"do_{request.pop('do')}")
            try:
                reply: dict[str, Any] = {"answer": work(**request)}
            except Exception as error:  # noqa: BLE001  # whatever a foreign library raises is the answer
                reply = {"error": one_line(error)}
            answers.write(json.dumps(reply) + "\n")
            answers.flush()


class _Served:
    def do_load(self, *, model: str, numerics: Any, device: str | None, noise: int | None) -> dict[str, Any]:
        """Open the model."""
        import torch

        from pytest_q3omni.engines.handle import ModelHandle
        from pytest_q3omni.engines.w4a4 import add_noise

        self._handle = ModelHandle(model, numerics=numerics, device=device)
        with self._handle.loaded(speech=False) as opened:
            self._model = opened
        if noise is not None:
            add_noise(opened, noise)
        on_gpu = self._handle.device != "cpu"
        linear = sum(isinstance(module, torch.nn.Linear) for module in opened.modules())
        experts = sum(hasattr(module, "gate_up_proj") for module in opened.modules())
        layers = self._handle.config["thinker_config"]["text_config"]["num_hidden_layers"]
        return {
            "versions": {"transformers": version("transformers"), "torch": torch.__version__},
            "device": torch.cuda.get_device_name() if on_gpu else f"{os.uname().machine} CPU",
            "capability": list(torch.cuda.get_device_capability()) if on_gpu else None,
            "weight_bytes": self._handle.memory_bytes(),
            "kv_cache_bytes": 0,  # it grows with the answer
            "kv_cache_tokens": 0,
            "linear": {f"torch {self._handle.numerics}": linear},
            "experts": {f"eager {self._handle.numerics}": experts},
            "attention": {str(opened.config._attn_implementation): layers},
            "cuda_graphs": "none",
            "expert_tuning": "",
        }

    def do_generate(
        self, *, prompts: list[dict[str, Any]], max_new_tokens: int, past_the_end: bool
    ) -> list[dict[str, Any]]:
        """Prompts of token ids and of one length run together, the others one after another."""
        begin = time.perf_counter()
        made: dict[int, dict[str, Any]] = {}
        for numbers in _batches(prompts):
            inputs = self._inputs([prompts[number] for number in numbers])
            times: list[float] = []

            def clock(ids: Any, _: Any, times: list[float] = times, **__: Any) -> Any:
                times.append(time.perf_counter() - begin)
                return ids.new_zeros(ids.shape[0], dtype=bool)

            for number, tokens in zip(numbers, self._write(inputs, max_new_tokens, past_the_end, clock), strict=True):
                text = self._handle.processor.tokenizer.decode(tokens, skip_special_tokens=True)
                made[number] = {"tokens": tokens, "times": times[: len(tokens)], "text": text}
        return [made[number] for number in range(len(prompts))]

    def _write(self, inputs: dict[str, Any], most: int, past_the_end: bool, clock: Any) -> list[list[int]]:
        import torch
        from transformers import StoppingCriteriaList

        end = self._model.config.im_end_token_id
        with torch.inference_mode():
            made = self._model.generate(
                **inputs, return_audio=False, thinker_do_sample=False, thinker_max_new_tokens=most,
                thinker_min_new_tokens=most if past_the_end else 0, thinker_eos_token_id=end,
                stopping_criteria=StoppingCriteriaList([clock]),
            )  # fmt: skip
        sequences = getattr(made, "sequences", made)[:, inputs["input_ids"].shape[1] :].tolist()
        return [one[: one.index(end) + 1] if end in one and not past_the_end else one for one in sequences]

    def do_prompt_logprobs(self, *, prompts: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """From the second token on: the token, its log-probability, the most likely one."""
        import torch

        from pytest_q3omni.engines.transformers import thinker_step

        found = []
        for prompt in prompts:
            inputs = self._inputs([prompt])
            with torch.inference_mode():
                values = thinker_step(self._model, inputs).logits[0, :-1].float().log_softmax(-1)
            tokens = inputs["input_ids"][0, 1:]
            chosen = values.gather(1, tokens[:, None])[:, 0]
            found.append(
                {
                    "tokens": tokens.tolist(),
                    "logprobs": chosen.tolist(),
                    "most_likely": values.argmax(-1).tolist(),
                }
            )
        return found

    def do_memory(self) -> dict[str, int]:
        """Bytes on the GPU, or of the process."""
        import torch

        if self._handle.device == "cpu":
            peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            return {"allocated": self._handle.memory_bytes(), "peak": peak, "device_used": 0}
        free, total = torch.cuda.mem_get_info()
        allocated, peak = torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated()
        return {"allocated": allocated, "peak": peak, "device_used": total - free}

    def _inputs(self, prompts: list[dict[str, Any]]) -> dict[str, Any]:
        import torch

        if prompts[0]["question"] is None:
            rows = [[*prompt["tokens"], *prompt["reply"]] for prompt in prompts]
            ids = torch.tensor(rows, device=self._handle.device)
            return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        (prompt,) = prompts
        inputs = self._question(prompt["question"])
        if prompt["reply"]:
            more = torch.tensor([prompt["reply"]], device=self._handle.device)
            inputs["input_ids"] = torch.cat([inputs["input_ids"], more], dim=1)
            inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        return inputs

    def _question(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """A question's files of raw pictures and sound as the processor's features."""
        import numpy as np
        from PIL import Image

        media: dict[str, Any] = {}
        if question["images"]:
            media["images"] = [
                Image.frombytes("RGB", (one["width"], one["height"]), Path(one["file"]).read_bytes())
                for one in question["images"]
            ]
        if question["audios"]:
            media["audio"] = [np.fromfile(one["file"], np.float32) for one in question["audios"]]
            media["sampling_rate"] = question["audios"][0]["rate"]
        parts = [{"type": kind} for kind in ("image", "audio") for _ in question[f"{kind}s"]]
        message = {"role": "user", "content": [*parts, {"type": "text", "text": question["text"]}]}
        processor = self._handle.processor
        prompt = processor.apply_chat_template([message], tokenize=False, add_generation_prompt=True)
        features = processor(text=prompt, return_tensors="pt", **media)
        return {name: value.to(self._handle.device) for name, value in features.items()}


def _batches(prompts: list[dict[str, Any]]) -> list[list[int]]:
    """Numbers of prompts that run together."""
    by_length: dict[tuple[int, int], list[int]] = {}
    for number, prompt in enumerate(prompts):
        alone = number if prompt["question"] is not None else -1
        by_length.setdefault((alone, len(prompt["tokens"]) + len(prompt["reply"])), []).append(number)
    return list(by_length.values())


if __name__ == "__main__":
    serve(*map(int, sys.argv[1:]))
