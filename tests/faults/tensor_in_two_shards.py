"""One tensor is stored in two shards; engines take whichever they read last."""

from pathlib import Path

from _checkpoint_edit import Fault, write_file

from pytest_q3omni.omni.checkpoint import scan


def break_(directory: Path) -> None:
    name = "thinker.model.norm.weight"
    checkpoint = scan(directory)
    other = next(file for file in checkpoint.files if file != checkpoint.entries[name].file)
    tensors = {
        entry.info.name: checkpoint.array(entry.info.name)
        for entry in checkpoint.entries.values()
        if entry.file == other
    }
    write_file(other, {**tensors, name: checkpoint.array(name)})


FAULT = Fault("container", "thinker.model.norm.weight", "files", break_, base="sharded")
