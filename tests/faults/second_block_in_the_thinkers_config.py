"""thinker_config has a quantization_config of its own, and says FP8."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(
        directory,
        "config.json",
        lambda config: config["thinker_config"].update(quantization_config={"quant_method": "fp8"}),
    )


FAULT = Fault(
    "declaration", "config.json.thinker_config.quantization_config", "configuration", break_, severity="warning"
)
