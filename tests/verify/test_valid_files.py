"""No false alarm: sound checkpoints whose files lie otherwise, or have other files beside them."""

import json
import os
import shutil
from pathlib import Path

import pytest
from _checkpoint_edit import edit_header, edit_json
from sound_checkpoints import Copy, judged, passes

from pytest_q3omni.omni.checkpoint import scan
from pytest_q3omni.verify.judge import judge

pytestmark = pytest.mark.tiny

FILES = ("packed", "consistent", "faithful")


def write_as_is(file: Path, directory: Path, names: list[str], metadata: dict[str, str] | None) -> None:
    """A safetensors file with the tensors in the order given, its header compact and without padding."""
    checkpoint = scan(directory)
    header: dict[str, object] = {} if metadata is None else {"__metadata__": metadata}
    data = b""
    for name in names:
        info, raw = checkpoint.entries[name].info, checkpoint.read(name).tobytes()
        header[name] = {"dtype": info.dtype, "shape": info.shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + data)


@pytest.mark.parametrize("base", ["nvfp4-default", "ct-w4a4"])
def test_no_metadata(base: str, copy: Copy) -> None:
    """As llm-compressor's model_free_ptq writes its files."""
    directory = copy(base)
    edit_header(directory, lambda header: header.pop("__metadata__"))
    passes(judged(directory), *FILES, "calibrated")


def test_other_metadata(copy: Copy) -> None:
    """Texts of any kind, colons and quotes included."""
    directory = copy()
    told = {"format": "pt", "made": 'by "hand": 12:30', "producer": "{}"}
    edit_header(directory, lambda header: header.update(__metadata__=told))
    passes(judged(directory), *FILES, "calibrated")


@pytest.mark.parametrize("reverse", [False, True])
def test_tensors_in_another_order(reverse: bool, copy: Copy) -> None:
    """Sorted by name, or backwards: nothing says that a writer sorts by dtype."""
    directory = copy()
    names = sorted(scan(directory).entries, reverse=reverse)
    other = directory / "other"
    write_as_is(other, directory, names, {"format": "pt"})
    other.rename(directory / "model.safetensors")
    passes(judged(directory), *FILES, "calibrated")


def test_header_listed_in_another_order_than_the_data(copy: Copy) -> None:
    directory = copy()

    def turn(header: dict) -> None:
        items = list(header.items())
        header.clear()
        header.update(reversed(items))

    edit_header(directory, turn)
    passes(judged(directory), *FILES, "calibrated")


def test_index_beside_a_single_file(copy: Copy) -> None:
    """As model_free_ptq does always."""
    directory = copy("ct-w4a16")
    entries = scan(directory).entries
    total = sum(entry.end - entry.begin for entry in entries.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict.fromkeys(entries, "model.safetensors")}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    passes(judged(directory), *FILES)


def test_index_without_a_total_size(copy: Copy) -> None:
    directory = copy("sharded")
    edit_json(directory, "model.safetensors.index.json", lambda index: index.pop("metadata"))
    passes(judged(directory), *FILES, "calibrated")


def test_shards_by_layer(copy: Copy) -> None:
    """One file for each stage, under names of one's own."""
    directory = copy()
    entries = scan(directory).entries
    weight_map = {name: f"{name.partition('.')[0]}-part.safetensors" for name in entries}
    for file in sorted(set(weight_map.values())):
        write_as_is(directory / f"{file}.tmp", directory, [n for n, f in weight_map.items() if f == file], None)
    (directory / "model.safetensors").unlink()
    for file in sorted(set(weight_map.values())):
        (directory / f"{file}.tmp").rename(directory / file)
    index = {"metadata": {}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    passes(judged(directory), *FILES, "calibrated")


@pytest.mark.skipif(os.name == "nt", reason="needs symbolic links")
def test_links_within_the_directory(copy: Copy) -> None:
    """Weights and tokenizer in a folder of the checkpoint's own."""
    directory = copy()
    (directory / "files").mkdir()
    for name in ("model.safetensors", "tokenizer.json"):
        shutil.move(directory / name, directory / "files" / name)
        (directory / name).symlink_to(Path("files") / name)
    passes(judged(directory), *FILES, "calibrated")


def test_files_that_other_tools_leave(copy: Copy) -> None:
    """recipe.yaml, .gitattributes, a licence, pictures for the card, a folder of examples."""
    directory = copy("ct-w4a4")
    (directory / "recipe.yaml").write_text("default_stage: {}\n")
    (directory / ".gitattributes").write_text("*.safetensors filter=lfs\n")
    (directory / "LICENSE").write_text("Apache-2.0\n")
    (directory / "figure.png").write_bytes(b"\x89PNG")
    (directory / "examples").mkdir()
    (directory / "examples" / "run.py").write_text("print('hello')\n")
    passes(judged(directory), *FILES, "calibrated")


def test_chat_template_as_jinja(copy: Copy) -> None:
    """As transformers 5 saves it, in one place alone; with a comment, raw text and a block that is set."""
    directory = copy()
    template = json.loads((directory / "chat_template.json").read_text())["chat_template"]
    (directory / "chat_template.jinja").write_text(template)
    (directory / "chat_template.json").unlink()
    edit_json(directory, "tokenizer_config.json", lambda content: content.pop("chat_template"))
    passes(judged(directory), *FILES, "calibrated")
    extra = "{# {% if %} #}{% raw %}{% for {% endraw %}{%- set a -%}{}{%- endset -%}{% set b = '{%' %}{{ {'a': {}} }}"
    (directory / "chat_template.jinja").write_text(extra + template)
    passes(judged(directory, ()), "packed", "consistent")


def test_one_stop_token_in_a_list(copy: Copy) -> None:
    """[431] is 431, in config.json as in generation_config.json."""
    directory = copy()
    text = lambda config: config["thinker_config"]["text_config"].update(eos_token_id=[431])  # noqa: E731
    edit_json(directory, "config.json", text)
    edit_json(directory, "generation_config.json", lambda content: content.update(eos_token_id=[431]))
    passes(judged(directory), *FILES, "calibrated")


def test_more_stop_tokens_without_a_source(copy: Copy) -> None:
    directory = copy()
    edit_json(directory, "generation_config.json", lambda content: content.update(eos_token_id=[431, 429]))
    passes(judged(directory, ()), "packed", "consistent")


def test_more_stop_tokens_than_the_source(copy: Copy) -> None:
    """Worth a warning: generation stops where the source's does, and perhaps before."""
    directory = copy()
    edit_json(directory, "generation_config.json", lambda content: content.update(eos_token_id=[431, 429]))
    passes(judged(directory), *FILES, "calibrated")


def test_merges_as_texts(copy: Copy) -> None:
    """As older releases of tokenizers write them."""
    directory = copy()

    def as_texts(content: dict) -> None:
        content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]

    edit_json(directory, "tokenizer.json", as_texts)
    passes(judged(directory), *FILES, "calibrated")


