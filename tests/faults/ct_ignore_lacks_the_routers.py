"""The ignore list forgets the routers."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(
        directory,
        lambda block: block.update(ignore=[entry for entry in block["ignore"] if not entry.endswith("mlp.gate")]),
    )


FAULT = Fault("declared-storage", "mlp.gate.weight", "configuration", break_, base="ct-w4a4")
