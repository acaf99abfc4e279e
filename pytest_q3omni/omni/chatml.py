"""ChatML: who speaks when. Speech needs it, text does not notice that it is missing.

The talker finds the user's turn by the tokens `<|im_start|>` and `user`, and starts its own after the last
`<|im_start|>` and `assistant`. Where one is missing, transformers fails far from the cause, once the thinker has
answered: with `torch.cat(): expected a non-empty list` (4.57); without the assistant's marker with `IndexError: index
-1 is out of bounds`, without the user's with a `RuntimeError` about two sizes (5.16 to 5.19). Where the user speaks
last, nothing fails: the talker starts at an earlier answer. So the prompt is judged here, not the error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pytest_q3omni.errors import NotChatML

ROLES = ("system", "user", "assistant")
USER_TURN = "<|im_start|>user"
ASSISTANT_TURN = "<|im_start|>assistant"
_SHOWN = 60
_EXPECTED = f"`{USER_TURN}` ... `<|im_end|>`, then `{ASSISTANT_TURN}`"
_FIX = (
    "pass messages ([{'role': 'user', 'content': ...}]), or render them with "
    "processor.apply_chat_template(messages, add_generation_prompt=True)"
)


def check_chatml(prompt: str, *, where: str = "", fix: str = _FIX) -> None:
    """Return if the prompt has a user turn, and after the last one an assistant turn that is at least opened.

    Raises:
        NotChatML: names the missing role marker and shows how the prompt begins.
    """
    user, assistant = _last(USER_TURN, prompt), _last(ASSISTANT_TURN, prompt)
    missing = [marker for marker, place in ((USER_TURN, user), (ASSISTANT_TURN, assistant)) if place < 0]
    begin = repr(prompt[:_SHOWN]) + ("..." if len(prompt) > _SHOWN else "")
    if missing:
        names = " and no ".join(f"`{marker}`" for marker in missing)
        raise NotChatML(f"no {names} in the prompt {begin}", where=where, expected=_EXPECTED, fix=fix)
    if assistant < user:
        found = f"no `{ASSISTANT_TURN}` after the last `{USER_TURN}` in the prompt {begin}"
        raise NotChatML(found, where=where, expected=_EXPECTED, fix=fix)


def _last(marker: str, prompt: str) -> int:
    """Where the marker stands last; -1: nowhere. In `<|im_start|>users` the role is another word, and another token."""
    return max((match.start() for match in re.finditer(re.escape(marker) + r"\b", prompt)), default=-1)


def check_chatml_messages(messages: Sequence[Mapping[str, Any]], *, where: str = "") -> None:
    """Return if the messages have known roles, and one of them is the user's. The template opens the assistant's turn.

    Raises:
        NotChatML: names the role that is unknown or missing.
    """
    roles = [message.get("role") for message in messages]
    expected = f"messages with the roles {', '.join(ROLES)}"
    for role in roles:
        if role not in ROLES:
            raise NotChatML(f"the role {role!r}", where=where, expected=expected, fix="rename the role")
    if "user" not in roles:
        found = f"no message with the role 'user', only: {', '.join(map(str, roles)) or 'nothing'}"
        raise NotChatML(found, where=where, expected=expected, fix="add what the user says")
