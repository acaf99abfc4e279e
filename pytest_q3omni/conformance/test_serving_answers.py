"""Do packed weights mean in the engine what they mean on paper? Against a BF16 twin, and W4A4 against our own.

Of your checkpoint the first layers run, as many as fit; of the tiny model all. W4A4 is compared after one layer. Each
control must be told from a sound checkpoint: an item of it passes where the comparison rejects it, in every modality.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import pytest

from pytest_q3omni.conformance._pairs import pytest_generate_tests  # noqa: F401  # parametrizes `runner`
from pytest_q3omni.errors import MissingDependency, Q3OmniError
from pytest_q3omni.plugin.fixtures import STORE
from pytest_q3omni.serve.agreement import Row, ServingAgreement
from pytest_q3omni.serve.agreement_bounds import Bounds
from pytest_q3omni.serve.apart import Apart
from pytest_q3omni.serve.controls import CONTROLS
from pytest_q3omni.serve.twin_run import INPUT_LAYERS, LEFT_ALONE, MOST_LAYERS, TwinRun

MODALITIES = ("text", "image", "audio")
_CONTEXT, _AT_ONCE = 2048, 16
_W4A4_CAPABILITY = (10, 0)  # Blackwell and Thor: kernels for W4A4; before, weights alone unless an engine emulates
_SHARE_OF_DISK, _SHARE_OF_MEMORY = 0.4, 0.5
_WHAT = {name: control.what for name, control in CONTROLS.items()} | {
    LEFT_ALONE: "inputs that are not rounded at all, as weight-only kernels leave them"
}
_INPUT_CONTROLS = [*(name for name, control in CONTROLS.items() if control.inputs_only), LEFT_ALONE]
_SOUND = {"weights": "packed weights against their BF16 twin", "inputs": "the engine's W4A4 against our own"}
"""Comparison, by the name of `TwinRun`'s method -> what a line of figures calls it."""

Runs = dict[tuple[str, Path], TwinRun | tuple[str, str]]
"""Runner and checkpoint -> the comparison, or ("skip" or "fail", why there is none)."""
_Result = TypeVar("_Result")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Runs]]:
    """Where cuts and twins are written, and what was asked so far; many gigabytes, gone at the end."""
    home = tmp_path_factory.mktemp("twins")
    yield home, {}
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def run(runner: str, quantized_checkpoint: Path, runs: tuple[Path, Runs], request: pytest.FixtureRequest) -> TwinRun:
    """The comparison of this item's checkpoint; its engines are opened when they are asked."""
    home, known = runs
    request.config.stash[STORE].close_models()  # the device is one engine's at a time
    key = runner, quantized_checkpoint
    if key not in known:
        known[key] = _begun(runner, quantized_checkpoint, home / runner)
    found = known[key]
    if isinstance(found, TwinRun):
        return found
    outcome, why = found
    if outcome == "skip":
        pytest.skip(why)
    pytest.fail(why, pytrace=False)


def _begun(runner: str, path: Path, home: Path) -> TwinRun | tuple[str, str]:
    """The comparison, its twin asked already: where that fails, no item has to try again."""
    try:
        prepared = _prepared(runner, path, home)
        prepared.begin()
    except MissingDependency as error:
        return "skip", f"needs an engine: {error}"
    except Q3OmniError as error:
        return "fail", f"{type(error).__name__}: {error}"
    return prepared


def _prepared(runner: str, path: Path, home: Path) -> TwinRun:
    """What this machine can run.

    Raises:
        MissingDependency: there is no vLLM. Q3OmniError: the checkpoint cannot be read, or not even a layer fits.
    """
    from pytest_q3omni.engines.device import probe
    from pytest_q3omni.engines.engine_python import find_python
    from pytest_q3omni.engines.transformers_serving import TransformersEngine
    from pytest_q3omni.engines.vllm import VLLMEngine
    from pytest_q3omni.engines.vllm_questions import bundled_questions
    from pytest_q3omni.omni.checkpoint import open_checkpoint
    from pytest_q3omni.serve.depth import first_packed_layer, layers_that_fit
    from pytest_q3omni.serve.varied_questions import varied_questions

    python = find_python()
    source, tiny = open_checkpoint(path), runner == "tiny"
    on_cpu = tiny and not probe().cuda
    native = on_cpu or any(capability >= _W4A4_CAPABILITY for _, capability in probe().cuda)
    home.mkdir(parents=True)

    def serve(place: Path, w4a4: bool) -> VLLMEngine:
        emulation = "emulation" if w4a4 and not native else None
        return VLLMEngine(
            place, eager=True, at_once=_AT_ONCE, max_model_len=_CONTEXT, linear_backend=emulation,
            moe_backend=emulation, python=python,
        )  # fmt: skip

    shallowest = first_packed_layer(source) + INPUT_LAYERS
    room = _room(home, "cpu" if on_cpu else "cuda")
    layers = layers_that_fit(source, room, most=max(MOST_LAYERS, shallowest))
    return TwinRun(
        source=source,
        home=home,
        layers=layers,
        input_layers=min(layers, shallowest),
        questions=[*(bundled_questions() if tiny else ()), *varied_questions()],
        weight_only=native,
        serve=serve,
        own=lambda place, numerics, noise: TransformersEngine(
            place, numerics=numerics, device="cpu" if on_cpu else None, noise=noise
        ),
    )


