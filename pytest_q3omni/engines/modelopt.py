"""ModelOpt 0.47: quantizers in the model, and what they saw. All that is odd about it is in this file.

- Importing it warns, and quantizing prints to stdout, which belongs to our JSON: both are dropped.
- It has no kernel for NVFP4 on the CPU, and on CUDA below capability 8.9 only one that it compiles with nvcc first:
  `nvfp4_fake_quantize` of fake_quant.py is registered for both.
- Its quantized Conv3d takes a CUDA-only path even when its quantizers are disabled: it is unregistered meanwhile.
- Fused experts have one input quantizer for all experts, and a weight quantizer each.
- Without an enabled input quantizer it skips the calibration loop.
"""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from fnmatch import fnmatchcase
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from pytest_q3omni.engines.fake_quant import nvfp4_fake_quantize
from pytest_q3omni.errors import EngineError, MissingDependency
from pytest_q3omni.nvfp4.format import BLOCK_SIZE
from pytest_q3omni.omni.extras import missing_extra
from pytest_q3omni.omni.naming import experts_module
from pytest_q3omni.records import TensorPlan

if TYPE_CHECKING:
    import torch

PACKAGE, RELEASES = "nvidia-modelopt", ">=0.47,<0.48"
_RELEASE = re.compile(r"0\.47(\.|$)")
_FORMAT = {"num_bits": (2, 1), "block_sizes": {-1: BLOCK_SIZE, "type": "dynamic", "scale_bits": (4, 3)}}
"""A quantizer's attributes for NVFP4: E2M1, blocks of 16 along the last axis, E4M3 scales taken from the data."""

_TRITON_KERNEL = (8, 9)
"""Compute capability from which ModelOpt has a Triton kernel for NVFP4: its conversion to E4M3 needs it."""

_KEPT: list[Any] = []
"""A registration lives as long as its Library object."""


def modelopt_version() -> str:
    """The installed release.

    Raises:
        MissingDependency: none is installed, or one that this file was not written for.
    """
    try:
        found = version(PACKAGE)
    except PackageNotFoundError as error:
        raise missing_extra(f"{PACKAGE}{RELEASES}", "calibration", error) from error
    if not _RELEASE.match(found):
        fix = "pip install 'pytest-q3omni[quantize]'"
        raise MissingDependency(f"{PACKAGE} {found} is installed", expected=f"{PACKAGE}{RELEASES}", fix=fix)
    return found


@cache
def load_modelopt() -> Any:
    """`modelopt.torch.quantization`, with our kernel registered where it has none.

    Raises:
        MissingDependency: it, or `requests`, which it imports and does not declare, is not installed.
    """
    modelopt_version()
    try:
        import torch

        with _silence():
            import modelopt.torch.quantization as quantization
    except ImportError as error:
        raise missing_extra(f"{PACKAGE}{RELEASES} and requests>=2.32", "calibration", error) from error
    library = torch.library.Library("tensorrt", "IMPL")
    with _silence():  # torch 2.11 warns of what is meant: ModelOpt's own function is replaced
        for kind in _without_kernel():
            library.impl("dynamic_block_quantize_op", _dynamic_block_quantize, kind, allow_override=True)
    _KEPT.append(library)
    return quantization


def _without_kernel() -> tuple[str, ...]:
    """Dispatch keys for which ModelOpt has no kernel that works at once; it asks the current device, so we do, too."""
    import torch

    compiles = torch.cuda.is_available() and torch.cuda.get_device_capability() < _TRITON_KERNEL
    return ("CPU", "CUDA") if compiles else ("CPU",)


