"""The recipe still makes a model that knows its worlds: a minute or two from nothing."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from recipe.checkpoint import load_processor, write_checkpoint, write_processor  # noqa: E402
from recipe.evaluate import evaluate, expert_tokens  # noqa: E402
from recipe.train import train  # noqa: E402
from transformers import Qwen3OmniMoeForConditionalGeneration  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.tiny]


def test_training_from_scratch_reaches_the_committed_quality(tmp_path):
    # Another seed and fewer steps than the committed model had: the recipe must work, not one lucky draw.
    model = train(write_processor(tmp_path / "processor"), seed=11, steps=400)
    write_checkpoint(model, tmp_path / "checkpoint")
    stored = Qwen3OmniMoeForConditionalGeneration.from_pretrained(tmp_path / "checkpoint", dtype="auto").eval()
    processor = load_processor(tmp_path / "checkpoint")
    shares = evaluate(stored, processor)
    assert min(shares.values()) >= 0.95, shares
    assert min(int(tokens.min()) for tokens in expert_tokens(stored, processor).values()) > 0
