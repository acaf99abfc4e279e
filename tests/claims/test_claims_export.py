"""What ModelOpt writes.

The tiny model with all its stages, calibrated or not, through ModelOpt's own exporters.
"""

import io
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from outcomes import Outcome

pytestmark = [pytest.mark.tiny, pytest.mark.filterwarnings("ignore::UserWarning")]

_REASON = "needs the quantize extra: pip install pytest-q3omni[quantize]"
pytest.importorskip("torch", reason=_REASON)
pytest.importorskip("transformers", reason=_REASON)
pytest.importorskip("modelopt", reason=_REASON)

from modelopt_runs import PACKAGES, TheirLoop, enabled, quantized, quantizers, working_loop  # noqa: E402

from pytest_q3omni.api import verify  # noqa: E402
from pytest_q3omni.engines.modelopt import load_modelopt  # noqa: E402
from pytest_q3omni.engines.transformers import load_model  # noqa: E402
from pytest_q3omni.omni.checkpoint import Checkpoint, scan  # noqa: E402
from pytest_q3omni.omni.safetensors_file import nbytes  # noqa: E402
from pytest_q3omni.omni.tiny import checkpoint_path  # noqa: E402


@pytest.fixture(autouse=True)
def releases(outcome: Outcome) -> None:
    outcome.uses(*PACKAGES)


@pytest.fixture(scope="module")
def calibrated() -> Any:
    return quantized("NVFP4_DEFAULT_CFG", working_loop)


@pytest.fixture(scope="module")
def exported(calibrated: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`export_hf_vllm_fq_checkpoint` of the whole model, every sample of whose calibration passed."""
    return export_for_vllm(calibrated, tmp_path_factory.mktemp("claims") / "exported")


def export_for_vllm(model: Any, out: Path) -> Path:
    from modelopt.torch.export import export_hf_vllm_fq_checkpoint

    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        export_hf_vllm_fq_checkpoint(model, out)
    return out


def tensor_bytes(checkpoint: Checkpoint) -> int:
    return sum(map(nbytes, checkpoint.tensors))


def ratio(directory: Path) -> float:
    return tensor_bytes(scan(checkpoint_path())) / tensor_bytes(scan(directory))


def test_size_without_calibration(outcome: Outcome, exported: Path, tmp_path: Path) -> None:
    """The file is not smaller (1.00x) because the calibration failed."""
    failing = export_for_vllm(quantized("NVFP4_DEFAULT_CFG", TheirLoop()), tmp_path / "failing")
    finding = f"""{ratio(failing):.2f}x after a calibration that fails, {ratio(exported):.2f}x after one that does not:
        `export_hf_vllm_fq_checkpoint` writes the original's dtype, always."""
    assert f"{ratio(failing):.2f}" == "1.00"
    with outcome.refutes(finding):
        assert ratio(exported) > 1.01


def test_original_precision(outcome: Outcome, exported: Path) -> None:
    """`export_hf_vllm_fq_checkpoint` writes weights in the original precision, and metadata beside them."""
    dtypes = {tensor.dtype for tensor in scan(exported).tensors}
    beside = [file.name for file in exported.iterdir() if file.suffix not in (".json", ".safetensors")]
    finding = f"""All {len(scan(exported).tensors)} tensors are {", ".join(dtypes)}. The metadata is a pickle,
        `{", ".join(beside)}`, for ModelOpt's own evaluation."""
    with outcome.confirms(finding):
        assert dtypes == {"BF16"}
        assert beside


def test_original_weights_preserved(outcome: Outcome, exported: Path) -> None:
    """The original weights are preserved in that file, so nothing is lost."""
    before, after = scan(checkpoint_path()), scan(exported)
    name = "thinker.model.layers.0.mlp.experts.0.down_proj.weight"
    changed = np.mean(before.read(name).view(ml_dtypes.bfloat16) != after.read(name).view(ml_dtypes.bfloat16))
    rounded = [each for each in before.entries if before.read(each).tobytes() != after.read(each).tobytes()]
    finding = f"""They are overwritten with rounded ones: {len(rounded)} of {len(before.entries)} tensors differ,
        {changed:.0%} of the weights of an expert's matrix. It has FP4's loss and BF16's size."""
    assert set(before.entries) == set(after.entries)
    with outcome.refutes(finding):
        assert not rounded


def test_loaded_model_is_quantized(outcome: Outcome, exported: Path) -> None:
    """Loaded again, all quantized layers function correctly."""
    loaded = load_model(exported, speech=True)
    finding = f"""Loaded by transformers, the file has {len(quantizers(loaded))} quantizers: it is a BF16 model. Here,
        the verdict `packed` fails on it."""
    assert verify(exported).verdict("packed").state == "fail"
    with outcome.refutes(finding):
        assert quantizers(loaded)


def test_fold_and_export(outcome: Outcome, tmp_path: Path) -> None:
    """`fold_weight`, then `export_hf_checkpoint`, compresses statically."""
    from modelopt.torch.export import export_hf_checkpoint

    model = quantized("NVFP4_DEFAULT_CFG", working_loop)
    load_modelopt().fold_weight(model)
    weights = {name for name in enabled(model) if "weight_quantizer" in name}
    dtypes = {str(parameter.dtype).removeprefix("torch.") for parameter in model.parameters()}
    assert not weights
    assert dtypes == {"bfloat16"}
    finding = """Folding leaves rounded weights in bfloat16 and no weight quantizer that an exporter could pack, and the
        exporter refuses the whole model, which has no forward."""
    with outcome.refutes(finding, NotImplementedError, match="forward"):
        export_hf_checkpoint(model, export_dir=tmp_path)
