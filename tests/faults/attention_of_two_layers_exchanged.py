"""Two layers have exchanged their attention."""

from pathlib import Path

from _checkpoint_edit import ATTENTION, LAYER, Fault, exchange


def break_(directory: Path) -> None:
    exchange(directory, f"{LAYER}.self_attn.o_proj", f"{ATTENTION}.o_proj")


FAULT = Fault(
    "packed-weights",
    f"{ATTENTION}.o_proj.weight",
    "packing",
    break_,
    base="nvfp4-default",
    given=("source",),
    alone=False,
)
