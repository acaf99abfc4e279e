"""The talker's routers no longer norm their weights: config.json leaves it to the class, whose default is false."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(directory, "config.json", lambda config: config["talker_config"]["text_config"].pop("norm_topk_prob"))


FAULT = Fault("config-fields", "talker_config.text_config.norm_topk_prob", "configuration", break_, alone=False)
