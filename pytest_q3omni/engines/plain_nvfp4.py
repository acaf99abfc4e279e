"""Plain NVFP4: the original with ModelOpt's quantizers on given layers. What a sound checkpoint of them computes.

Nothing of a packed checkpoint goes into it: weights are the original's, rounded anew, and inputs are rounded to the
amax that its own calibration saw.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any

from pytest_q3omni.engines import modelopt
from pytest_q3omni.engines.handle import ModelHandle
from pytest_q3omni.engines.transformers import load_model
from pytest_q3omni.records import Numerics, TensorPlan


class PlainNVFP4(ModelHandle):
    """A lazy model of the original, fake-quantized.

    tensors: what is packed, and what is kept. calibrate: runs the model over the data that set the amax.
    `numerics` may be changed from "w4a4" to "w4a16" and back while it is open.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        tensors: Sequence[TensorPlan],
        calibrate: Callable[[Any], None],
        *,
        device: str | None = None,
    ) -> None:
        super().__init__(path, device=device)
        self._tensors, self._calibrate = tuple(tensors), calibrate
        self._numerics: Numerics = "w4a4"

    @property
    def numerics(self) -> Numerics:
        """In which numbers it runs."""
        return self._numerics

    @numerics.setter
    def numerics(self, asked: Numerics) -> None:
        self._numerics = asked
        if self._model is not None:
            self._round_inputs()

    def _round_inputs(self) -> None:
        modelopt.round_inputs(self._model, self._loaded_tensors(self._speaking), self._numerics == "w4a4")

    def _loaded_tensors(self, speech: bool) -> tuple[TensorPlan, ...]:
        """Those of the model in memory, which without speech is the thinker alone."""
        prefix = "" if speech else "thinker."
        return tuple(tensor for tensor in self._tensors if tensor.module.startswith(prefix))

    def _open(self, speech: bool) -> None:
        super()._open(speech)
        self._round_inputs()

    def _load(self, speech: bool) -> Any:
        model = load_model(self.path, speech=speech, device=self.device)
        return modelopt.fake_quantize(model, self._loaded_tensors(speech), self._calibrate)

    def input_amax(self) -> dict[str, float]:
        """Input site -> largest |input| that calibration saw; opens the model."""
        with self.loaded(speech=self._speaking) as model:
            return modelopt.input_amax(model, self._loaded_tensors(self._speaking))
