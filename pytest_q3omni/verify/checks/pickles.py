"""No pickles beside the weights: unpickling runs whatever code the file holds.

ModelOpt's evaluation export leaves one beside BF16-sized weights, trainers leave `training_args.bin`. safetensors needs
none of them. They are named here by their suffix; nothing is ever opened. Code of the checkpoint's own that config.json
names (`auto_map`) is a warning: loaders run it with `trust_remote_code`, and these models need none.
"""

from __future__ import annotations

from collections.abc import Iterator

from pytest_q3omni.verify.checks._protocol import CONFIG_JSON, Check, Fault
from pytest_q3omni.verify.subject import Subject

_SUFFIXES = (".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth")


def _find(subject: Subject) -> Iterator[Fault]:
    try:
        names = subject.checkpoint.names()
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
    yield from _code(subject)


def _code(subject: Subject) -> Iterator[Fault]:
    named = subject.checkpoint.config.get("auto_map")
    if named and not subject.unknown_model:
        yield Fault(
            f"{CONFIG_JSON}.auto_map",
            f"{named!r:.80}: with trust_remote_code loading runs that code",
            "no code: transformers and engines have these models",
            "take `auto_map` out, and delete the Python files",
            "warning",
        )


CHECK = Check("pickles", "consistent", __doc__, _find)
