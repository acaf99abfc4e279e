"""A processor_config.json of another model, which transformers 5 prefers to the sound preprocessor_config.json."""

import json
from pathlib import Path

from _checkpoint_edit import Fault


def break_(directory: Path) -> None:
    content = json.loads((directory / "preprocessor_config.json").read_text())
    override = {"feature_extractor": {**content, "sampling_rate": 24000}}
    (directory / "processor_config.json").write_text(json.dumps(override))


FAULT = Fault("companions", "processor_config.json", "companions", break_, alone=False)
