"""Which checkpoint an item gets: the tiny pair, or the user's, and never one half of each."""

from importlib.util import find_spec

import pytest

pytestmark = pytest.mark.tiny

SHOW = """
import pytest
def show(path): return "/".join(path.parts[-2:])
def test_original(original_checkpoint): print("\\noriginal", show(original_checkpoint))
def test_quantized(quantized_checkpoint): print("\\nquantized", show(quantized_checkpoint))
@pytest.mark.tiny
def test_tiny(original_checkpoint, quantized_checkpoint):
    print("\\ntiny", show(original_checkpoint), show(quantized_checkpoint))
"""
TINY = ["original tiny/checkpoint", "quantized checkpoints/checkpoint-nvfp4-default-*"]
TINY_PAIR = "tiny tiny/checkpoint checkpoints/checkpoint-nvfp4-default-*"


@pytest.fixture
def asked(monkeypatch):
    """What `api.quantize` is asked for, without its work: a directory is all there is to show."""
    calls = []

    def quantize(source, out, **options):
        calls.append((source.name, {name: getattr(value, "name", value) for name, value in options.items()}))
        out.mkdir()
        (out / "config.json").write_text("{}")

    monkeypatch.setattr("pytest_q3omni.api.quantize", quantize)
    return calls


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_inprocess("-p", "no:cacheprovider", "-s", "-rs", *arguments)


def test_without_options_it_is_the_tiny_pair(pytester, tiny_cache):
    pytester.makepyfile(SHOW)
    result = run(pytester, tiny_cache)
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines([*TINY, TINY_PAIR])


def test_with_options_it_is_the_users_but_not_for_tiny_items(pytester, tiny_cache, mine):
    pytester.makepyfile(SHOW)
    result = run(pytester, tiny_cache, *mine)
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["original */mine", "quantized */mine-packed", TINY_PAIR])


def test_only_the_original_is_given(pytester, tiny_cache, mine):
    pytester.makepyfile(SHOW)
    result = run(pytester, tiny_cache, mine[0])
    result.assert_outcomes(passed=2, skipped=1)
    result.stdout.fnmatch_lines(
        ["original */mine", "SKIPPED *: only the original half is given: *--q3omni-quantized, or a *--q3omni-recipe"]
    )


def test_only_the_quantized_is_given(pytester, tiny_cache, mine):
    pytester.makepyfile(SHOW)
    result = run(pytester, tiny_cache, mine[1])
    result.assert_outcomes(passed=2, skipped=1)
    result.stdout.fnmatch_lines(["quantized */mine-packed", "SKIPPED *: only the quantized half*--q3omni-original"])


def test_the_users_original_is_quantized_once_with_the_recipe(pytester, mine, asked):
    pytester.makepyfile("def test_a(quantized_checkpoint): print('\\nmade', quantized_checkpoint.name)")
    arguments = ["--q3omni-cache=cache", mine[0], "--q3omni-recipe=nvfp4-mlp-weight-only"]
    first = run(pytester, *arguments)
    first.assert_outcomes(passed=1)
    first.stdout.fnmatch_lines(["q3omni: quantizing * with nvfp4-mlp-weight-only into *", "made mine-nvfp4-mlp-*"])
    second = run(pytester, *arguments)
    second.assert_outcomes(passed=1)
    assert "quantizing" not in second.stdout.str()
    assert asked == [("mine", {"recipe": "nvfp4-mlp-weight-only", "record": None, "conversations": None})]


def test_a_w4a4_recipe_calibrates_on_the_users_conversations(pytester, mine, asked):
    pytester.path.joinpath("mine.jsonl").write_text('{"messages": [{"role": "user", "content": "Hello"}]}')
    pytester.makepyfile("def test_a(quantized_checkpoint): pass")
    arguments = ["--q3omni-cache=cache", mine[0], "--q3omni-recipe=nvfp4-default"]
    without = run(pytester, *arguments)
    without.assert_outcomes(errors=1)
    without.stdout.fnmatch_lines(["*/mine: recipe nvfp4-default quantizes activations, *--q3omni-conversations, or *"])
    run(pytester, *arguments, "--q3omni-conversations=mine.jsonl").assert_outcomes(passed=1)
    assert [options["conversations"] for _, options in asked] == ["mine.jsonl"]


