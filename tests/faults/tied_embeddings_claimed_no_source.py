"""The embeddings are said to be tied, and an lm_head of its own is stored: engines differ in which one they take."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(
        directory,
        "config.json",
        lambda config: config["thinker_config"]["text_config"].update(tie_word_embeddings=True),
    )


FAULT = Fault("names", "thinker.lm_head.weight", "configuration", break_, given=())
