"""The header lists one tensor twice; the safetensors library takes the last."""

import json
from pathlib import Path

from _checkpoint_edit import EXPERT, Fault, replace_header


def break_(directory: Path) -> None:
    file = directory / "model.safetensors"
    raw = file.read_bytes()
    text = raw[8 : 8 + int.from_bytes(raw[:8], "little")].decode().rstrip()
    entry = json.dumps({"dtype": "U8", "shape": [0], "data_offsets": [0, 0]})
    replace_header(file, f'{text[:-1]},"{EXPERT}.down_proj.weight":{entry}}}'.encode())


FAULT = Fault("container", "model.safetensors", "files", break_)