COUNT = """
from pathlib import Path
from pytest_q3omni import api

quantize = api.quantize

def counted(source, out, **options):
    with Path(__file__).with_name("made.txt").open("a") as log:
        print(out.name, file=log)
    return quantize(source, out, **options)

api.quantize = counted
"""


def test_workers_make_one_twin_and_the_others_wait(pytester):
    pytester.makeconftest(COUNT)
    pytester.makepyfile(
        "import pytest\n@pytest.mark.parametrize('n', range(8))\ndef test_a(n, quantized_checkpoint): pass"
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-n", "2", "--q3omni-cache=cache")
    result.assert_outcomes(passed=8)
    assert len(pytester.path.joinpath("made.txt").read_text().splitlines()) == 1


def test_a_cache_that_cannot_be_written_names_its_option(pytester):
    pytester.path.joinpath("file").write_text("")
    pytester.makepyfile("def test_a(quantized_checkpoint): pass")
    result = run(pytester, "--q3omni-cache=file")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["*expected a directory that can be written. Fix: choose another one with --q3omni-cache"]
    )


HARDWARE = """
import pytest
from pytest_q3omni.engines import device

@pytest.mark.gpu
def test_gpu(quantized_checkpoint): print("\\ngpu", quantized_checkpoint.name)
@pytest.mark.thor
def test_thor(original_checkpoint): print("\\nthor", original_checkpoint.name)
"""


@pytest.fixture
def thor(monkeypatch):
    from pytest_q3omni.engines import device

    monkeypatch.setattr(device, "probe", lambda: device.Devices((("pretended", (11, 0)),)))


@pytest.mark.usefixtures("thor")
def test_hardware_items_never_run_on_the_tiny_pair(pytester, tiny_cache, mine):
    pytester.makepyfile(HARDWARE)
    result = run(pytester, tiny_cache)
    result.assert_outcomes(skipped=2)
    option = "run on your checkpoint: give --q3omni-original or --q3omni-quantized"
    result.stdout.fnmatch_lines([f"SKIPPED *: gpu items {option}", f"SKIPPED *: thor items {option}"])
    result = run(pytester, tiny_cache, *mine)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["gpu mine-packed", "thor mine"])


CONVERSATION = """
import pytest
def test_yours(conversation): print("\\nyours", conversation.id)
@pytest.mark.tiny
def test_tiny(conversation): print("\\ntiny", conversation.id)
"""


def test_conversations_belong_to_the_checkpoint(pytester, mine):
    pytester.path.joinpath("mine.jsonl").write_text('{"messages": [{"role": "user", "content": "Hello"}]}')
    pytester.makepyfile(CONVERSATION)
    run(pytester).stdout.fnmatch_lines(["yours conversations.jsonl:1", "tiny conversations.jsonl:1"])
    result = run(pytester, mine[0])
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED *: your checkpoint needs your conversations: give --q3omni-conversations"])
    result = run(pytester, mine[0], "--q3omni-conversations=mine.jsonl")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["yours mine.jsonl:1", "tiny conversations.jsonl:1"])


MODELS = """
def test_models(original_model, quantized_model, omni_processor, original_checkpoint, quantized_checkpoint):
    assert (original_model.path, quantized_model.path) == (original_checkpoint, quantized_checkpoint)
    assert (original_model.numerics, quantized_model.numerics) == ("bf16", "w4a4")
    assert "closed" in repr(original_model)
    assert omni_processor.chat_template

def test_they_are_the_sessions(original_model, request):
    from pytest_q3omni.plugin.fixtures import STORE
    assert request.config.stash[STORE].model("original", request.node) is original_model
"""


def test_models_and_processor(pytester, tiny_cache):
    if find_spec("transformers") is None:
        pytest.skip("needs the quantize extra: pip install pytest-q3omni[quantize]")
    pytester.makepyfile(MODELS)
    pytester.runpytest_subprocess("-p", "no:cacheprovider", tiny_cache).assert_outcomes(passed=2)


def test_without_torch_models_skip_and_name_the_extra(pytester, monkeypatch):
    monkeypatch.setattr("pytest_q3omni.plugin.fixtures.find_spec", lambda name: None)
    pytester.makepyfile("def test_a(original_model): pass\ndef test_b(omni_processor): pass")
    result = run(pytester)
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines(["SKIPPED *: needs torch and transformers: pip install 'pytest-q3omni[[]quantize]'"])
