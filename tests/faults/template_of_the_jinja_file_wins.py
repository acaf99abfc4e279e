"""chat_template.jinja holds another model's template, and comes before chat_template.json."""

from pathlib import Path

from _checkpoint_edit import Fault


def break_(directory: Path) -> None:
    (directory / "chat_template.jinja").write_text("{% for m in messages %}[INST] {{ m.content }} [/INST]{% endfor %}")


FAULT = Fault("chat-template", "chat_template.jinja", "companions", break_)
