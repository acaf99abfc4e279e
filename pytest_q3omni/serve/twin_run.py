"""One packed checkpoint at one depth, held to its twin and to our own W4A4: what is asked, of whom, and in which order.

One engine is open at a time. Cuts and twins are written when they are asked for; a spoiled one goes away at once.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from pytest_q3omni.engines.serving import Loaded, Prompt, PromptLogprobs, ServingEngine
from pytest_q3omni.engines.vllm_questions import Question
from pytest_q3omni.omni.checkpoint import Checkpoint
from pytest_q3omni.records import Numerics
from pytest_q3omni.serve.agreement import ServingAgreement, compare, placeholder_ids
from pytest_q3omni.serve.apart import as_if_from
from pytest_q3omni.serve.asking import ask_twice, with_replies
from pytest_q3omni.serve.depth import first_packed_layer
from pytest_q3omni.serve.twins import write_cut, write_twin

MOST_LAYERS = 4
"""How deep a comparison goes: the depth that the bound on the mean was measured at. Full size takes 9 GB in BF16."""
INPUT_LAYERS = 1
"""How many packed layers deep two implementations of W4A4 are compared: the fewest. What they have in common of their
rounding shrinks with each layer (`LEAST_IN_COMMON`)."""
LEFT_ALONE = "inputs-left-alone"
"""The control that needs no spoiled file: the engine where it does not round its inputs at all."""
_NOISE_SEED, _DRAWS = 0, 4

_INPUTS_FIX = (
    "calibrate and pack again where input scales are wrong (`q3omni verify` says so); else the engine rounds inputs "
    "otherwise than ModelOpt does"
)


@dataclass(frozen=True)
class _Twin:
    """What the twin said, to everybody's prompts: twice."""

    loaded: Loaded
    prompts: list[Prompt]
    together: list[PromptLogprobs]
    alone: list[PromptLogprobs]


@dataclass(frozen=True)
class _Ours:
    """What our own arithmetic said to the same prompts: W4A4; several times that with noise; weights alone."""

    w4a4: list[PromptLogprobs]
    noisy: list[list[PromptLogprobs]]
    left_alone: list[PromptLogprobs]


@dataclass
class TwinRun:
    """A comparison of `source`, cut to `layers` layers, within the directory `home`.

    input_layers: how many of them W4A4 is compared at. weight_only: the weights are compared without their input
    scales: for devices that would use them. serve: the engine of a directory; told True, with W4A4 numerics where the
    device has no kernels for them. own: our own engine of a directory, in given numerics and with the noise of a seed.
    """

    source: Checkpoint
    home: Path
    layers: int
    input_layers: int
    questions: Sequence[Question]
    weight_only: bool
    serve: Callable[[Path, bool], ServingEngine]
    own: Callable[[Path, Numerics, int | None], ServingEngine]
    _known: dict[tuple[str, str | None], ServingAgreement] = field(default_factory=dict, init=False)

    def begin(self) -> None:
        """Write the twin and ask it: what all comparisons start from.

        Raises:
            as `weights`.
        """
        _ = self._twin

    def weights(self, control: str | None = None) -> ServingAgreement:
        """The packed weights against their BF16 twin in the same engine; `control`: spoiled by one (see `CONTROLS`).

        Raises:
            InvalidRequest, UnknownName, Unreadable, Inconsistent, Unwritable: as `write_cut` and `write_twin`.
            EngineError: an engine fails.
        """
        if ("weights", control) not in self._known:
            twin = self._twin
            found = self._asked_of_cut(control, self.layers, weight_only=self.weight_only, w4a4=False)
            self._known["weights", control] = compare(
                twin.prompts, twin.together, [twin.alone], found, placeholders=self._placeholders
            )
        return self._known["weights", control]

    def inputs(self, control: str | None = None) -> ServingAgreement:
        """What rounding inputs does in the engine against what it does in our own; `control`: one, or `LEFT_ALONE`.

        Raises:
            as `weights`; and InvalidRequest where the files have no input scales.
        """
        if ("inputs", control) not in self._known:
            ours, found = self._ours, self._left_alone
            if control != LEFT_ALONE:
                spoiled = self._asked_of_cut(control, self.input_layers, weight_only=False, w4a4=True)
                found = as_if_from(ours.left_alone, self._left_alone, spoiled)
            self._known["inputs", control] = compare(
                self._twin.prompts, ours.w4a4, ours.noisy, found, base=ours.left_alone,
                placeholders=self._placeholders, fix=_INPUTS_FIX,
            )  # fmt: skip
        return self._known["inputs", control]

    @property
    def loaded(self) -> Loaded:
        """What the engine said of itself when it had loaded the twin."""
        return self._twin.loaded

    @cached_property
    def _placeholders(self) -> frozenset[int]:
        return placeholder_ids(self.source.config)

    @cached_property
    def _twin(self) -> _Twin:
        place = self.home / "twin"
        write_twin(self.source, place, layers=self.layers)
        try:
            with closing(self.serve(place, False)) as engine:
                loaded = engine.load()
                prompts = with_replies(engine, self.questions, self._placeholders)
                return _Twin(loaded, prompts, *ask_twice(engine, prompts))
        finally:
            shutil.rmtree(place)

    @cached_property
    def _ours(self) -> _Ours:
        with self._cut(None, self.input_layers, False) as place:

            def said(numerics: Numerics, noise: int | None = None, times: int = 1) -> list[list[PromptLogprobs]]:
                with closing(self.own(place, numerics, noise)) as engine:
                    engine.load()
                    return [engine.prompt_logprobs(self._twin.prompts) for _ in range(times)]

            (w4a4,), (left_alone,) = said("w4a4"), said("w4a16")
            return _Ours(w4a4, said("w4a4", _NOISE_SEED, _DRAWS), left_alone)

    @cached_property
    def _left_alone(self) -> list[PromptLogprobs]:
        """What the engine says where it does not round its inputs: from there its rounding is counted."""
        return self._asked_of_cut(None, self.input_layers, weight_only=True, w4a4=False)

    def _asked_of_cut(self, control: str | None, layers: int, *, weight_only: bool, w4a4: bool) -> list[PromptLogprobs]:
        prompts = self._twin.prompts
        with self._cut(control, layers, weight_only) as place, closing(self.serve(place, w4a4)) as engine:
            engine.load()
            return engine.prompt_logprobs(prompts)

    @contextmanager
    def _cut(self, control: str | None, layers: int, weight_only: bool) -> Iterator[Path]:
        place = self.home / "cut"
        layer = first_packed_layer(self.source)
        write_cut(self.source, place, layers=layers, control=control, layer=layer, weight_only=weight_only)
        try:
            yield place
        finally:
            shutil.rmtree(place)
