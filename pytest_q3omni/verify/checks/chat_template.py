"""There is a chat template, and it writes ChatML: `<|im_start|>role`, the text, `<|im_end|>`, and the assistant's turn.

Without it, or with another model's, prompts reach the model without role markers: the talker has no turn to speak, and
text quality falls without an error. The template is looked at, never run: it is a program from a stranger.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.companions import TEMPLATE, TEMPLATE_JSON, TOKENIZER_CONFIG, Companions
from pytest_q3omni.verify.subject import Subject

_ROLE = re.compile(r"\brole\b|\buser\b")
_NEEDS = (
    ("<|im_start|>", re.compile(re.escape("<|im_start|>"))),
    ("<|im_end|>", re.compile(re.escape("<|im_end|>"))),
    ("the user's role", _ROLE),
    ("the assistant's role", re.compile(r"\bassistant\b")),
)
_FIX = "copy chat_template.json (or .jinja) and tokenizer_config.json from the original model"


def _find(subject: Subject) -> Iterator[Fault]:
    if not subject.omni:
        return  # which `tokenizer` says
    templates = Companions(subject.checkpoint.path).templates()
    if not templates:
        source = None if subject.source is None else Companions(subject.source.path).templates()
        places = f"a template in {TEMPLATE}, {TEMPLATE_JSON} or {TOKENIZER_CONFIG}"
        if source == {}:
            yield Fault(TEMPLATE, "no chat template, as in the source", places, _FIX, "warning")
        elif subject.sound(TOKENIZER_CONFIG):
            yield Fault(TEMPLATE, "no chat template", places, _FIX, blames=(TEMPLATE_JSON, TOKENIZER_CONFIG))
    for name, template in templates.items():
        lacks = [what for what, pattern in _NEEDS if not pattern.search(template)]
        if lacks and subject.sound(name):
            yield Fault(name, f"the chat template lacks {', '.join(lacks)}", "ChatML with both roles", _FIX)


CHECK = Check("chat-template", "consistent", __doc__, _find, after=("tokenizer",))
