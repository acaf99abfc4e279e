"""The router's weights are no longer normalised."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(
        directory,
        "config.json",
        lambda config: config["thinker_config"]["text_config"].update(
            norm_topk_prob=not config["thinker_config"]["text_config"].get("norm_topk_prob", True)
        ),
    )


FAULT = Fault(
    "config-fields", "config.json.thinker_config.text_config.norm_topk_prob", "configuration", break_, alone=False
)
