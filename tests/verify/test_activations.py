"""Bounds on a layer's input hold for random tokens, and are not far from what random tokens reach."""

import numpy as np
import pytest
from sound_checkpoints import SoundCheckpoint

from pytest_q3omni.calibrate.record import load_record
from pytest_q3omni.nvfp4 import Packed, unpack_tensor
from pytest_q3omni.omni.checkpoint import Checkpoint, scan
from pytest_q3omni.omni.naming import input_site
from pytest_q3omni.omni.tiny import record_path
from pytest_q3omni.verify.activations import Activations, layer_of, sampled
from pytest_q3omni.verify.subject import Subject

pytestmark = pytest.mark.tiny

LAYER = "thinker.model.layers.0"


def weight(checkpoint: Checkpoint, module: str) -> np.ndarray:
    codes, scales = checkpoint.array(f"{module}.weight"), checkpoint.array(f"{module}.weight_scale")
    return unpack_tensor(Packed(codes, scales, np.float32(checkpoint.array(f"{module}.weight_scale_2"))))


def silu(values: np.ndarray) -> np.ndarray:
    return values / (1 + np.exp(-values))


@pytest.fixture
def subject(sound: SoundCheckpoint) -> Subject:
    return Subject(scan(sound("nvfp4-default")))


def largest_inputs(checkpoint: Checkpoint, tokens: np.ndarray) -> dict[str, float]:
    """Module -> largest |input| for tokens that the norm has normalised to length sqrt(width)."""
    normalised = tokens * np.sqrt(tokens.shape[1] / (tokens**2).sum(axis=1, keepdims=True))
    first, second = (
        normalised * checkpoint.array(f"{LAYER}.{name}.weight").astype(np.float32)
        for name in ("input_layernorm", "post_attention_layernorm")
    )
    expert = f"{LAYER}.mlp.experts.3"
    hidden = silu(second @ weight(checkpoint, f"{expert}.gate_proj").T) * (
        second @ weight(checkpoint, f"{expert}.up_proj").T
    )
    inputs = {
        f"{LAYER}.self_attn.q_proj": first,
        f"{expert}.up_proj": second,
        f"{LAYER}.self_attn.o_proj": first @ weight(checkpoint, f"{LAYER}.self_attn.v_proj").T,
        f"{expert}.down_proj": hidden,
    }
    return {module: float(np.abs(values).max()) for module, values in inputs.items()}


@pytest.mark.parametrize("kind", ["gaussian", "one channel", "sparse", "aligned with v", "aligned with gate"])
def test_no_token_exceeds_the_bound(kind: str, subject: Subject) -> None:
    random = np.random.default_rng(11)
    tokens = random.standard_normal((512, 128)).astype(np.float32)
    checkpoint = subject.checkpoint
    if kind == "one channel":
        tokens = np.eye(128, dtype=np.float32) * 1000
    elif kind == "sparse":
        tokens *= random.random(tokens.shape) < 0.05
        tokens[:, 0] += 1e-3
    elif kind.startswith("aligned"):
        module = f"{LAYER}.self_attn.v_proj" if kind.endswith("v") else f"{LAYER}.mlp.experts.3.gate_proj"
        tokens = weight(checkpoint, module)
    activations = Activations(subject)
    for module, amax in largest_inputs(checkpoint, tokens).items():
        allowed = activations.range_of(subject.packed[module])
        assert allowed is not None
        assert amax <= 1.0001 * allowed.upper  # float32 sums
        assert not allowed.exact or amax >= 0.999 * allowed.typical


def test_the_calibrated_model_is_well_inside(subject: Subject) -> None:
    recorded, activations = load_record(record_path()).input_amax, Activations(subject)
    for packed in subject.packed.values():
        allowed = activations.range_of(packed)
        assert allowed is not None
        assert allowed.typical < recorded[input_site(packed.module)] < allowed.upper


def test_a_zero_in_the_norm_gives_no_lower_bound(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    array = Checkpoint.array

    def with_zero(self: Checkpoint, name: str) -> np.ndarray:
        values = array(self, name).copy()
        if name.endswith("input_layernorm.weight"):
            values[0] = 0
        return values

    monkeypatch.setattr(Checkpoint, "array", with_zero)
    allowed = Activations(subject).range_of(subject.packed[f"{LAYER}.self_attn.q_proj"])
    assert allowed is not None
    assert allowed.typical == 0


def test_layers_and_samples(subject: Subject) -> None:
    assert layer_of(f"{LAYER}.mlp.experts.3.up_proj") == LAYER
    assert layer_of("thinker.lm_head") == ""
    modules = list(subject.packed.values())
    assert len(list(sampled(modules, 4))) == 4
    assert list(sampled(modules[:3], 4)) == modules[:3]
