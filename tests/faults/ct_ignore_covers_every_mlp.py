"""The ignore list says `re:.*mlp.*`: it meant the routers."""

from pathlib import Path

from _checkpoint_edit import CONFIG, Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(directory, lambda block: block["ignore"].append("re:.*mlp.*"))


FAULT = Fault("ignore-list", f"{CONFIG}.ignore", "configuration", break_, base="ct-w4a4")