@contextmanager
def _silence() -> Iterator[None]:
    """Without what ModelOpt prints and warns of: transformers' release, a missing compiler, every registration."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _dynamic_block_quantize(
    data: torch.Tensor, block_size: int, amax: torch.Tensor,
    num_bits: int, exponent_bits: int, scale_num_bits: int, scale_exponent_bits: int,
) -> torch.Tensor:  # fmt: skip
    """`tensorrt::dynamic_block_quantize_op` on any device, for NVFP4 alone."""
    asked = (num_bits, exponent_bits, scale_num_bits, scale_exponent_bits, block_size)
    if asked != (4, 2, 8, 4, BLOCK_SIZE):
        raise EngineError(
            f"a format of {num_bits} bits ({exponent_bits} of them exponent) in blocks of {block_size}, scales of "
            f"{scale_num_bits} bits ({scale_exponent_bits})", where="ModelOpt on this device",
            expected=f"NVFP4: 4 bits (2), blocks of {BLOCK_SIZE}, scales of 8 bits (4)",
            fix=f"run it on a CUDA GPU of capability {_TRITON_KERNEL[0]}.{_TRITON_KERNEL[1]} or higher",
        )  # fmt: skip
    return nvfp4_fake_quantize(data, amax)


def quant_config(tensors: Sequence[TensorPlan], *, weights: bool = True) -> dict[str, Any]:
    """ModelOpt's config of a plan's tensors: everything off, then on what is packed; max calibration.

    weights: whether weight quantizers are on, too. Calibration does not need them: a weight's amax is in its file.
    """
    planned = {_quantizers(tensor)[0] for tensor in _packed(tensors) if tensor.input_site}
    planned |= {_quantizers(tensor)[1] for tensor in _packed(tensors) if weights}
    others = {name for tensor in tensors for name in _quantizers(tensor)} - planned
    patterns: set[str] = set()
    for name in sorted(planned):
        # One entry for all layers where nothing else matches: each entry costs a walk over every module.
        pattern = re.sub(r"\.\d+(?=\.)", ".*", name)
        if pattern not in patterns:
            patterns.add(name if any(fnmatchcase(other, pattern) for other in others) else pattern)
    entries = [{"quantizer_name": pattern, "cfg": dict(_FORMAT)} for pattern in sorted(patterns)]
    return {"quant_cfg": [{"quantizer_name": "*", "enable": False}, *entries], "algorithm": "max"}


def _packed(tensors: Sequence[TensorPlan]) -> Iterator[TensorPlan]:
    return (tensor for tensor in tensors if tensor.action == "nvfp4")


def _quantizers(tensor: TensorPlan) -> tuple[str, str]:
    """Names (or patterns) of the quantizers of a tensor's module: of its input, of its weight."""
    experts = experts_module(tensor.module)
    if experts:
        projection = "down_proj" if tensor.module.endswith(".down_proj") else "gate_up_proj"
        return f"{experts}.{projection}_input_quantizer", f"{experts}.{projection}_weight_quantizers.*"
    return f"{tensor.module}.input_quantizer", f"{tensor.module}.weight_quantizer"


@contextmanager
def without_conv3d(quantization: Any) -> Iterator[None]:
    """ModelOpt leaves Conv3d alone while this is open."""
    import torch

    registry, kind = quantization.QuantModuleRegistry, torch.nn.Conv3d
    if kind not in registry:
        yield
        return
    key = registry.get_key(kind)
    quantized = registry[kind].__bases__[0]  # the registry hands out a subclass of what was registered, and of Conv3d
    registry.unregister(kind)
    try:
        yield
    finally:
        registry.register({kind: key})(quantized)


def fake_quantize(
    model: Any, tensors: Sequence[TensorPlan], loop: Callable[[Any], None], *, weights: bool = True
) -> Any:
    """Put a plan's quantizers into the model (in place) and calibrate them: `loop(model)` runs the conversations.

    Weights of a fused group (q/k/v) share their amax, as in ModelOpt's exporter: engines multiply them as one matrix.

    Raises:
        EngineError: ModelOpt fails (its error is the cause), or enables other quantizers than planned.
    """
    quantization = load_modelopt()
    try:
        with _silence(), without_conv3d(quantization):
            model = quantization.quantize(model, quant_config(tensors, weights=weights), loop)
    except Exception as error:  # whatever a foreign library raises, it becomes the cause of ours
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise EngineError(f"ModelOpt cannot quantize the model ({text})", where="calibration") from error
    if weights:
        _share_amax(model, tensors)
    return model


def _share_amax(model: Any, tensors: Sequence[TensorPlan]) -> None:
    """Give the weight quantizers of each fused group the largest amax among them; experts' gate and up are one."""
    import torch

    groups: dict[str, list[Any]] = {}
    for tensor in _packed(tensors):
        if not experts_module(tensor.module):
            groups.setdefault(tensor.group, []).append(model.get_submodule(f"{tensor.module}.weight_quantizer"))
    for members in groups.values():
        largest = torch.stack([member._amax.float().amax() for member in members]).amax()
        for member in members:
            member._amax.fill_(largest)


def round_inputs(model: Any, tensors: Sequence[TensorPlan], on: bool) -> None:
    """Let the input quantizers of a fake-quantized model round (W4A4), or pass on what they get (W4A16)."""
    for name in {_quantizers(tensor)[0] for tensor in _packed(tensors) if tensor.input_site}:
        quantizer = model.get_submodule(name)
        quantizer.enable() if on else quantizer.disable()


def input_amax(model: Any, tensors: Sequence[TensorPlan]) -> dict[str, float]:
    """Input site -> largest |input| that its quantizers saw; sites that saw nothing are absent.

    q/k/v of a layer see the same input, and so do gate and up: the site's value is the largest of theirs.
    """
    modules = dict(model.named_modules())
    found: dict[str, float] = {}
    for tensor in _packed(tensors):
        if not tensor.input_site:
            continue
        name = _quantizers(tensor)[0]
        if name not in modules:
            raise EngineError("ModelOpt made no such quantizer", where=name, expected="one for each input site")
        amax = getattr(modules[name], "_amax", None)
        if amax is not None:
            value = float(amax.float().amax())
            found[tensor.input_site] = max(value, found.get(tensor.input_site, value))
    return found
