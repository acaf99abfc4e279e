"""A field that vLLM reads was taken out of config.json; the source has it."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(
        directory, "config.json", lambda config: config["thinker_config"]["text_config"].pop("tie_word_embeddings")
    )


FAULT = Fault("engine-fields", "tie_word_embeddings", "configuration", break_, alone=False)
