"""A chat template that writes [INST]: no ChatML, no turn for the talker."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    template = "{% for message in messages %}[INST] {{ message.content }} [/INST]{% endfor %}"
    edit_json(directory, "chat_template.json", lambda content: content.update(chat_template=template))


FAULT = Fault("chat-template", "chat_template.json", "companions", break_)
