"""The chat template never writes the audio placeholder: a recording is not heard."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    def silence(content: dict) -> None:
        content["chat_template"] = content["chat_template"].replace("<|audio_pad|>", "<|image_pad|>")

    edit_json(directory, "chat_template.json", silence)


FAULT = Fault("chat-template", "chat_template.json", "companions", break_)
