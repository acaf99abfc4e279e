"""An engine in a process of its own: what it answers is checked field by field, and nothing of it stays."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from worker_script import loop, starter

from pytest_q3omni.engines.serving import EngineMemory, Kernels, Prompt
from pytest_q3omni.engines.serving_process import ServingProcess
from pytest_q3omni.engines.vllm_questions import Picture, Question
from pytest_q3omni.errors import EngineError, InvalidRequest

pytestmark = pytest.mark.tiny

LOADED = {
    "versions": {"engine": "1.2", "torch": "2.14"},
    "device": "a device",
    "capability": [9, 0],
    "weight_bytes": 1000,
    "kv_cache_bytes": 200,
    "kv_cache_tokens": 30,
    "linear": {"MarlinLinear": 12},
    "experts": {"MARLIN": 2},
    "attention": {"FLASH_ATTN": 2},
    "cuda_graphs": "full",
    "expert_tuning": "default",
}
MADE = {"tokens": [5, 6], "times": [0.1, 0.2], "text": "yes"}
LIKELY = {"tokens": [6, 7], "logprobs": [-0.1, -0.2], "most_likely": [6, 8]}
MEMORY = {"allocated": 1, "peak": 2, "device_used": 3}
ONE = [Prompt(tokens=(1, 2))]


def body(**answers: Any) -> str:
    """A worker that gives each request its answer; "generate" and "prompt_logprobs" one for each prompt."""
    known = {"load": LOADED, "generate": [MADE], "prompt_logprobs": [LIKELY], "memory": MEMORY, **answers}
    return f"known = json.loads({json.dumps(known)!r})\n" + loop("known[it['do']]")


def engine(text: str, folders: list[Path] | None = None, request: Mapping[str, Any] | None = None) -> ServingProcess:
    return ServingProcess("an engine", Path("/models/mine"), "real", starter(text, folders), lambda _: request or {})


@pytest.fixture
def opened():
    """An engine that is loaded, and closed at the end."""
    made: list[ServingProcess] = []

    def run(text: str, folders: list[Path] | None = None) -> ServingProcess:
        made.append(engine(text, folders))
        made[-1].load()
        return made[-1]

    yield run
    for one in made:
        one.close()


def test_what_it_loads_is_read(opened) -> None:
    loaded = opened(body()).load()
    assert (loaded.engine, loaded.weights, loaded.device, loaded.capability) == (
        "an engine",
        "real",
        "a device",
        (9, 0),
    )
    assert (loaded.weight_bytes, loaded.kv_cache_bytes, loaded.kv_cache_tokens) == (1000, 200, 30)
    assert loaded.kernels == Kernels({"MarlinLinear": 12}, {"MARLIN": 2}, {"FLASH_ATTN": 2}, "full", "default")
    assert loaded.versions == {"engine": "1.2", "torch": "2.14"}
    assert loaded.seconds > 0
    assert not loaded.kernels.eager
    assert opened(body(load={**LOADED, "capability": None, "cuda_graphs": "none"})).load().kernels.eager


def test_what_it_makes_is_read(opened) -> None:
    one = opened(body())
    (made,) = one.generate(ONE, 2, past_the_end=True)
    assert (made.tokens, made.times, made.text) == ((5, 6), (0.1, 0.2), "yes")
    (likely,) = one.prompt_logprobs(ONE)
    assert (likely.tokens, likely.logprobs, likely.most_likely) == ((6, 7), (-0.1, -0.2), (6, 8))
    assert one.memory() == EngineMemory(1, 2, 3)


def test_a_continuation_may_end_early_unless_it_must_not(opened) -> None:
    one = opened(body())
    assert len(one.generate(ONE, 9)[0].tokens) == 2
    with pytest.raises(EngineError, match=r"an engine: 2 tokens; expected 9 tokens\. Fix: "):
        one.generate(ONE, 9, past_the_end=True)


def test_the_request_is_told_where_it_works(opened) -> None:
    text = f"known = json.loads({json.dumps(LOADED)!r})\n" + loop("{**known, 'linear': {it['model']: 1}}")
    one = ServingProcess(
        "an engine", Path("x"), "random", starter(text), lambda folder: {"model": str(folder / "model")}
    )
    loaded = one.load()
    (model,) = loaded.kernels.linear
    assert Path(model).name == "model"
    assert Path(model).parent.name.startswith("q3omni-serving-")
    assert loaded.weights == "random"
    one.close()


WRONG = [-1, "7", True, 7.9, None, math.nan, math.inf, [7]]


@pytest.mark.parametrize("field", LOADED)
def test_a_load_without_a_field_is_refused(field: str) -> None:
    folders: list[Path] = []
    one = engine(body(load={key: value for key, value in LOADED.items() if key != field}), folders)
    with pytest.raises(EngineError, match=f"an engine: answered something else .*KeyError: '{field}'.*Fix: check"):
        one.load()
    assert not folders[0].exists(), "its folder goes away"
    with pytest.raises(InvalidRequest, match="not loaded"):
        one.memory()


@pytest.mark.parametrize(
    "changed",
    [
        *({"weight_bytes": value} for value in WRONG), *({"kv_cache_tokens": value} for value in (None, -1, "many")),
        {"linear": [1]}, {"linear": {"a": "2"}}, {"experts": None}, {"versions": "1"}, {"capability": [9]},
        {"capability": "9.0"}, {"capability": 9}, {"attention": {"a": None}},
    ],
    ids=str,
)  # fmt: skip
def test_a_load_with_a_wrong_field_is_refused(changed: Mapping[str, Any]) -> None:
    with pytest.raises(EngineError, match="answered something else than was asked") as caught:
        engine(body(load={**LOADED, **changed})).load()
    assert caught.value.where == "an engine"
    assert isinstance(caught.value.__cause__, Exception)


@pytest.mark.parametrize(
    "made",
    [
        {}, {"text": "", "tokens": [5, 6]}, {**MADE, "tokens": [5]}, {**MADE, "times": [0.1]}, {**MADE, "times": None},
        *({**MADE, "times": [0.1, value]} for value in ("0.2", "nan", math.nan, math.inf, -1.0, 0.05, True, None)),
        *({**MADE, "tokens": [5, value]} for value in WRONG),
        None, [], "text", 7,
    ],
    ids=str,
)  # fmt: skip
def test_a_wrong_continuation_is_refused(opened, made: Any) -> None:
    with pytest.raises(EngineError, match="an engine: answered something else than was asked"):
        opened(body(generate=[made])).generate(ONE, 2)


@pytest.mark.parametrize("answer", [[], [MADE, MADE]])
def test_each_prompt_has_one_continuation(opened, answer: list[Any]) -> None:
    with pytest.raises(EngineError, match=f"{len(answer)} continuations; expected 1 continuations"):
        opened(body(generate=answer)).generate(ONE, 2)


@pytest.mark.parametrize("answer", [None, {}, 5, "text"])
def test_an_answer_that_is_no_list_is_refused(opened, answer: Any) -> None:
    one = opened(body(generate=answer, prompt_logprobs=answer))
    for asked in (lambda: one.generate(ONE, 2), lambda: one.prompt_logprobs(ONE)):
        with pytest.raises(EngineError):
            asked()


@pytest.mark.parametrize(
    "likely",
    [
        {}, {**LIKELY, "tokens": [6]}, {**LIKELY, "logprobs": [-0.1]}, {**LIKELY, "most_likely": [6]},
        {**LIKELY, "logprobs": [-0.1, "nan"]}, {**LIKELY, "logprobs": [-0.1, None]},
        {**LIKELY, "most_likely": [6, 1.5]}, {**LIKELY, "tokens": ["6", 7]},
    ],
    ids=str,
)  # fmt: skip
def test_wrong_log_probabilities_are_refused(opened, likely: Any) -> None:
    with pytest.raises(EngineError, match="answered something else than was asked"):
        opened(body(prompt_logprobs=[likely])).prompt_logprobs(ONE)
    with pytest.raises(EngineError, match="0 prompts; expected 1 prompts"):
        opened(body(prompt_logprobs=[])).prompt_logprobs(ONE)


def test_log_probabilities_of_a_broken_checkpoint_are_handed_on(opened) -> None:
    """NaN is what the checkpoint computes: whoever compares has to see it."""
    broken = {**LIKELY, "logprobs": [math.nan, -math.inf]}
    (found,) = opened(body(prompt_logprobs=[broken])).prompt_logprobs(ONE)
    assert math.isnan(found.logprobs[0])
    assert found.logprobs[1] == -math.inf


@pytest.mark.parametrize("memory", [{}, {**MEMORY, "more": 1}, {**MEMORY, "peak": "2"}, None, [1, 2, 3]], ids=str)
def test_wrong_memory_is_refused(opened, memory: Any) -> None:
    with pytest.raises(EngineError, match="answered something else than was asked"):
        opened(body(memory=memory)).memory()


def test_before_it_is_loaded_nothing_runs() -> None:
    folders: list[Path] = []
    one = engine(body(), folders)
    for asked in (one.memory, lambda: one.generate(ONE, 1), lambda: one.prompt_logprobs(ONE)):
        with pytest.raises(InvalidRequest, match=r"/models/mine: an engine is not loaded. Fix: call load\(\) first"):
            asked()
    assert folders == []


def test_no_prompt_is_no_request(opened) -> None:
    with pytest.raises(InvalidRequest, match="no prompt"):
        opened(body()).generate([], 1)


def test_it_loads_once(opened) -> None:
    folders: list[Path] = []
    one = opened(body(), folders)
    assert one.load() is one.load()
    assert len(folders) == 1


def test_close_gives_folder_and_process_back(opened) -> None:
    folders: list[Path] = []
    one = opened(body(), folders)
    assert folders[0].is_dir()
    one.close()
    assert not folders[0].exists()
    with pytest.raises(InvalidRequest, match="not loaded"):
        one.memory()
    one.close()


def test_after_its_death_it_says_so_and_loads_again(opened, tmp_path: Path) -> None:
    folders: list[Path] = []
    mark = str(tmp_path / "died")
    dies = f"if not os.path.exists({mark!r}):\n    asked(); answer(json.loads({json.dumps(LOADED)!r}))\n"
    dies += f"    asked(); open({mark!r}, 'w'); os._exit(4)\n"
    one = opened(dies + body(), folders)
    with pytest.raises(EngineError, match="an engine: ended with code 4 during `memory`"):
        one.memory()
    with pytest.raises(EngineError, match=r"/models/mine: an engine has ended. Fix: load\(\) starts it again"):
        one.memory()
    one.load()
    assert one.memory() == EngineMemory(1, 2, 3)
    assert [folder.exists() for folder in folders] == [False, True]


def test_a_load_that_dies_leaves_nothing() -> None:
    folders: list[Path] = []
    with pytest.raises(EngineError, match="ended with code 3 during `load`"):
        engine("asked(); sys.exit(3)", folders).load()
    assert not folders[0].exists()


def test_a_process_that_cannot_be_started_leaves_nothing() -> None:
    folders: list[Path] = []

    def start(folder: Path):
        folders.append(folder)
        raise EngineError("cannot be started", where="an engine")

    with pytest.raises(EngineError, match="cannot be started"):
        ServingProcess("an engine", Path("x"), "real", start, lambda folder: {}).load()
    assert not folders[0].exists()


def test_prompts_reach_it_as_they_are(opened) -> None:
    echo = "known = json.loads({!r})\n".format(json.dumps({"load": LOADED}))
    echo += loop(
        "known.get(it['do']) or [{'tokens': [], 'times': [], 'text': json.dumps(one)} for one in it['prompts']]"
    )
    one = opened(echo)
    question = Question("a", "text", "Hello?")
    made = one.generate([Prompt(tokens=(1, 2), reply=(3,)), Prompt(question=question, reply=(4, 5))], 1)
    assert json.loads(made[0].text) == {"tokens": [1, 2], "question": None, "reply": [3]}
    asked = {"text": "Hello?", "images": [], "audios": []}
    assert json.loads(made[1].text) == {"tokens": [], "question": asked, "reply": [4, 5]}


LOOK = """
def look(question):
    files = [one["file"] for one in question["images"] + question["audios"]]
    seen = [[name, list(open(name, "rb").read())] for name in files]
    return {"tokens": [], "times": [], "text": json.dumps(seen)}

for line in requests:
    it = json.loads(line)
    answer(known if it["do"] == "load" else [look(one["question"]) for one in it["prompts"]])
"""


def test_pictures_and_sound_are_there_while_it_is_asked_and_gone_afterwards(opened) -> None:
    text = f"known = json.loads({json.dumps(LOADED)!r})\n" + LOOK
    folders: list[Path] = []
    one = opened(text, folders)
    both = [
        Prompt(question=Question("a", "image", "?", (Picture(b"\1\2\3", 1, 1),))),
        Prompt(question=Question("b", "audio", "?", sounds=(b"\4\0\0\0",))),
    ]
    found = [json.loads(made.text) for made in one.generate(both, 1)]
    assert [[content for _, content in files] for files in found] == [[[1, 2, 3]], [[4, 0, 0, 0]]]
    names = [Path(name) for files in found for name, _ in files]
    assert len(set(names)) == 2
    assert all(name.is_relative_to(folders[0]) and not name.exists() for name in names)
    assert {file.name for file in folders[0].iterdir()} == {"log.txt", "worker.py"}
