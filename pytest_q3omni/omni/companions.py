"""What belongs to a checkpoint beside its weights and configs: tokenizer, processor, chat template, licence."""

from __future__ import annotations

from pathlib import Path

from pytest_q3omni.omni.checkpoint import CONFIG, INDEX
from pytest_q3omni.omni.untrusted_files import check_inside

QUANT_CONFIG = "hf_quant_config.json"
"""ModelOpt's second declaration, beside `quantization_config`."""

_SUFFIXES = {".json", ".jinja", ".txt", ".model", ".tiktoken"}
_ABOUT_WEIGHTS = {CONFIG, INDEX, QUANT_CONFIG}


def companion_files(directory: Path) -> list[Path]:
    """The files to take along, sorted; each lies in the checkpoint, and none says anything of how it is packed.

    Raises:
        Inconsistent: a link that leaves the checkpoint.
    """
    chosen = []
    for file in sorted(directory.iterdir()):
        wanted = file.suffix in _SUFFIXES or file.name.upper().startswith(("LICENSE", "NOTICE"))
        if file.is_file() and wanted and file.name not in _ABOUT_WEIGHTS and not file.name.startswith("."):
            check_inside(file)
            chosen.append(file)
    return chosen