def _room(home: Path, device: str) -> int:
    """Bytes that a cut and its twin may take together, on disk and in the device's memory."""
    from pytest_q3omni.engines.memory import available_bytes

    disk, memory = shutil.disk_usage(home).free, available_bytes(device)
    return int(min(_SHARE_OF_DISK * disk, disk if memory is None else _SHARE_OF_MEMORY * memory))


def _asked(work: Callable[[], _Result]) -> _Result:
    try:
        return work()
    except Q3OmniError as error:
        text = f"{type(error).__name__}: {error}"
    pytest.fail(text, pytrace=False)


def _tell(run: TwinRun, row: Row, comparison: str, control: str | None, request: pytest.FixtureRequest) -> str:
    """What was measured: a line in the item's output (`pytest -rP`), and in JUnit's XML that line and its data."""
    apart, noise, bounds, loaded = row.apart, row.noise, row.bounds, run.loaded
    layers = run.layers if comparison == "weights" else run.input_layers
    depth = "1 layer" if layers == 1 else f"{layers} layers"
    what = _SOUND[comparison] if control is None else f"control {control}"
    line = (
        f"{what}, {row.modality}, {depth}, {loaded.engine} on {loaded.device}: mean |delta log p| "
        f"{apart.mean:.4f} ± {apart.error:.4f} (median {apart.median:.4f}, 99 % {apart.p99:.3f}, largest "
        f"{apart.largest:.3f}), top-1 {apart.top1:.1%} over {apart.positions:,} positions of {apart.prompts} prompts; "
        f"bounds {bounds.mean:.3g} and {bounds.top1:.0%}; the reference against itself {noise.mean:.4f}, "
        f"{noise.top1:.1%}"
    )
    if apart.in_common is not None:
        line += (
            f"; in common {apart.in_common:.3f}, at least {bounds.in_common:g}, the reference with itself "
            f"{noise.in_common:.3f}"
        )
    data = {
        "comparison": comparison,
        "control": control,
        "modality": row.modality,
        "layers": layers,
        "engine": loaded.engine,
        "versions": dict(loaded.versions),
        "device": loaded.device,
        "state": row.state,
        "apart": _figures(apart),
        "noise": _figures(noise),
        "bounds": _figures(bounds),
    }
    request.node.user_properties += [("q3omni agreement", line), ("q3omni agreement data", json.dumps(data))]
    sys.stdout.write(f"{line}\n")
    return line


def _figures(found: Apart | Bounds) -> dict[str, float | str]:
    """Field -> figure, if it has one; "inf" and "nan" as text, since JSON has no such numbers."""
    figures = {name: value for name, value in asdict(found).items() if value is not None}
    return {name: value if math.isfinite(value) else str(value) for name, value in figures.items()}


def _judge(
    run: TwinRun, found: ServingAgreement, modality: str, comparison: str, request: pytest.FixtureRequest
) -> None:
    row = found.row(modality)
    if row is None:
        pytest.fail(f"no {modality} prompt was asked", pytrace=False)
    line = _tell(run, row, comparison, None, request)
    told = [str(finding) for finding in found.findings if finding.where == f"{modality} prompts"]
    if row.state != "pass":
        pytest.fail("\n".join([*told, line]), pytrace=False)


def _must_reject(run: TwinRun, found: ServingAgreement, control: str, request: pytest.FixtureRequest) -> None:
    comparison, passed = "inputs" if control in _INPUT_CONTROLS else "weights", []
    for row in found.rows:
        line = _tell(run, row, comparison, control, request)
        if row.state != "fail":
            passed.append(f"not told from a sound checkpoint: {_WHAT[control]}. {line}")
    if passed:
        pytest.fail("\n".join(passed), pytrace=False)


@pytest.mark.parametrize("modality", MODALITIES)
def test_weights_agree_with_their_twin(modality: str, run: TwinRun, request: pytest.FixtureRequest) -> None:
    """Packed weights and the BF16 weights they stand for, in the same engine: the same probabilities."""
    _judge(run, _asked(run.weights), modality, "weights", request)


@pytest.mark.parametrize("control", [name for name in CONTROLS if name not in _INPUT_CONTROLS])
def test_weights_control(control: str, run: TwinRun, request: pytest.FixtureRequest) -> None:
    """A fault in the weights of one layer is rejected."""
    _must_reject(run, _asked(lambda: run.weights(control)), control, request)


@pytest.fixture
def with_inputs(run: TwinRun) -> TwinRun:
    """The comparison of a checkpoint that quantizes its inputs, too."""
    from pytest_q3omni.engines.packed import file_numerics, packed_modules

    for module in ("torch", "transformers"):
        pytest.importorskip(module, reason=f"needs {module}: pip install 'pytest-q3omni[quantize]'")
    if file_numerics(run.source, packed_modules(run.source)) != "w4a4":
        pytest.skip("no activation is quantized")
    return run


@pytest.mark.parametrize("modality", MODALITIES)
def test_inputs_agree_with_our_own(modality: str, with_inputs: TwinRun, request: pytest.FixtureRequest) -> None:
    """W4A4 as the engine computes it, or emulates it, and as we do: what Thor and Blackwell make of the file."""
    _judge(with_inputs, _asked(with_inputs.inputs), modality, "inputs", request)


@pytest.mark.parametrize("control", _INPUT_CONTROLS)
def test_inputs_control(control: str, with_inputs: TwinRun, request: pytest.FixtureRequest) -> None:
    """A fault in the input scales of one layer is rejected; and so is arithmetic that leaves inputs as they are."""
    _must_reject(with_inputs, _asked(lambda: with_inputs.inputs(control)), control, request)
