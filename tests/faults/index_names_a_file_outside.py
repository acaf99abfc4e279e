"""The index names a shard in the directory above."""

import shutil
from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def _rename(weight_map: dict[str, str], renamed: dict[str, str]) -> None:
    weight_map.update({name: renamed.get(file, file) for name, file in weight_map.items()})


def break_(directory: Path) -> None:
    shard = directory / "model-00002-of-00004.safetensors"
    shutil.move(shard, directory.with_name(shard.name))
    renamed = {shard.name: f"../{shard.name}"}
    edit_json(directory, "model.safetensors.index.json", lambda index: _rename(index["weight_map"], renamed))


FAULT = Fault("container", "model-00002-of-00004.safetensors", "files", break_, base="sharded")
