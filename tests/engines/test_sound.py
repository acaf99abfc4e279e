"""The vocoder alone: the codes of a spoken answer give its waveform once more."""

import pytest

pytestmark = pytest.mark.tiny

_REASON = "needs the quantize extra: pip install pytest-q3omni[quantize]"
pytest.importorskip("torch", reason=_REASON)
pytest.importorskip("transformers", reason=_REASON)
np = pytest.importorskip("numpy")

from pytest_q3omni.engines.handle import ModelHandle  # noqa: E402
from pytest_q3omni.errors import EngineError, InvalidRequest  # noqa: E402

HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture
def engine(original_checkpoint):
    handle = ModelHandle(original_checkpoint, device="cpu")
    yield handle
    handle.close()


def test_the_codes_of_an_answer_sound_like_it(engine):
    said = engine.generate(HELLO, max_new_tokens=8, speech=True)
    assert said.codes.shape[1] > 1
    found = engine.sound(said.codes)
    assert (found.dtype, found.shape) == (np.float32, said.waveform.shape)
    assert np.array_equal(found, said.waveform)
    assert np.array_equal(engine.sound(said.codes.tolist()), found), "any integers will do"
    assert not np.array_equal(engine.sound(said.codes[:, ::-1]), found)


@pytest.mark.parametrize(
    ("codes", "found"), [([[0.5]], "codes float64"), ([[0]], r"codes int64 \(1, 1\)"), (-1, "codes from -1 to -1")]
)
def test_codes_of_another_model_make_no_sound(engine, codes, found):
    with engine.loaded(speech=True) as model:
        books = model.config.talker_config.num_code_groups
    with pytest.raises(InvalidRequest, match=f"{engine.path}: {found}"):
        engine.sound(np.full((books, 2), codes) if codes == -1 else codes)


def test_a_vocoder_that_fails_is_the_engines_error(engine, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("out of memory")

    with engine.loaded(speech=True) as model:
        monkeypatch.setattr(model.code2wav, "chunked_decode", broken)
        books = model.config.talker_config.num_code_groups
    with pytest.raises(EngineError, match=r"code2wav fails \(.*out of memory") as failure:
        engine.sound(np.zeros((books, 2), np.int64))
    assert failure.value.where == str(engine.path)
    assert isinstance(failure.value.__cause__, RuntimeError)
