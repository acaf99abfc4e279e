"""There is a chat template, and it writes ChatML: `<|im_start|>role`, the text, `<|im_end|>`, and the assistant's turn.

Without it, or with another model's, prompts reach the model without role markers: the talker has no turn to speak, and
text quality falls without an error; without the markers of sound and pictures they are never put in. The template is
looked at, never run: it is a program from a stranger.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

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
_MEDIA = (("<|audio_pad|>", "audio_config"), ("<|image_pad|>", "vision_config"))
_BLOCKS = {"if", "for", "macro", "call", "filter", "block", "with", "autoescape", "generation", "raw"}
_TAG = re.compile(r"[-+]?\s*(\w{1,20})")
_FIX = "copy chat_template.json (or .jinja) and tokenizer_config.json from the original model"


def _find(subject: Subject) -> Iterator[Fault]:
    if not subject.omni:
        return  # which `tokenizer` says
    here = Companions(subject.checkpoint.path)
    templates = here.templates()
    there = None if subject.source is None else Companions(subject.source.path).templates()
    if here.has(TEMPLATE_JSON) and TEMPLATE_JSON not in templates and subject.sound(TEMPLATE_JSON):
        unread = here.unreadable.get(TEMPLATE_JSON)
        found = "holds no `chat_template`" if unread is None else unread.found
        yield Fault(TEMPLATE_JSON, found, "a JSON object with the template", _FIX, blames=(TEMPLATE,))
    elif [*templates] == [TOKENIZER_CONFIG] and (there is None or TEMPLATE in there or TEMPLATE_JSON in there):
        if subject.sound(TOKENIZER_CONFIG, TEMPLATE, TEMPLATE_JSON):
            found = f"missing: transformers' processor has no template, since it does not ask {TOKENIZER_CONFIG}"
            yield Fault(TEMPLATE_JSON, found, f"it, or {TEMPLATE}", _FIX, blames=(TEMPLATE,))
    elif not templates:
        places = f"a template in {TEMPLATE}, {TEMPLATE_JSON} or {TOKENIZER_CONFIG}"
        if there == {}:
            yield Fault(TEMPLATE, "no chat template, as in the source", places, _FIX, "warning")
        elif subject.sound(TOKENIZER_CONFIG, TEMPLATE, TEMPLATE_JSON):
            yield Fault(TEMPLATE, "no chat template", places, _FIX, blames=(TEMPLATE_JSON, TOKENIZER_CONFIG))
    for number, (name, template) in enumerate(templates.items()):
        lacks = [what for what, pattern in _NEEDS if not pattern.search(template)]
        if number == 0 and template not in (there or {}).values():  # the one that takes effect
            lacks += _media(subject, template)
        if lacks and subject.sound(name):
            yield Fault(name, f"the chat template lacks {', '.join(lacks)}", "ChatML with both roles", _FIX)
        wrong = _unbalanced(template)
        if wrong and subject.sound(name):
            yield Fault(name, f"the chat template cannot be compiled: {wrong}", "blocks that begin and end", _FIX)
    yield from _moved(subject, templates, there)


def _media(subject: Subject, template: str) -> list[str]:
    """The placeholders of the towers that the config has, as far as the template lacks them."""
    thinker = subject.checkpoint.config.get("thinker_config", subject.checkpoint.config)
    towers = thinker if isinstance(thinker, Mapping) else {}
    return [token for token, tower in _MEDIA if tower in towers and token not in template]


def _moved(subject: Subject, here: Mapping[str, str], there: Mapping[str, str] | None) -> Iterator[Fault]:
    """A fault for a template in a place where the source has none, if it is another one than the source's."""
    known = {template.strip() for template in (there or {}).values()}
    for name in here if known else ():
        if name not in (there or {}) and here[name].strip() not in known and subject.sound(name):
            yield Fault(name, "another chat template than the source's", "the source's", _FIX)


def _unbalanced(template: str) -> str:
    """The first block tag of a Jinja template that does not match, "" where all do. One pass, nothing is run."""
    opened: list[str] = []
    place = template.find("{")
    while 0 <= place < len(template) - 1:
        kind = template[place + 1]
        if kind not in "#%" or (opened[-1:] == ["raw"] and not _ends_raw(template, place)):
            place = template.find("{", place + (2 if kind == "{" else 1))
            continue
        end = template.find(f"{kind}}}", place + 2)
        if end < 0:
            return f"`{template[place : place + 20]}` never ends"
        name = _TAG.match(template, place + 2, end) if kind == "%" else None
        if kind == "%" and name is None:
            return f"`{template[place : min(end + 2, place + 40)]}` is no tag"
        if name is not None:
            wrong = _step(opened, name[1], template[name.end() : end])
            if wrong:
                return wrong
        place = template.find("{", end + 2)
    return f"`{opened[-1]}` is never closed" if opened else ""


def _ends_raw(template: str, place: int) -> bool:
    name = _TAG.match(template, place + 2)
    return template[place + 1] == "%" and name is not None and name[1] == "endraw"


def _step(opened: list[str], name: str, rest: str) -> str:
    """Take one tag; what is wrong with it, or ""."""
    if name in _BLOCKS or (name == "set" and "=" not in rest):
        opened.append(name)
        return f"`{name}` without a condition" if name in ("if", "for") and not rest.strip(" \t\r\n-+") else ""
    if name.startswith("end") and name[3:] in {*_BLOCKS, "set"} and (not opened or opened.pop() != name[3:]):
        return f"`{name}` closes nothing"
    return ""


CHECK = Check("chat-template", "consistent", __doc__, _find, after=("tokenizer",))
