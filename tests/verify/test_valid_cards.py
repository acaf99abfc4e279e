"""No false alarm on a model card: sentences that people write, over a checkpoint of which they are true or say nothing.

The checkpoint: thinker experts and attention NVFP4 (W4A4), everything else BF16, 1.22x smaller.
"""

from pathlib import Path

import pytest
from _checkpoint_edit import write_card
from sound_checkpoints import Sound, judged

from pytest_q3omni.omni.tiny import checkpoint_path
from pytest_q3omni.verify.card_claims import clauses

pytestmark = pytest.mark.tiny

TRUE = [
    "Experts and attention are NVFP4.",
    "The audio tower and the vision tower stay in BF16.",
    "Vision encoder, audio encoder and lm_head are kept in bfloat16.",
    "The talker is unquantized, code2wav is BF16.",
    "| Component | Precision |\n|---|---|\n| thinker experts | NVFP4 |\n| lm_head | BF16 |\n| vision tower | BF16 |",
    "Routers are not quantized.",
    "The router is excluded from quantization.",
    "About 1.2x smaller than the BF16 original.",
    "W4A4: weights and activations in FP4.",
    "Quantized to NVFP4 with TensorRT Model Optimizer.",
]
SILENT = [
    "Unlike the FP8 release, attention is NVFP4 here.",
    "The BF16 model needs 66 GB; this one fits into 24 GB of VRAM.",
    "Block scales are FP8 (E4M3), one for 16 weights of the experts.",
    "Attention runs in BF16 with FlashAttention kernels.",
    "For Hopper, experts are computed in BF16 after dequantization.",
    "If the audio tower were NVFP4, speech would suffer.",
    "Only the talker experts of the other branch are BF16.",
    "KV cache can be FP8: pass --kv-cache-dtype fp8.",
    "4x smaller KV cache with FP8.",
    "4x less memory bandwidth for the experts in FP4.",
    "We compared it with GPTQ and AWQ; both are worse than NVFP4.",
    "See also the GGUF version. This one is NVFP4.",
    "Every expert that is not NVFP4 in the base recipe is BF16.",
    "```\nvllm serve . --quantization fp8  # experts in BF16\n```",
    "    audio tower: NVFP4",
    "Should the vision tower be FP8? We left it.",
    "From BF16 to NVFP4: experts.",
    "The first layers of attention are BF16 in our ablation.",
    "Some experts may be BF16 in later revisions.",
    "Activations of the experts are FP8 in the ablation.",
    "Checkpoint size: see the files.",
    "The original checkpoint size is 66 GB.",
    "experts " * 5000 + "BF16",
    "a" * 1_500_000,
    "---\ntags:\n- fp8\n- gguf\n- 4-bit\n---\nNothing.",
]


@pytest.fixture
def directory(sound: Sound, tmp_path: Path) -> Path:
    return sound.copy("nvfp4-default", tmp_path / "copy")


@pytest.mark.parametrize("claim", [*TRUE, *SILENT], ids=lambda claim: claim[:40].replace("\n", " "))
def test_a_card(claim: str, directory: Path) -> None:
    write_card(directory, claim)
    assert not [finding for finding in judged(directory, ()).findings if finding.check == "model-card"]


def test_all_of_them_in_one_card(directory: Path) -> None:
    write_card(directory, "\n\n".join(claim for claim in [*TRUE, *SILENT] if len(claim) < 1000))
    assert not [finding for finding in judged(directory, ()).findings if finding.check == "model-card"]


@pytest.mark.parametrize("base", ["mixed", "ct-mixed-dynamic"])
def test_a_mix_of_formats(base: str, sound: Sound, tmp_path: Path) -> None:
    directory = sound.copy(base, tmp_path / "copy")
    write_card(directory, "Experts: NVFP4\n\nAttention: FP8\n\nQuantized to FP8 and NVFP4.")
    assert not judged(directory, ()).findings


def test_a_copied_card_is_a_warning(directory: Path) -> None:
    (directory / "README.md").write_text((checkpoint_path() / "README.md").read_text())
    judgement = judged(directory, ("source",))
    (finding,) = [finding for finding in judgement.findings if finding.check == "model-card"]
    assert finding.severity == "warning"
    assert not judgement.failed


def test_a_card_of_a_text_model(sound: Sound, tmp_path: Path) -> None:
    """Parts that the model does not have are not asked about."""
    directory = sound.copy("qwen3-moe", tmp_path / "copy")
    write_card(directory, "The audio tower is BF16 and the vision tower is FP8.\n\nlm_head is BF16.")
    assert not [finding for finding in judged(directory, ()).findings if finding.check == "model-card"]


@pytest.mark.parametrize("text", ["x, " * 100_000, "|" * 1_000_000, "\n" * 1_000_000, "1" * 1_000_000, "1." * 500_000])
def test_reading_is_bounded(text: str) -> None:
    assert len(list(clauses(text))) <= 20_000