def test_processor_in_one_file_without_videos(copy: Copy) -> None:
    """Parts for images and sound in processor_config.json alone."""
    directory = copy()
    content = json.loads((directory / "preprocessor_config.json").read_text())
    (directory / "preprocessor_config.json").unlink()
    parts = {"image_processor": content, "feature_extractor": content}
    (directory / "processor_config.json").write_text(json.dumps(parts))
    passes(judged(directory), *FILES, "calibrated")


def test_defaults_left_out_or_written_out(copy: Copy) -> None:
    """A field that has its class's default means the same whether it is there or not."""
    directory = copy()

    def leave_out(config: dict) -> None:
        config["thinker_config"]["text_config"].pop("norm_topk_prob")
        config["code2wav_config"].pop("sliding_window")
        config["talker_config"]["text_config"]["rope_parameters"]["rope_type"] = "default"

    def write_out(content: dict) -> None:
        content.update(do_rescale=True, rescale_factor=1 / 255, do_normalize=True, chunk_length=30)
        for key in ("merge_size", "temporal_patch_size", "sampling_rate", "n_fft", "hop_length"):
            content.pop(key)

    edit_json(directory, "config.json", leave_out)
    edit_json(directory, "preprocessor_config.json", write_out)
    passes(judged(directory), *FILES, "calibrated")


def test_harmless_files_in_folders(copy: Copy) -> None:
    """Arrays of numbers, an archive, a picture, git's own folder: nothing that is unpickled."""
    directory = copy()
    (directory / "assets" / "more").mkdir(parents=True)
    (directory / "assets" / "scales.npy").write_bytes(b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'shape': (1,), }")
    (directory / "assets" / "more" / "pages.zip").write_bytes(b"PK\x03\x04" + bytes(26) + b"page.html")
    (directory / "figure.png").write_bytes(b"\x89PNG")
    (directory / ".git" / "objects").mkdir(parents=True)
    (directory / ".git" / "objects" / "a.bin").write_bytes(b"x")
    passes(judged(directory), *FILES, "calibrated")


def test_without_a_card(copy: Copy) -> None:
    directory = copy()
    (directory / "README.md").unlink()
    judgement = judged(directory)
    passes(judgement, *FILES, "calibrated")
    assert not [finding for finding in judgement.findings if finding.check != "expert-coverage"]


def test_without_our_own_folder(copy: Copy) -> None:
    """Nothing of what is judged comes from plan.json and its neighbours."""
    directory = copy()
    shutil.rmtree(directory / "q3omni")
    passes(judged(directory), *FILES)


def test_an_unknown_model_type(copy: Copy) -> None:
    """A model that nobody here knows is not judged by Qwen's names: not checked, and nothing failed."""
    directory = copy("qwen3-moe")
    edit_json(directory, "config.json", lambda config: config.update(model_type="another_moe", architectures=["A"]))
    judgement = judge(directory)
    assert not judgement.failed
    assert not [finding for finding in judgement.findings if finding.severity == "error"]
    assert judgement.verdict("consistent").state == "not checked"
    assert "another_moe" in judgement.verdict("consistent").why
