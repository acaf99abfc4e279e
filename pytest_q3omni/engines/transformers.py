"""transformers: the original model in memory, and conversations as its inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_q3omni.errors import EngineError, Incomplete, InvalidRequest
from pytest_q3omni.omni.chatml import check_chatml
from pytest_q3omni.omni.conversations import Conversation, decode_audio, decode_image
from pytest_q3omni.omni.extras import missing_extra
from pytest_q3omni.omni.processor import quiet, sampling_rate

if TYPE_CHECKING:
    import torch

Inputs = dict[str, Any]
"""What `thinker.forward` takes: input_ids and attention_mask (1, tokens), and features of pictures and sound."""

Step = Callable[[Any, Inputs], Any]
"""Runs the model once on the inputs of one conversation."""

PROMPT = "the prompt"
"""Where an error is when the question is a prompt, which has no id."""

EXPERTS = "eager"
"""Experts one after another with `F.linear`: the other implementations call no quantizer, and round otherwise."""


def load_model(
    path: Path,
    *,
    speech: bool = False,
    device: str = "cpu",
    tensors: Mapping[str, Any] | None = None,
    attention: str | None = None,
) -> Any:
    """A BF16 `Qwen3OmniMoeForConditionalGeneration` in eval mode; without `speech` its thinker alone.

    The names of modules are the same either way (`thinker.model...`). Only safetensors are read, from the directory.

    tensors: the weights, in place of those in the directory: those of a packed checkpoint, which transformers must not
        see, dequantized. Each value is asked for with `value[...]`.
    attention: "eager" or "sdpa"; without it transformers chooses.

    Raises:
        MissingDependency: torch or transformers is not installed.
        Incomplete: parameters of the model are not among the weights.
        EngineError: transformers cannot load it; its error is the cause.
    """
    try:
        import torch
        from transformers import Qwen3OmniMoeForConditionalGeneration
    except ImportError as error:
        raise missing_extra("torch>=2.11 and transformers>=5.16,<5.20", "running the model", error) from error

    files = {"use_safetensors": True, "local_files_only": True}
    source, options = (path, files) if tensors is None else (None, {"state_dict": tensors})
    with quiet():
        try:
            model, report = Qwen3OmniMoeForConditionalGeneration.from_pretrained(
                source, config=_config(path, speech), dtype=torch.bfloat16, experts_implementation=EXPERTS,
                attn_implementation=attention,
                output_loading_info=True, ignore_mismatched_sizes=True, **options,  # reported below, by name
            )  # fmt: skip
            model = model.eval().to(device)
        except Exception as error:  # whatever a foreign library raises, it becomes the cause of ours
            found = f"transformers cannot load the model ({one_line(error)})"
            raise EngineError(found, where=str(path), fix="q3omni verify names what is wrong with the files") from error
    _refuse_missing(report, path, "download it again" if tensors is None else "pack it again")
    return model


def _config(path: Path, speech: bool) -> Any:
    """The model's config without what packed weights say of themselves: transformers would look for a quantizer."""
    from transformers import Qwen3OmniMoeConfig

    config = Qwen3OmniMoeConfig.from_pretrained(path, local_files_only=True)
    if not speech:
        config.enable_audio_output = False
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    return config


def _refuse_missing(report: Mapping[str, Any], path: Path, fix: str) -> None:
    mismatched = (key if isinstance(key, str) else key[0] for key in report["mismatched_keys"])
    missing = sorted({*report["missing_keys"], *mismatched})
    if missing:
        found = f"{len(missing)} parameters are missing or of another shape, the first: {missing[0]}"
        raise Incomplete(found, where=str(path), expected="all weights of the model", fix=fix)


def render_prompt(processor: Any, conversation: Conversation) -> str:
    """The conversation as ChatML; the assistant's turn is opened where the user has the last word.

    Raises:
        NotChatML: the template wrote no role markers.
        InvalidRequest: the text brings placeholders of pictures or sound of its own.
    """
    prompt = processor.apply_chat_template(
        [dict(message) for message in conversation.messages],
        tokenize=False, add_generation_prompt=not conversation.answered,
    )  # fmt: skip
    if not isinstance(prompt, str):
        raise EngineError(f"the chat template gave a {type(prompt).__name__}", where=conversation.id, expected="a text")
    check_chatml(prompt, where=conversation.id)
    wanted = {modality: sum(part["type"] == modality for part in conversation.parts) for modality in ("image", "audio")}
    _check_placeholders(processor, prompt, wanted, conversation.id)
    return prompt


def _check_placeholders(processor: Any, prompt: str, wanted: Mapping[str, int], where: str) -> None:
    for token, modality in ((processor.image_token, "image"), (processor.audio_token, "audio")):
        if prompt.count(token) != wanted[modality]:
            raise InvalidRequest(
                f"{prompt.count(token)} times {token} in the prompt", where=where,
                expected=f"{wanted[modality]}, one for each {modality}", fix=f"do not write {token} in the text",
            )  # fmt: skip


def prompt_inputs(processor: Any, prompt: str, *, device: str = "cpu") -> Inputs:
    """A prompt as it is, without a template: input_ids and attention_mask (1, tokens), on `device`.

    Raises:
        InvalidRequest: it is empty, or has placeholders of pictures or sound.
        EngineError: the processor cannot take it; its error is the cause.
    """
    if not prompt:
        raise InvalidRequest("an empty prompt", where=PROMPT, expected="some text", fix="write what to answer")
    _check_placeholders(processor, prompt, {"image": 0, "audio": 0}, PROMPT)
    return _features(processor, prompt, {}, PROMPT, device)


def conversation_inputs(processor: Any, conversation: Conversation, *, device: str = "cpu") -> Inputs:
    """Tensors for `thinker_step`, on `device`; a batch of one.

    Raises:
        NotChatML, InvalidRequest: see `render_prompt`; a recording that `decode_audio` refuses.
        Unreadable: a picture or recording cannot be decoded; names its file.
        EngineError: the processor cannot take it; its error is the cause.
    """
    prompt = render_prompt(processor, conversation)
    rate, media = sampling_rate(processor), dict[str, Any]()
    if images := conversation.sources("image"):
        media["images"] = [decode_image(image, where=_place(image, conversation)) for image in images]
    if recordings := conversation.sources("audio"):
        media["audio"] = [decode_audio(sound, rate, where=_place(sound, conversation)) for sound in recordings]
        media["sampling_rate"] = rate
    return _features(processor, prompt, media, conversation.id, device)


def _features(processor: Any, prompt: str, media: Mapping[str, Any], where: str, device: str) -> Inputs:
    try:
        with quiet():  # it warns of long texts and tiny pictures
            features = processor(text=prompt, return_tensors="pt", **media)
    except Exception as error:  # whatever a foreign library raises, it becomes the cause of ours
        raise EngineError(f"the processor fails ({one_line(error)})", where=where) from error
    return {name: value.to(device) for name, value in features.items()}


def _place(source: object, conversation: Conversation) -> str:
    return f"{conversation.id} (data URI)" if isinstance(source, bytes) else f"{conversation.id} ({source})"


def thinker_step(model: Any, inputs: Mapping[str, torch.Tensor]) -> Any:
    """Run the thinker once. The whole model has no `forward`: `model(**inputs)` ends in `_forward_unimplemented`."""
    return model.thinker(**inputs, use_cache=False)


def one_line(error: BaseException) -> str:
    """An error as one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())
