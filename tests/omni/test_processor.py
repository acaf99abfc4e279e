"""Loading a checkpoint's processor: local, typed errors, no code of the checkpoint."""

import json
import shutil
import sys

import pytest

from pytest_q3omni.errors import Incomplete, Inconsistent, MissingDependency, Q3OmniError, Unreadable
from pytest_q3omni.omni.processor import load_processor, sampling_rate
from pytest_q3omni.omni.tiny import checkpoint_path

pytestmark = pytest.mark.tiny

_REASON = "needs the quantize extra: pip install pytest-q3omni[quantize]"
pytest.importorskip("torch", reason=_REASON)
pytest.importorskip("torchvision", reason=_REASON)
pytest.importorskip("transformers", reason=_REASON)

FILES = [file.name for file in checkpoint_path().iterdir() if file.suffix in (".json", ".txt")]


@pytest.fixture
def copy(tmp_path):
    """The processor's files, to break."""
    for name in FILES:
        shutil.copy(checkpoint_path() / name, tmp_path / name)
    return tmp_path


def edit(file, **changes):
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_the_tiny_models_processor_loads_in_silence(capfd):
    processor = load_processor(checkpoint_path())
    assert type(processor).__name__ == "Qwen3OmniMoeProcessor"
    assert sampling_rate(processor) == 16_000
    assert capfd.readouterr() == ("", "")


def test_the_same_files_elsewhere_load(copy):
    assert load_processor(copy).chat_template == load_processor(checkpoint_path()).chat_template


@pytest.mark.parametrize("name", ["tokenizer_config.json", "preprocessor_config.json"])
def test_a_missing_file_is_named(copy, name):
    (copy / name).unlink()
    with pytest.raises(Incomplete, match=name) as caught:
        load_processor(copy)
    assert "original model" in caught.value.fix


def test_a_missing_tokenizer_is_named(copy):
    for name in ("tokenizer.json", "vocab.json"):
        (copy / name).unlink()
    with pytest.raises(Incomplete, match=r"no tokenizer\.json or vocab\.json"):
        load_processor(copy)


def test_a_missing_config_is_named(copy):
    (copy / "config.json").unlink()
    with pytest.raises(Unreadable, match=r"config\.json"):
        load_processor(copy)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"])
@pytest.mark.parametrize("content", ["{", "[]", ""])
def test_a_damaged_file_gives_a_typed_error(copy, name, content):
    (copy / name).write_text(content)
    with pytest.raises(Q3OmniError) as caught:
        load_processor(copy)
    assert caught.value.where
    assert caught.value.fix


def test_a_missing_chat_template_is_refused(copy):
    (copy / "chat_template.json").unlink()
    config = json.loads((copy / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (copy / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(Incomplete, match="no chat template"):
        load_processor(copy)


def test_the_processor_of_another_model_is_refused(copy):
    edit(copy / "config.json", model_type="qwen2_vl")
    for name in ("preprocessor_config.json", "tokenizer_config.json"):
        edit(copy / name, processor_class="Qwen2VLProcessor")
    with pytest.raises(Inconsistent, match="belong to a Qwen2VLProcessor"):
        load_processor(copy)


def test_code_in_the_checkpoint_never_runs(copy):
    (copy / "evil.py").write_text("raise SystemExit('it ran')\n")
    edit(copy / "preprocessor_config.json", auto_map={"AutoProcessor": "evil.Evil"}, processor_class="Evil")
    edit(copy / "tokenizer_config.json", auto_map={"AutoProcessor": "evil.Evil"}, processor_class="Evil")
    with pytest.raises(Q3OmniError):
        load_processor(copy)


def test_without_transformers_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingDependency, match=r"pytest-q3omni\[quantize\]"):
        load_processor(checkpoint_path())


def test_without_torchvision_the_extra_is_named(monkeypatch):
    from transformers import AutoProcessor

    def needs_torchvision(*args, **kwargs):
        raise ImportError("Qwen3OmniMoeProcessor requires the Torchvision library")

    monkeypatch.setattr(AutoProcessor, "from_pretrained", needs_torchvision)
    with pytest.raises(MissingDependency, match="torchvision"):
        load_processor(checkpoint_path())


def test_merges_of_a_token_that_is_gone_are_a_typed_error(copy):
    """The tokenizers library raises `Exception` itself."""
    for name in ("tokenizer.json", "vocab.json"):
        content = json.loads((copy / name).read_text())
        (content["model"]["vocab"] if name == "tokenizer.json" else content).pop("user")
        (copy / name).write_text(json.dumps(content))
    with pytest.raises(Unreadable, match="out of vocabulary") as caught:
        load_processor(copy)
    assert "\n" not in str(caught.value)
