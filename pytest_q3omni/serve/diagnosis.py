"""What to look at first when an engine stays far below the roofline, from what it says of its kernels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pytest_q3omni.engines.serving import Kernels
from pytest_q3omni.records import Numerics
from pytest_q3omni.serve.hardware import Hardware
from pytest_q3omni.serve.roofline import Prediction

BOUND = 50.0
"""Per cent of the roofline from which on nothing is said. Others have reached as much: vLLM on an H100 64 to 76 % in
BF16 at 8 to 64 sequences, and the 61 and 81 tokens per second published for an A3B model on Thor are about 50 and 65 %
of what four-bit weights allow. Below it something is there to be found."""

LAUNCH_SECONDS = 4e-3
"""A step whose roofline is shorter waits for launches, not for memory: with CUDA graphs vLLM 0.26 took 5.1 ms in BF16
and 4.6 ms in NVFP4 for one token of the full-size model's 48 layers on an H100, whose memory needs 1.8 and 0.7 ms."""

UNCAPTURED_SECONDS = 50e-3
"""A prompt that no CUDA graph was captured for waits for launches: with vLLM 0.26 on an H100, 512 tokens through 48
layers took 85 ms in either precision, and 8192 tokens 175 ms in BF16, where the arithmetic counts."""

_NEW_ARCHITECTURE = (10, 0)


def look_first(
    percent: float, prediction: Prediction, kernels: Kernels, device: Hardware, *, numerics: Numerics, at_once: int
) -> tuple[str, ...]:
    """What to look at, the likeliest first; nothing at or above `BOUND` per cent of the roofline.

    numerics: what the checkpoint asks for. kernels: what the engine chose; of what it does not name, nothing is said.
    """
    if percent >= BOUND:
        return ()
    found = tuple(_named(prediction, kernels, device, numerics, at_once))
    return found or (_UNKNOWN,)


def _named(
    prediction: Prediction, kernels: Kernels, device: Hardware, numerics: Numerics, at_once: int
) -> Iterator[str]:
    if kernels.eager:
        yield _EAGER
    emulated = _with(kernels, "emulation")
    if emulated:
        yield f"{emulated}: emulation computes the right numbers slowly, to check them. Fix: {_BACKEND}"
    widened = _with(kernels, "marlin")
    if widened and numerics == "w4a4" and device.fp4 is not None:
        yield (
            f"{widened}: weight-only kernels, though the checkpoint is W4A4 and {device.name} multiplies FP4. They "
            f"cost most in prefill and with many at once. Fix: {_BACKEND}; `q3omni doctor` says what is missing"
        )
    if widened and device.fp4 is None:
        yield (
            f"{widened}: {device.name} has no FP4, so these kernels widen weights to BF16 for each product. That "
            "is the best it can do with this format, and its roofline does not count it: prefill of 8192 tokens ran "
            "at 0.67 times BF16's rate on an H100. Nothing is broken. Fix: none on this device; where prompts are long "
            "and answers short, BF16 or FP8 serves them faster"
        )
    if kernels.expert_tuning == "default":
        yield (
            f"the experts' kernel runs with default settings: none are tuned for {device.name} and these shapes. On "
            "Thor 34 tokens per second were measured so where 61 are published. Fix: tune them with vLLM's "
            "benchmark_moe.py, and name the folder in VLLM_TUNED_CONFIG_FOLDER"
        )
    if device.capability >= _NEW_ARCHITECTURE:
        code = "sm_{}{}".format(*device.capability)
        yield (
            f"a build of torch, vLLM or FlashInfer without code for {code} falls back to slow kernels or translates at "
            "first use; one such build cost a factor of 10 on Thor. Fix: `q3omni doctor` names them"
        )
    if prediction.step_seconds < LAUNCH_SECONDS and not kernels.eager:
        yield (
            f"at {at_once} at once the step is too short for this device: its memory needs "
            f"{1e3 * prediction.step_seconds:.1f} ms, and launching the kernels of the full-size model took about 5 ms "
            "on an H100, in either precision. Nothing is broken. Fix: more sequences at once, or a smaller device"
        )
    tokens = round(prediction.tokens_per_second * prediction.step_seconds)
    if tokens > at_once and prediction.step_seconds < UNCAPTURED_SECONDS and not kernels.eager:
        yield (
            f"a prompt of {tokens} tokens may be longer than the largest CUDA graph that was captured (twice the "
            "sequences at once in vLLM), and its step then waits for launches as in eager mode: 512 tokens took 85 "
            "ms on an H100, 128 tokens 17 to 30. Fix: cudagraph_capture_sizes with your prompts' lengths, where short"
        )


def _with(kernels: Kernels, word: str) -> str:
    """The kernels whose name has `word`, with how many layers they compute; "" where none has."""
    kinds: Mapping[str, Mapping[str, int]] = {"linear layers": kernels.linear, "layers of experts": kernels.experts}
    return ", ".join(
        f"{name} in {count} {kind}"
        for kind, chosen in kinds.items()
        for name, count in sorted(chosen.items())
        if word in name.lower()
    )


_EAGER = (
    "eager mode, no CUDA graphs: one token took 16 times as long on an H100, in BF16 and in NVFP4. Fix: start the "
    "engine without enforce_eager"
)
_BACKEND = "leave linear_backend and moe_backend at auto"
_UNKNOWN = (
    "nothing that the engine says of its kernels explains it. Fix: look for other processes on the device and for its "
    "power and clock limits (nvidia-smi; on Jetson the power mode, nvpmodel), then `q3omni doctor`"
)
