"""What transformers raises while answers are judged becomes our error, with the conversation's id."""

import pytest

pytestmark = pytest.mark.tiny

_REASON = "needs the quantize extra: pip install pytest-q3omni[quantize]"
torch = pytest.importorskip("torch", reason=_REASON)
pytest.importorskip("transformers", reason=_REASON)

from pytest_q3omni.engines.handle import ModelHandle  # noqa: E402
from pytest_q3omni.errors import EngineError  # noqa: E402
from pytest_q3omni.omni.conversations import load_conversations  # noqa: E402
from pytest_q3omni.omni.tiny import conversations_path  # noqa: E402


@pytest.fixture(scope="module")
def opened():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    from pytest_q3omni.omni.tiny import checkpoint_path

    handle = ModelHandle(checkpoint_path(), device="cpu")
    with handle.loaded(speech=False) as model:
        yield handle, model
    handle.close()
    torch.set_num_threads(before)


ASKED = load_conversations(conversations_path())[0]


def test_a_token_that_the_vocabulary_does_not_have(opened):
    with pytest.raises(EngineError, match=rf"{ASKED.id}: the model fails \(IndexError: ") as caught:
        opened[0].logprobs(ASKED, [10**6])
    assert isinstance(caught.value.__cause__, IndexError)


def test_a_device_that_runs_out_of_memory(opened, monkeypatch):
    handle, model = opened

    def full(**inputs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(model.thinker, "forward", full)
    with pytest.raises(EngineError, match=rf"{ASKED.id}: the model fails \(OutOfMemoryError: CUDA out of memory\)"):
        handle.logprobs(ASKED)
