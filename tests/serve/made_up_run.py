"""A pytest-benchmark JSON of the serving benchmarks with made-up figures, for tests only: no device gave them."""

from typing import Any

DEVICE = "Made-up Device 9000"
KERNELS = {
    "linear": {"MadeUpLinear": 192},
    "experts": {"MadeUpExperts": 48},
    "attention": {"MADE_UP": 48},
    "cuda_graphs": "FULL",
    "expert_tuning": "default",
}
RATES = {"original": {1: 40.0, 8: 100.0, 32: 200.0, 64: 300.0}, "quantized": {1: 80.0, 8: 250.0, 32: 600.0, 64: 900.0}}
WEIGHTS = {"original": 60 << 30, "quantized": 20 << 30}


def row(half: str, kind: str, figure: float, **changes: Any) -> dict[str, Any]:
    """One benchmark as `--benchmark-json` has it, of what this project's code reads."""
    found = {
        "kind": kind,
        "checkpoint": half,
        "marker": "gpu",
        "numerics": "bf16" if half == "original" else "w4a4",
        "weights": "random",
        "engine": "vLLM",
        "device": DEVICE,
        "capability": [9, 0],
        "versions": {"vllm": "1.2.3", "torch": "4.5.6"},
        "weight_bytes": WEIGHTS[half],
        "kv_cache_bytes": 1 << 30,
        "kernels": KERNELS,
        "unit": {"load": "s", "first token": "ms"}.get(kind, "tokens/s"),
        "figure": figure,
        "figures": [figure * share for share in (0.96, 0.98, 1.0, 1.02, 1.04)],
        **changes,
    }
    return {"name": f"test_serving[gpu-{half}-{kind}]", "extra_info": found}


def roofline(half: str, figure: float) -> dict[str, Any]:
    hints = ["made-up hint. Fix: none"] if half == "original" else []
    rate = 4 * figure if half == "original" else 1.25 * figure
    return {"tokens_per_second": rate, "percent": 100 * figure / rate, "bound": "memory", "look_first": hints}


def run(**changes: Any) -> dict[str, Any]:
    """A whole run. changes: of every row."""
    found = []
    for half, rates in RATES.items():
        found.append(row(half, "load", 100.0 if half == "original" else 25.0, figures=[100.0], **changes))
        first = {"at_once": 1, "prompt_tokens": 128, "new_tokens": 1}
        found.append(row(half, "first token", 50.0 if half == "original" else 40.0, **first, **changes))
        for at_once, figure in rates.items():
            sizes = {"at_once": at_once, "prompt_tokens": 128, "new_tokens": 256}
            between = {"p50": 1e3 * at_once / figure, "p95": 7.0, "p99": 8.0}
            said = {"inter_token_ms": between, "roofline": roofline(half, figure)}
            found.append(row(half, "decode", figure, **sizes, **said, **changes))
        for length in (512, 8192):
            sizes = {"at_once": 1, "prompt_tokens": length, "new_tokens": 1}
            found.append(
                row(half, "prefill", 10.0 * length, **sizes, roofline=roofline(half, 10.0 * length), **changes)
            )
    tiny = row("original", "decode", 5.0, at_once=1, prompt_tokens=16, new_tokens=8, marker="tiny", device="a CPU")
    other = {"name": "test_packing", "extra_info": {"unit": "GB/s", "figure": 1.0}}
    return {"datetime": "2020-02-02T02:02:02+00:00", "benchmarks": [*found, tiny, other]}
