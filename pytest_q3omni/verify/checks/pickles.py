"""No pickles beside the weights: unpickling runs whatever code the file holds.

ModelOpt's evaluation export leaves one beside BF16-sized weights, trainers leave `training_args.bin`. safetensors needs
none of them. They are named here by their suffix; nothing is ever opened.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.subject import Subject

_SUFFIXES = (".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth")


def _find(subject: Subject) -> Iterator[Fault]:
    try:
        names = sorted(os.listdir(subject.checkpoint.path))  # noqa: PTH208  # names alone: links are not followed
    except OSError as error:
        yield Fault(
            ".", f"the directory cannot be listed ({error.strerror})", "a readable directory", "check its rights"
        )
        return
    for name in names:
        if name.lower().endswith(_SUFFIXES):
            yield Fault(
                name,
                "a pickle (by its suffix): loading it runs code",
                "weights in *.safetensors only",
                "delete it; convert weights that only it holds on a machine you can lose",
            )


CHECK = Check("pickles", "consistent", __doc__, _find)
