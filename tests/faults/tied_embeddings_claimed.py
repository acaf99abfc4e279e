"""The embeddings are said to be tied, and lm_head is stored."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(
        directory,
        "config.json",
        lambda config: config["thinker_config"]["text_config"].update(tie_word_embeddings=True),
    )


FAULT = Fault(
    "config-fields", "config.json.thinker_config.text_config.tie_word_embeddings", "configuration", break_, alone=False
)
