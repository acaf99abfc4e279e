"""A Python file lies beside the weights, and config.json maps classes to it: loading it runs code."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    (directory / "modeling_custom.py").write_text("class Model: ...\n")
    edit_json(directory, "config.json", lambda config: config.update(auto_map={"AutoModel": "modeling_custom.Model"}))


FAULT = Fault("pickles", "config.json.auto_map", "files", break_, severity="warning")
