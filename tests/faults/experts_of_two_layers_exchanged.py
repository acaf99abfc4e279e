"""One expert is exchanged with its namesake in another layer."""

from pathlib import Path

from _checkpoint_edit import EXPERT, Fault, module_tensors, read, write


def break_(directory: Path) -> None:
    other = EXPERT.replace("layers.0", "layers.1")
    names = [name for name in module_tensors(directory, EXPERT) if not name.endswith("input_scale")]
    left, right = ({name: read(directory, f"{expert}.{name}") for name in names} for expert in (EXPERT, other))
    write(directory, {f"{EXPERT}.{n}": v for n, v in right.items()} | {f"{other}.{n}": v for n, v in left.items()})


FAULT = Fault("packed-weights", f"{EXPERT}.", "packing", break_, alone=False)
