"""A field that vLLM reads is missing: transformers loads the config, the engine dies at its start."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(
        directory, "config.json", lambda config: config["thinker_config"]["text_config"].pop("tie_word_embeddings")
    )


FAULT = Fault(
    "engine-fields",
    "thinker_config.text_config.tie_word_embeddings",
    "configuration",
    break_,
    given=("record",),
    severity="warning",
)
