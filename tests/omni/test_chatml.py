"""ChatML is judged by the prompt, not by what a library makes of its absence."""

import pickle

import pytest

from pytest_q3omni.errors import InvalidRequest, NotChatML
from pytest_q3omni.omni.chatml import check_chatml, check_chatml_messages

pytestmark = pytest.mark.tiny

GOOD = "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize(
    "prompt",
    [
        GOOD,
        "<|im_start|>system\nBe short.<|im_end|>\n" + GOOD,
        GOOD + "Hi<|im_end|>\n",
        GOOD + "Hi<|im_end|>\n" + GOOD,
        "<|im_start|>assistant\nWelcome!<|im_end|>\n" + GOOD,
    ],
)
def test_good_prompts_pass(prompt):
    check_chatml(prompt)


@pytest.mark.parametrize(
    ("prompt", "found"),
    [
        ("Tell me a story.", "no `<|im_start|>user` and no `<|im_start|>assistant` in the prompt 'Tell me a story.'"),
        ("", "no `<|im_start|>user` and no `<|im_start|>assistant` in the prompt ''"),
        ("<|im_start|>user\nHello<|im_end|>\n", "no `<|im_start|>assistant` in the prompt"),
        ("<|im_start|>assistant\n", "no `<|im_start|>user` in the prompt"),
        (
            "<|im_start|>assistant\nHi<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n",
            "after the last `<|im_start|>user`",
        ),
        (
            GOOD + "Hi<|im_end|>\n<|im_start|>user\nAnd?<|im_end|>\n",
            "no `<|im_start|>assistant` after the last `<|im_start|>user`",
        ),
        ("USER: Hello ASSISTANT:", "no `<|im_start|>user` and no `<|im_start|>assistant`"),
        ("<|im_start|>users\nHello<|im_end|>\n<|im_start|>assistant\n", "no `<|im_start|>user` in the prompt"),
    ],
)
def test_what_is_missing_is_named(prompt, found):
    with pytest.raises(NotChatML) as caught:
        check_chatml(prompt)
    assert found in caught.value.found
    assert "apply_chat_template" in caught.value.fix
    assert isinstance(caught.value, InvalidRequest)


def test_sixty_characters_are_shown():
    with pytest.raises(NotChatML) as caught:
        check_chatml("x" * 61, where="prompts.txt:7")
    assert repr("x" * 60) + "..." in str(caught.value)
    assert "x" * 61 not in str(caught.value)
    assert str(caught.value).startswith("prompts.txt:7: ")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301 (our own bytes)


def test_messages_with_a_user_pass():
    check_chatml_messages([{"role": "system", "content": "x"}, {"role": "user", "content": "y"}])


@pytest.mark.parametrize(
    ("messages", "found"),
    [
        ([{"role": "system"}], "no message with the role 'user', only: system"),
        ([], "only: nothing"),
        ([{"role": "human"}], "the role 'human'"),
        ([{"content": "x"}], "the role None"),
        ([{"role": ["user"]}], r"the role ['user']"),
    ],
)
def test_roles_are_named(messages, found):
    with pytest.raises(NotChatML) as caught:
        check_chatml_messages(messages, where="a.jsonl:1")
    assert found in caught.value.found
    assert caught.value.where == "a.jsonl:1"
    assert caught.value.expected
    assert caught.value.fix
