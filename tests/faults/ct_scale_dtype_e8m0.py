"""Block scales are declared E8M0, and stored E4M3."""

from pathlib import Path

from _checkpoint_edit import GROUP, Fault, edit_group


def break_(directory: Path) -> None:
    edit_group(directory, lambda group: group["weights"].update(scale_dtype="torch.float8_e8m0fnu"))


FAULT = Fault("declaration", f"{GROUP}.weights.scale_dtype", "configuration", break_, base="ct-w4a4")
